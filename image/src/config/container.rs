//! `[container.NAME]`: what the file says about a container, before its image is looked at.

use std::collections::BTreeMap;

use berth_containers::spec::{Health, Log, Restart};

use super::mistakes::Place;
use super::mounts::{self, MountConfig, target_path};
use super::order::{Known, after, circle};
use super::table::{Located, Table, expected, positive, string};
use super::units::size_bytes;
use super::{health, life};
use crate::capabilities;

/// How many containers one machine may have: each gets its own range of 65,536 user ids.
const MAX_CONTAINERS: usize = 256;

/// One container as the file says it.
#[derive(Clone, Debug)]
pub struct ContainerConfig {
    /// Its name.
    pub name: String,
    /// Where `[container.NAME]` stands.
    pub place: Place,
    /// The image reference.
    pub image: Located<String>,
    /// Replaces the image's entry point, and drops its command.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub command: Option<Vec<String>>,
    /// Set or replaced environment variables.
    pub environment: BTreeMap<String, String>,
    /// Replaces the image's user.
    pub user: Option<Located<String>>,
    /// Replaces the image's working directory.
    pub working_dir: Option<String>,
    /// Host name inside; the container's name when absent.
    pub hostname: Option<String>,
    /// Which network it sees.
    pub network: NetworkMode,
    /// TCP ports it listens on; the image's when absent.
    pub expose: Option<Vec<u16>>,
    /// Mounts in order.
    pub mounts: Vec<MountConfig>,
    /// Capabilities it gets, as `CAP_NAME`, sorted.
    pub cap_add: Vec<String>,
    /// Device nodes it may use.
    pub devices: Vec<String>,
    /// Limit of CPU time, thousandths of one CPU.
    pub cpu_millis: Option<u64>,
    /// Limit of memory, bytes.
    pub memory_bytes: Option<u64>,
    /// Limit of processes and threads.
    pub pids: u64,
    /// Whether its root file system cannot be written.
    pub read_only: bool,
    /// Whether it has a user namespace of its own.
    pub user_namespace: bool,
    /// Whether nothing of the above confines it.
    pub privileged: bool,
    /// Names of containers that must have started before.
    pub after: Vec<String>,
    /// Names of containers that must have been healthy before.
    pub after_healthy: Vec<String>,
    /// Whether the machine must have an address before it starts.
    pub after_network: bool,
    /// How it is found out whether it does its work.
    pub health: Option<Located<Health>>,
    /// What happens when it ends.
    pub restart: Restart,
    /// Replaces the image's stop signal.
    pub stop_signal: Option<i32>,
    /// How long it has to stop, milliseconds.
    pub stop_timeout_ms: u64,
    /// How much of its output is kept.
    pub log: Log,
}

/// Which network a container sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkMode {
    /// Its own, with nothing but a loopback interface.
    #[default]
    None,
    /// The machine's.
    Host,
}

impl NetworkMode {
    /// Its name in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Host => "host",
        }
    }
}

/// Processes and threads of a container that sets no limit (as podman's default).
const DEFAULT_PIDS: u64 = 2048;

pub(super) fn read(top: &mut Table<'_>) -> Vec<ContainerConfig> {
    let tables = top.named("container").unwrap_or_default();
    if tables.len() > MAX_CONTAINERS {
        top.wrong_here(format!(
            "{} containers; a machine has at most {MAX_CONTAINERS}",
            tables.len()
        ));
        return Vec::new();
    }
    let names: Vec<Known> = tables
        .iter()
        .map(|(name, table)| Known {
            name: name.value.clone(),
            has_check: table.key_span("health").is_some(),
        })
        .collect();
    let mut afters = Vec::new();
    let mut containers = Vec::new();
    for (name, table) in tables {
        let after = table.key_span("after");
        let container = container(name, table, &names);
        afters.push(after.unwrap_or_default());
        containers.push(container);
    }
    for index in circle(&containers) {
        let name = &containers[index].name;
        top.wrong(
            &afters[index],
            format!("after: container {name:?} waits, through others, for itself"),
        );
    }
    containers
}

