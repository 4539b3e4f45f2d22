//! One function for each command: from its arguments to the library, from its results to the
//! user. What a program may read goes to standard output, what is for people to standard error.

pub(crate) mod keys;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use berth::build::{self, Sources};
use berth::config::{self, Config};
use berth::diff::{self, Side};
use berth::manifest::{FILE_NAME, Manifest};
use berth::run::{Boot, Options};
use berth::{delta, faults, inspect, publish, say, treemap};
use berth_delta::Limits;
use berth_disk::pending;
use berth_kernel_config as kernel_config;

use crate::cli;
use crate::exit::{Failure, Kind};

/// The configuration's name in its directory.
const CONFIG_NAME: &str = "berth.toml";

/// `berth check`.
pub(crate) fn check(arguments: &cli::Check) -> Result<(), Failure> {
    let path = config_in(&arguments.config);
    let mistakes = match config::load(&path) {
        Ok(config) => {
            let count = config.containers.len();
            if arguments.json {
                print("{\"mistakes\":[]}\n")?;
            } else {
                say(format_args!(
                    "{}: correct; {count} container{}",
                    path.display(),
                    if count == 1 { "" } else { "s" }
                ));
            }
            return Ok(());
        }
        Err(config::ConfigError::Mistakes(mistakes)) if arguments.json => mistakes,
        Err(error) => return Err(error.into()),
    };
    let list: Vec<_> = mistakes
        .list
        .iter()
        .map(|mistake| {
            serde_json::json!({
                "file": mistakes.file,
                "line": mistake.place.line,
                "column": mistake.place.column,
                "message": mistake.message,
            })
        })
        .collect();
    print(&format!("{}\n", serde_json::json!({ "mistakes": list })))?;
    Err(Failure::new(
        Kind::Config,
        format!("{}: {} mistakes", mistakes.file, mistakes.list.len()),
    ))
}

/// `berth build`.
pub(crate) fn build(arguments: &cli::Build) -> Result<(), Failure> {
    let sources = sources(arguments.config.as_deref(), &arguments.inputs)?;
    let manifest = build_into(sources, &arguments.out)?;
    if arguments.json {
        print(&build::manifest_text(&manifest))?;
    }
    Ok(())
}

/// `berth run`.
pub(crate) fn run(arguments: &cli::Run) -> Result<(), Failure> {
    let (disk, manifest) = runnable(arguments)?;
    let boot = if arguments.direct {
        let manifest = manifest.as_ref().ok_or_else(|| {
            Failure::new(
                Kind::Input,
                "--direct needs the results of a build: the kernel and manifest.json beside the \
                 disk image",
            )
        })?;
        Boot::Direct {
            kernel: disk.with_file_name(build::KERNEL_NAME),
            command_line: manifest.command_line.clone(),
        }
    } else {
        Boot::Firmware
    };
    let mut ports = arguments.ports.clone();
    let title = match &manifest {
        Some(manifest) => {
            let reachable = manifest
                .containers
                .iter()
                .filter(|container| container.network == "host");
            ports.extend(reachable.flat_map(|container| container.ports.iter().copied()));
            format!("{} {}", manifest.name, manifest.version)
        }
        None => disk.display().to_string(),
    };
    ports.sort_unstable();
    ports.dedup();
    if arguments.check && ports.is_empty() {
        return Err(Failure::new(
            Kind::Check,
            "--check has nothing to wait for: no container on the machine's network says which \
             port it listens on (expose = [\"PORT\"]); --port PORT names one",
        ));
    }
    let options = Options {
        disk,
        boot,
        memory_mib: arguments.memory,
        disk_bytes: arguments.disk << 30,
        keep: arguments.keep.clone(),
        ports,
        headless: arguments.headless,
        log: arguments.log.clone(),
        boot_report: arguments.boot_report.clone(),
        check: arguments
            .check
            .then(|| Duration::from_secs(arguments.timeout)),
        title,
    };
    berth::run::run(&options)?;
    Ok(())
}

