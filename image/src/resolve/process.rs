//! The first process: command, environment, user, working directory.

use std::collections::BTreeMap;

use berth_containers::spec::{Probe, Process, User};
use berth_tree::Kind;

use super::{Image, Wrong, confinement};
use crate::config::ContainerConfig;

/// Where programs are looked for when the image does not say (as Docker's).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) fn of(config: &ContainerConfig, image: &Image<'_>) -> Result<Process, Wrong> {
    let user = user(config, image)?;
    let env = environment(config, image, &user);
    let cwd = config
        .working_dir
        .clone()
        .or_else(|| Some(image.execution.working_dir.clone()).filter(|dir| dir.starts_with('/')))
        .unwrap_or_else(|| "/".to_owned());
    let args = arguments(config, image)?;
    let started_in = StartedIn {
        env: &env,
        cwd: &cwd,
    };
    check_program(config, image, &args, &started_in).map_err(|why| (config.place, why))?;
    if let Some(health) = &config.health
        && let Probe::Exec(command) = &health.value.probe
    {
        check_program(config, image, command, &started_in)
            .map_err(|why| (health.place, format!("health: {why}")))?;
    }
    Ok(Process {
        terminal: false,
        capabilities: confinement::capability_sets(config, user.uid),
        user: User {
            uid: user.uid,
            gid: user.gid,
            additional_gids: user.additional_gids,
            umask: None,
        },
        args,
        env: env
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect(),
        cwd,
        rlimits: confinement::rlimits(),
        no_new_privileges: !config.privileged,
        oom_score_adj: None,
    })
}

/// Entry point and command. As in Compose, a replaced entry point drops the image's command,
/// which was meant for the other one.
fn arguments(config: &ContainerConfig, image: &Image<'_>) -> Result<Vec<String>, Wrong> {
    let defaults = image.execution;
    let (entrypoint, inherited) = match &config.entrypoint {
        Some(entrypoint) => (entrypoint, &[][..]),
        None => (&defaults.entrypoint, &defaults.cmd[..]),
    };
    let command = config.command.as_deref().unwrap_or(inherited);
    let args: Vec<String> = entrypoint.iter().chain(command).cloned().collect();
    if args.first().is_none_or(String::is_empty) {
        return Err((
            config.place,
            "the image has neither entry point nor command; say command = [\"PROGRAM\", …]"
                .to_owned(),
        ));
    }
    if args.iter().any(|arg| arg.contains('\0')) {
        return Err((config.place, "an argument holds a NUL byte".to_owned()));
    }
    Ok(args)
}

fn user(config: &ContainerConfig, image: &Image<'_>) -> Result<berth_oci::User, Wrong> {
    let (text, place) = match &config.user {
        Some(user) => (user.value.as_str(), user.place),
        None => (image.execution.user.as_str(), config.image.place),
    };
    let user = berth_oci::resolve_user(image.tree, image.spool, text)
        .map_err(|error| (place, error.to_string()))?;
    check_ids(config, text, &user).map_err(|why| (place, why))?;
    Ok(user)
}

/// The machine refuses ids without a mapping, at every start.
fn check_ids(config: &ContainerConfig, text: &str, user: &berth_oci::User) -> Result<(), String> {
    let groups = user.additional_gids.iter();
    let ids = [("user", user.uid), ("group", user.gid)]
        .into_iter()
        .chain(groups.map(|gid| ("additional group", *gid)));
    let beyond = |(_, id): &(&str, u32)| *id >= confinement::IDS_PER_CONTAINER;
    match ids.filter(|_| config.user_namespace).find(beyond) {
        None => Ok(()),
        Some((what, id)) => {
            let origin = match config.user {
                Some(_) => "",
                None => "the image's ",
            };
            let last = confinement::IDS_PER_CONTAINER - 1;
            Err(format!(
                "{origin}user {text:?}: {what} {id} is beyond the user namespace, which has 0 to \
                 {last}; choose another with user = \"UID:GID\", or say user_namespace = false"
            ))
        }
    }
}

/// The image's variables, then what a program expects to be there, then the file's.
fn environment(
    config: &ContainerConfig,
    image: &Image<'_>,
    user: &berth_oci::User,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([
        (
            "HOME".to_owned(),
            user.home.clone().unwrap_or_else(|| "/".to_owned()),
        ),
        ("HOSTNAME".to_owned(), super::hostname(config)),
        ("PATH".to_owned(), DEFAULT_PATH.to_owned()),
    ]);
    let of_image = image
        .execution
        .env
        .iter()
        .filter_map(|variable| variable.split_once('='))
        .filter(|(name, value)| !name.is_empty() && !value.contains('\0'));
    env.extend(of_image.map(|(name, value)| (name.to_owned(), value.to_owned())));
    env.extend(config.environment.clone());
    env
}

/// What decides where a program is looked for.
struct StartedIn<'a> {
    env: &'a BTreeMap<String, String>,
    cwd: &'a str,
}

/// A program that is not there is found now and not at every start of the machine. What a mount
/// brings cannot be known here.
fn check_program(
    config: &ContainerConfig,
    image: &Image<'_>,
    args: &[String],
    started_in: &StartedIn<'_>,
) -> Result<(), String> {
    let StartedIn { env, cwd } = started_in;
    let program = args.first().map(String::as_str).unwrap_or_default();
    let search = env.get("PATH").map(String::as_str).unwrap_or_default();
    let candidates: Vec<String> = if program.starts_with('/') {
        vec![program.to_owned()]
    } else if program.contains('/') {
        vec![format!("{cwd}/{program}")]
    } else {
        search
            .split(':')
            .filter(|dir| dir.starts_with('/'))
            .map(|dir| format!("{dir}/{program}"))
            .collect()
    };
    let mounted = candidates.iter().any(|candidate| {
        config
            .mounts
            .iter()
            .any(|mount| candidate.starts_with(&format!("{}/", mount.target)))
    });
    let mut unusable = None;
    for candidate in &candidates {
        let Ok(Some(id)) = image.tree.resolve(candidate.as_bytes()) else {
            continue;
        };
        let node = image.tree.node(id);
        match node.kind {
            Kind::File(_) if node.metadata.mode & 0o111 != 0 => return Ok(()),
            _ => unusable = Some(candidate),
        }
    }
    if mounted {
        return Ok(());
    }
    Err(match unusable {
        Some(path) => format!("{path} in the image is not a program"),
        None if program.contains('/') => format!("the image has no {program}"),
        None => format!("the image has no program {program:?} in {search}"),
    })
}