fn container(name: Located<String>, mut table: Table<'_>, names: &[Known]) -> ContainerConfig {
    check_name(&name, &table);
    let image = read_image(&mut table);
    let command_example = "a list of strings, like [\"nginx\", \"-g\", \"daemon off;\"]";
    let entrypoint = table.strings("entrypoint", command_example);
    let command = table.strings("command", command_example);
    let environment = environment(&mut table);
    let user = table.parse("user", check_user);
    let working_dir = table.parse("working_dir", |text| match text {
        "/" => Ok("/".to_owned()),
        other => target_path(other),
    });
    let hostname = table.parse("hostname", check_inner_hostname);
    let network = network(&mut table);
    let expose = expose(&mut table);
    let mounts = mounts::read(&mut table);
    let cap_add = cap_add(&mut table);
    let devices = mounts::devices(&mut table);
    let limits = limits(&mut table);
    let read_only = table.boolean("read_only");
    let user_namespace = table.boolean("user_namespace");
    let privileged = table.boolean("privileged").unwrap_or(false);
    let after = after(&mut table, &name.value, names);
    let health = health::read(&mut table);
    let restart = life::restart(&mut table);
    let (stop_signal, stop_timeout_ms) = life::stop(&mut table);
    let log = life::log(&mut table);
    table.not_yet(&["ports", "secrets", "when", "essential"]);
    if privileged {
        for (key, clashes) in [
            ("cap_add", !cap_add.is_empty()),
            ("user_namespace", user_namespace == Some(true)),
        ] {
            let at = table.key_span(key).unwrap_or_default();
            if clashes {
                table.wrong(
                    &at,
                    format!("{key}: privileged = true already gives everything; use one of them"),
                );
            }
        }
    }
    table.finish();
    ContainerConfig {
        place: name.place,
        name: name.value,
        image,
        entrypoint,
        command,
        environment,
        user,
        working_dir: working_dir.map(|dir| dir.value),
        hostname: hostname.map(|hostname| hostname.value),
        network,
        expose,
        mounts,
        cap_add,
        devices,
        cpu_millis: limits.cpu_millis,
        memory_bytes: limits.memory_bytes,
        pids: limits.pids,
        read_only: read_only.unwrap_or(true),
        user_namespace: user_namespace.unwrap_or(!privileged),
        privileged,
        after: after.started,
        after_healthy: after.healthy,
        after_network: after.network,
        health,
        restart,
        stop_signal,
        stop_timeout_ms,
        log,
    }
}

fn check_name(name: &Located<String>, table: &Table<'_>) {
    let text = &name.value;
    let fits = (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if !fits {
        table.wrong_here(format!(
            "a container's name has at most 63 of a-z, 0-9 and '-' and does not start with '-': \
             {text:?} is none"
        ));
    }
}

fn read_image(table: &mut Table<'_>) -> Located<String> {
    let image = table.parse("image", |text| {
        let fits = !text.is_empty() && !text.contains(char::is_whitespace);
        fits.then(|| text.to_owned()).ok_or_else(|| {
            format!(
                "expected an image, like \"docker.io/library/nginx:1.27\", \"oci:DIRECTORY\", \
                 \"oci-archive:FILE\" or \"docker-archive:FILE\", found {text:?}"
            )
        })
    });
    if image.is_none() && table.key_span("image").is_none() {
        table.wrong_here(format!("{} needs image = IMAGE", table.name()));
    }
    table.parse("source", |text| match text {
        "baked" => Ok(()),
        "cached" | "pull" => Err(format!("{text:?} is not supported yet; use \"baked\"")),
        _ => Err(format!("expected \"baked\", found {text:?}")),
    });
    image.unwrap_or_else(|| Located {
        value: String::new(),
        place: table.place(),
    })
}

fn environment(table: &mut Table<'_>) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    let Some(entries) = table.table("environment") else {
        return environment;
    };
    for (key, value) in entries.free_entries() {
        let name = key.value;
        if name.is_empty() || name.contains(['=', '\0']) {
            table.wrong(
                &value.span(),
                format!("environment: {name:?} cannot be a variable's name"),
            );
            continue;
        }
        match string(value.get_ref()) {
            Ok(text) if !text.contains('\0') => {
                environment.insert(name, text);
            }
            Ok(_) => table.wrong(&value.span(), format!("{name}: a value cannot hold NUL")),
            Err(text) => table.wrong(&value.span(), format!("{name}: {text}; quote it")),
        }
    }
    environment
}