/// `berth test`.
pub(crate) fn test(arguments: &cli::Test) -> Result<(), Failure> {
    let sources = sources(arguments.config.as_deref(), &arguments.inputs)?;
    let outcome = faults::test(
        &sources,
        &faults::Options {
            power_cuts: arguments.power_cut,
            bad_updates: arguments.bad_update,
            memory_mib: arguments.memory,
            disk_bytes: arguments.disk << 30,
            seed: arguments.seed,
            log: arguments.log.clone(),
        },
    )?;
    if arguments.json {
        print(&format!("{}\n", outcome.json()))?;
    } else {
        print(&outcome.to_string())?;
    }
    match outcome.is_good() {
        true => Ok(()),
        false => Err(Failure::new(
            Kind::Check,
            "the machine did not do what is promised: see above; --log FILE keeps what its \
             console says",
        )),
    }
}

/// `berth inspect`.
pub(crate) fn inspect(arguments: &cli::Inspect) -> Result<(), Failure> {
    let manifest = inspect::load(&arguments.what)?;
    if let Some(path) = &arguments.svg {
        pending::write_file(path, treemap::draw(&manifest).as_bytes())
            .map_err(|error| cannot_write(path, &error))?;
    }
    if arguments.json {
        print(&build::manifest_text(&manifest))
    } else {
        print(&inspect::table(&manifest))
    }
}

/// `berth diff`.
pub(crate) fn diff(arguments: &cli::Diff) -> Result<(), Failure> {
    let [old, new] = Side::load_both(&arguments.old, &arguments.new)?;
    let progress = build::Progress::default();
    let costs = (!arguments.no_cost).then(Limits::default);
    let difference = diff::compare(&old, &new, costs.as_ref(), &progress);
    progress.end();
    let difference = difference?;
    let shown = match arguments.all {
        true => diff::Shown::All,
        false => diff::Shown::Short,
    };
    match arguments.json {
        true => print(&format!("{}\n", serde_json::json!(difference)))?,
        false => print(&diff::text(&difference, shown))?,
    }
    match arguments.exit_code && !difference.same {
        true => Err(Failure::new(Kind::Different, "the two versions differ")),
        false => Ok(()),
    }
}

/// `berth bundle`.
pub(crate) fn bundle(arguments: &cli::Bundle) -> Result<(), Failure> {
    let bundled = publish::bundle(&publish::BundleRequest {
        directory: arguments.directory.clone(),
        out: arguments.out.clone(),
        product: arguments.product.clone(),
        profile: arguments.profile.clone(),
        from: arguments.from.clone(),
    })?;
    let release = &bundled.release;
    if arguments.json {
        let answer = serde_json::json!({
            "product": release.product,
            "profile": release.profile,
            "architecture": release.architecture,
            "version": release.version,
            "from": arguments.from,
            "bytes": bundled.bytes,
            "good_until": bundled.good_until,
        });
        return print(&format!("{answer}\n"));
    }
    let from = match arguments.from.as_slice() {
        [] => "any version".to_owned(),
        versions => versions.join(", "),
    };
    let out = arguments.out.display();
    say(format_args!(
        "{out}: {} {} for {} on {}, from {from}: {} bytes, good until {}",
        release.product,
        release.version,
        release.profile,
        release.architecture,
        bundled.bytes,
        bundled.good_until
    ));
    say(format_args!(
        "write it onto a whole disk: dd if={out} of=/dev/DISK bs=1M conv=fsync"
    ));
    Ok(())
}

/// `berth verify`.
pub(crate) fn verify(arguments: &cli::Verify) -> Result<(), Failure> {
    let verified = publish::verify(&arguments.directory, &arguments.trust)?;
    if arguments.json {
        let answer = serde_json::json!({
            "releases": verified.releases,
            "good_until": verified.good_until,
        });
        return print(&format!("{answer}\n"));
    }
    for release in &verified.releases {
        say(format_args!(
            "{} {} for {} on {}: genuine and whole",
            release.product, release.version, release.profile, release.architecture
        ));
        for line in publish::costs(release) {
            say(format_args!("  {line}"));
        }
    }
    say(format_args!(
        "machines believe it until {}",
        verified.good_until
    ));
    Ok(())
}

/// `berth publish`.
pub(crate) fn publish(arguments: &cli::Publish) -> Result<(), Failure> {
    const DAY: u64 = 24 * 3600;
    let good_for = u64::from(arguments.good_for) * DAY;
    let request = publish::Request {
        build: arguments.build.clone(),
        directory: arguments.directory.clone(),
        keys: arguments.keys.clone(),
        deltas: usize::from(arguments.deltas),
        rollout: arguments
            .waves
            .as_ref()
            .map(|waves| waves.starting(publish::now())),
        again: arguments.again,
        trust_old_keys: arguments.trust_old_keys,
        limits: Limits::default(),
        // What names the files must outlive what is signed again more often.
        good_for_s: [good_for.max(365 * DAY), good_for, good_for],
    };
    let progress = build::Progress::default();
    let published = publish::publish(&request, &progress);
    progress.end();
    let published = published?;
    let release = &published.release;
    for note in &published.notes {
        say(format_args!("note: {note}"));
    }
    if arguments.json {
        let text = release.text().map_err(publish::PublishError::from)?;
        return print(&String::from_utf8_lossy(&text));
    }
    say(format_args!(
        "{} {} is published in {} (metadata version {})",
        release.product,
        release.version,
        arguments.directory.display(),
        published.metadata_version
    ));
    for line in publish::costs(release) {
        say(format_args!("  {line}"));
    }
    say(format_args!(
        "  machines believe it until {}; publish again before, the same build is fine",
        published.good_until
    ));
    Ok(())
}

/// `berth kernel`.
pub(crate) fn kernel(arguments: &cli::Kernel) -> Result<(), Failure> {
    if arguments.list {
        let versions: Vec<&str> = kernel_config::versions()
            .iter()
            .map(|source| source.version.as_str())
            .collect();
        return if arguments.json {
            print(&format!(
                "{}\n",
                serde_json::json!({ "versions": versions })
            ))
        } else {
            print(&format!("{}\n", versions.join("\n")))
        };
    }
    let profile = match arguments.profile {
        cli::Profile::Micro => config::Profile::Micro,
        cli::Profile::Cloud => config::Profile::Cloud,
        cli::Profile::Metal => config::Profile::Metal,
    };
    let kernel = build::find_kernel(
        profile,
        arguments.version.as_deref(),
        arguments.source.as_deref(),
    )?;
    if let Some(path) = &arguments.out {
        let bytes = std::fs::read(&kernel.bzimage).map_err(|error| {
            Failure::new(Kind::Input, format!("cannot read the kernel: {error}"))
        })?;
        pending::write_file(path, &bytes).map_err(|error| cannot_write(path, &error))?;
    }
    if arguments.json {
        let answer = serde_json::json!({
            "version": kernel.version,
            "profile": profile.name(),
            "file": kernel.bzimage,
            "sha256": kernel.sha256,
        });
        return print(&format!("{answer}\n"));
    }
    print(&format!("{}\n", kernel.bzimage.display()))
}

/// `berth delta create`.
pub(crate) fn delta_create(arguments: &cli::DeltaCreate) -> Result<(), Failure> {
    let made = delta::create(&arguments.old, &arguments.new, &arguments.out)?;
    if arguments.json {
        let answer = serde_json::json!({
            "patch_bytes": made.patch_bytes,
            "new_bytes": made.new_bytes,
        });
        return print(&format!("{answer}\n"));
    }
    say(format_args!(
        "{} ({} bytes, for {} of the new version)",
        arguments.out.display(),
        made.patch_bytes,
        made.new_bytes
    ));
    Ok(())
}