fn check_user(text: &str) -> Result<String, String> {
    let fits = |part: &str| {
        !part.is_empty()
            && part.len() <= 64
            && !part.contains([':', '/', '\0'])
            && !part.contains(char::is_whitespace)
    };
    let (user, group) = text
        .split_once(':')
        .map_or((text, None), |(user, group)| (user, Some(group)));
    (fits(user) && group.is_none_or(fits))
        .then(|| text.to_owned())
        .ok_or_else(|| format!("expected a user like \"101:101\" or \"www-data\", found {text:?}"))
}

fn check_inner_hostname(text: &str) -> Result<String, String> {
    let fits = (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
    fits.then(|| text.to_owned()).ok_or_else(|| {
        format!("expected a host name of letters, digits, '-' and '.', found {text:?}")
    })
}

fn network(table: &mut Table<'_>) -> NetworkMode {
    let mode = table.parse("network", |text| match text {
        "none" => Ok(NetworkMode::None),
        "host" => Ok(NetworkMode::Host),
        _ if text == "bridge" || text.starts_with("container:") => Err(format!(
            "{text:?} is not supported yet; use \"none\" or \"host\""
        )),
        _ => Err(format!("expected \"none\" or \"host\", found {text:?}")),
    });
    mode.map(|mode| mode.value).unwrap_or_default()
}

fn expose(table: &mut Table<'_>) -> Option<Vec<u16>> {
    let ports = table.list(
        "expose",
        "a list of ports, like [\"8080\"] or [\"8080/tcp\"]",
        |value| {
            let text = string(value)?;
            let number = text.strip_suffix("/tcp").unwrap_or(&text);
            number
                .parse::<u16>()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| format!("expected a TCP port like \"8080\", found {text:?}"))
        },
    )?;
    let mut ports: Vec<u16> = ports.into_iter().map(|port| port.value).collect();
    ports.sort_unstable();
    ports.dedup();
    Some(ports)
}

fn cap_add(table: &mut Table<'_>) -> Vec<String> {
    let list = table.list(
        "cap_add",
        "a list of capabilities, like [\"NET_BIND_SERVICE\"]",
        |value| capabilities::full_name(&string(value)?),
    );
    let mut names: Vec<String> = list
        .unwrap_or_default()
        .into_iter()
        .map(|name| name.value)
        .collect();
    names.sort_by_key(|name| capabilities::number(name));
    names.dedup();
    names
}

struct Limits {
    cpu_millis: Option<u64>,
    memory_bytes: Option<u64>,
    pids: u64,
}

fn limits(table: &mut Table<'_>) -> Limits {
    use toml::de::DeValue;

    let mut limits = Limits {
        cpu_millis: None,
        memory_bytes: None,
        pids: DEFAULT_PIDS,
    };
    let Some(mut resources) = table.table("resources") else {
        return limits;
    };
    let cpus = resources.read("cpus", |value| {
        let wrong = || expected("a number of CPUs from 0.01 to 1024, like 1.5", value);
        let text = match value {
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
            DeValue::Float(float) => float.as_str(),
            _ => return Err(wrong()),
        };
        let cpus: f64 = text.parse().map_err(|_| wrong())?;
        if (0.01..=1024.0).contains(&cpus) {
            // In range, so the rounded value fits and is positive.
            Ok((cpus * 1000.0).round() as u64)
        } else {
            Err(wrong())
        }
    });
    let memory = resources.parse("memory", |text| {
        let bytes = size_bytes(text)?;
        if bytes < 1 << 20 {
            return Err(format!(
                "{text:?} is less than 1M, in which no program starts"
            ));
        }
        Ok(bytes)
    });
    let pids = resources.read("pids", |value| positive(value, 4_194_304));
    resources.finish();
    limits.cpu_millis = cpus.map(|cpus| cpus.value);
    limits.memory_bytes = memory.map(|memory| memory.value);
    limits.pids = pids.map_or(DEFAULT_PIDS, |pids| pids.value);
    limits
}