/// `berth delta apply`.
pub(crate) fn delta_apply(arguments: &cli::DeltaApply) -> Result<(), Failure> {
    let made = delta::apply(&arguments.old, &arguments.patch, &arguments.out)?;
    if arguments.json {
        let answer = serde_json::json!({
            "new_bytes": made.bytes,
            "sha256": made.hash.to_string(),
        });
        return print(&format!("{answer}\n"));
    }
    say(format_args!(
        "{} ({} bytes)",
        arguments.out.display(),
        made.bytes
    ));
    Ok(())
}

/// Builds and tells the user what came out.
fn build_into(sources: Sources, out: &Path) -> Result<Manifest, Failure> {
    let built = build::build(sources, out)?;
    for note in &built.notes {
        say(format_args!("note: {note}"));
    }
    for (name, file) in &built.manifest.files {
        let name = out.join(name);
        say(format_args!("{} ({} bytes)", name.display(), file.bytes));
    }
    Ok(built.manifest)
}

/// The disk to run, built first if need be, and its manifest if it has one.
fn runnable(arguments: &cli::Run) -> Result<(PathBuf, Option<Manifest>), Failure> {
    let Some(what) = &arguments.what else {
        return build_and_find(None, arguments);
    };
    let is_config = what
        .extension()
        .is_some_and(|extension| extension == "toml");
    if is_config || what.join(CONFIG_NAME).is_file() {
        return build_and_find(Some(what), arguments);
    }
    if what.is_dir() {
        let manifest = inspect::load(what)?;
        return Ok((disk_of(what, &manifest)?, Some(manifest)));
    }
    // A disk image alone can be run too; what is known about it stands beside it.
    let manifest = inspect::manifest_path(what)
        .is_file()
        .then(|| inspect::load(what))
        .transpose()?;
    Ok((what.clone(), manifest))
}

fn build_and_find(
    config: Option<&Path>,
    arguments: &cli::Run,
) -> Result<(PathBuf, Option<Manifest>), Failure> {
    let sources = sources(config, &arguments.inputs)?;
    let manifest = build_into(sources, &arguments.out)?;
    Ok((disk_of(&arguments.out, &manifest)?, Some(manifest)))
}

fn disk_of(directory: &Path, manifest: &Manifest) -> Result<PathBuf, Failure> {
    [build::RAW_NAME, build::QCOW2_NAME]
        .into_iter()
        .find(|name| manifest.files.contains_key(*name))
        .map(|name| directory.join(name))
        .ok_or_else(|| {
            Failure::new(
                Kind::Input,
                format!(
                    "{}: lists no disk image that can be run",
                    directory.join(FILE_NAME).display()
                ),
            )
        })
}

/// The configuration that was named, the one that is here, or the demo.
fn sources(config: Option<&Path>, inputs: &cli::Inputs) -> Result<Sources, Failure> {
    let path = match config {
        Some(path) => Some(config_in(path)),
        None => Some(PathBuf::from(CONFIG_NAME)).filter(|path| path.is_file()),
    };
    let config: Config = match &path {
        Some(path) => config::load(path)?,
        None => {
            say(format_args!("no {CONFIG_NAME} here: this is the demo"));
            build::demo()?
        }
    };
    Ok(Sources {
        config,
        path,
        update_lock: inputs.update_lock,
        kernel: inputs.kernel.clone(),
        kernel_source: inputs.kernel_source.clone(),
        stub: inputs.stub.clone(),
        init: None,
    })
}

fn config_in(path: &Path) -> PathBuf {
    if path.is_dir() {
        path.join(CONFIG_NAME)
    } else {
        path.to_owned()
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(
        Kind::Output,
        format!("cannot write {}: {error}", path.display()),
    )
}

/// Writes to standard output; a reader that has seen enough is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::new(
            Kind::Output,
            format!("cannot write to standard output: {error}"),
        )),
        _ => Ok(()),
    }
}
