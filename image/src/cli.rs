//! The command line: what may be said, and what the exit codes mean.

use std::path::PathBuf;

use berth_trust::write::Role;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// The end of `berth --help`.
const EXIT_CODES: &str = "Exit codes:
  0  done
  1  the operating system refused something
  2  the command line is wrong
  3  berth.toml has mistakes, or does not fit its images
  4  an input is missing, damaged or not what berth.lock or a patch pins
  5  the output cannot be written
  6  something is missing on this computer; the message names it
  7  the machine did not do what --check waited for, or what berth test found promised
  8  the two versions differ (berth diff --exit-code)";

/// Turns a TOML file and container images into a bootable machine.
#[derive(Debug, Parser)]
#[command(name = "berth", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List every mistake of a berth.toml, offline
    Check(Check),
    /// Build a machine: disk images, UKI, kernel, manifest
    Build(Build),
    /// Boot a machine in QEMU, its ports on localhost
    Run(Run),
    /// Cut the power of a machine again and again, publish bad versions for it, and see that it
    /// comes back
    Test(Test),
    /// Show where the bytes of a build went, and what is privileged
    Inspect(Inspect),
    /// Show what is different in a new version, what it may do more, and what the update costs
    Diff(Diff),
    /// Publish a build: a directory of files that machines update from, for any web server
    Publish(Publish),
    /// Pack what one machine type needs into a file, for machines without a network
    Bundle(Bundle),
    /// Read a published directory as a machine would, and check every file that it names
    Verify(Verify),
    /// Make the keys that updates are signed with, show them, replace them
    Keys(Keys),
    /// Add a holder's signature to a root file
    Sign(Sign),
    /// Build the kernel, or find it in the cache
    Kernel(Kernel),
    /// Make and apply patches between any two files
    #[command(subcommand)]
    Delta(Delta),
}

/// Patches: kernels, programs, images, in the format of the updates.
#[derive(Debug, Subcommand)]
pub(crate) enum Delta {
    /// Write the patch that makes NEW from OLD
    Create(DeltaCreate),
    /// Make the new file from OLD and PATCH
    Apply(DeltaApply),
}

#[derive(Debug, Args)]
pub(crate) struct DeltaCreate {
    /// The old version
    pub(crate) old: PathBuf,
    /// The new version
    pub(crate) new: PathBuf,
    /// Where the patch goes
    #[arg(short, long = "out", value_name = "PATCH")]
    pub(crate) out: PathBuf,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeltaApply {
    /// The old version
    pub(crate) old: PathBuf,
    /// What `berth delta create` wrote
    pub(crate) patch: PathBuf,
    /// Where the new version goes
    #[arg(short, long = "out", value_name = "NEW")]
    pub(crate) out: PathBuf,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The configuration, or a directory with a berth.toml
    #[arg(default_value = "berth.toml")]
    pub(crate) config: PathBuf,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Inputs {
    /// Pin again what every name means today
    #[arg(long)]
    pub(crate) update_lock: bool,
    /// A kernel image (bzImage) instead of the one that berth builds
    #[arg(long, value_name = "FILE")]
    pub(crate) kernel: Option<PathBuf>,
    /// The kernel's source package, for computers that cannot fetch it
    #[arg(long, value_name = "FILE")]
    pub(crate) kernel_source: Option<PathBuf>,
    /// A systemd-stub instead of the one that berth carries
    #[arg(long, value_name = "FILE")]
    pub(crate) stub: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Build {
    /// The configuration, or a directory with a berth.toml [default: berth.toml, else the demo]
    pub(crate) config: Option<PathBuf>,
    /// The directory for the results; made when it is missing
    #[arg(long, value_name = "DIR", default_value = "out")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) inputs: Inputs,
    /// Print the manifest as JSON when done
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// A configuration, a directory with a berth.toml or with the results of a build, or a disk
    /// image [default: berth.toml, else the demo]
    pub(crate) what: Option<PathBuf>,
    /// The directory for the results, when something is built
    #[arg(long, value_name = "DIR", default_value = "out")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) inputs: Inputs,
    /// Start the kernel directly, without firmware
    #[arg(long)]
    pub(crate) direct: bool,
    /// Memory of the machine, MiB
    #[arg(long, value_name = "MIB", default_value_t = berth::run::DEFAULT_MEMORY_MIB,
          value_parser = clap::value_parser!(u32).range(16..=1_048_576))]
    pub(crate) memory: u32,
    /// Size of the machine's disk, GiB
    #[arg(long, value_name = "GIB", default_value_t = berth::run::DEFAULT_DISK_BYTES >> 30,
          value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub(crate) disk: u64,
    /// Keep the machine's disk in FILE, and go on with it the next time
    #[arg(long, value_name = "FILE")]
    pub(crate) keep: Option<PathBuf>,
    /// Publish one more TCP port of the machine on localhost
    #[arg(long = "port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) ports: Vec<u16>,
    /// Do not show the machine's console
    #[arg(long)]
    pub(crate) headless: bool,
    /// Write what the console says to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// Draw the boot as a timeline (SVG)
    #[arg(long, value_name = "FILE")]
    pub(crate) boot_report: Option<PathBuf>,
    /// Power off when every published port has answered over HTTP; fail if one does not
    #[arg(long)]
    pub(crate) check: bool,
    /// How long --check waits, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) timeout: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Test {
    /// The configuration, or a directory with a berth.toml [default: berth.toml, else the demo]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) inputs: Inputs,
    /// How many power cuts a start must follow; 0 for none
    #[arg(long, value_name = "N", default_value_t = berth::faults::DEFAULT_CUTS,
          num_args = 0..=1, default_missing_value = "20",
          value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub(crate) power_cut: u64,
    /// Publish versions that must not stay: one whose kernel panics, one whose PID 1 exits, one
    /// that hangs, one whose containers end at once, one whose containers stay unhealthy, one that
    /// loses the update server
    #[arg(long)]
    pub(crate) bad_update: bool,
    /// Memory of the machine, MiB
    #[arg(long, value_name = "MIB", default_value_t = berth::run::DEFAULT_MEMORY_MIB,
          value_parser = clap::value_parser!(u32).range(16..=1_048_576))]
    pub(crate) memory: u32,
    /// Size of the machine's disk, GiB
    #[arg(long, value_name = "GIB", default_value_t = berth::run::DEFAULT_DISK_BYTES >> 30,
          value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub(crate) disk: u64,
    /// Chooses the moments of the cuts and what each loses
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Write what the console says to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The results of a build
    #[arg(default_value = "out")]
    pub(crate) what: PathBuf,
    /// Draw the bytes as a treemap (SVG)
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// The old version: the results of a build, a published directory (its newest version) or
    /// DIRECTORY@VERSION
    pub(crate) old: PathBuf,
    /// The new version, likewise
    pub(crate) new: PathBuf,
    /// Show whole lists
    #[arg(long)]
    pub(crate) all: bool,
    /// Do not make the patches to see what the update costs, which takes as long as publishing
    #[arg(long)]
    pub(crate) no_cost: bool,
    /// Exit with 8 when anything differs
    #[arg(long)]
    pub(crate) exit_code: bool,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The published directory
    pub(crate) directory: PathBuf,
    /// The root of trust, as it is in the machines
    #[arg(long, value_name = "FILE", default_value = "keys/1.root.json")]
    pub(crate) trust: PathBuf,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The results of a build
    pub(crate) build: PathBuf,
    /// The directory that the web server serves; made when it is missing
    pub(crate) directory: PathBuf,
    /// The directory with the keys, as `berth keys` makes it
    #[arg(long, value_name = "DIR", default_value = "keys")]
    pub(crate) keys: PathBuf,
    /// From how many earlier versions there are deltas
    #[arg(long, value_name = "N", default_value_t = berth::publish::DEFAULT_DELTAS,
          value_parser = clap::value_parser!(u8).range(..=berth::publish::MOST_DELTAS))]
    pub(crate) deltas: u8,
    /// Who takes it when: PERCENT of all machines, each AFTER a time, like 1%,10%@24h,100%@72h
    /// [default: all at once; a build that was published before keeps what it had]
    #[arg(long, value_name = "WAVES", value_parser = berth::publish::parse_waves)]
    pub(crate) waves: Option<berth::publish::Waves>,
    /// Have machines that gave this version up try it once more
    #[arg(long)]
    pub(crate) again: bool,
    /// Sign again what is published although a key signed it that the newest root file does not
    /// name any more: look at it first
    #[arg(long)]
    pub(crate) trust_old_keys: bool,
    /// How long machines may believe that nothing newer was published; sign again before that
    #[arg(long, value_name = "DAYS", default_value_t = 30,
          value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(crate) good_for: u32,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Bundle {
    /// The published directory
    pub(crate) directory: PathBuf,
    /// Where the bundle goes: a file, to be written onto a disk as it is
    #[arg(short, long = "out", value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// The product, when the directory has several
    #[arg(long, value_name = "NAME")]
    pub(crate) product: Option<String>,
    /// The kernel's profile, when the product has several
    #[arg(long, value_name = "PROFILE")]
    pub(crate) profile: Option<String>,
    /// Only for machines that run this version: its deltas instead of the whole image
    #[arg(long, value_name = "VERSION")]
    pub(crate) from: Vec<String>,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Keys {
    #[command(subcommand)]
    pub(crate) command: KeysCommand,
}

/// What to do with keys. They are described in docs/trust.md.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a complete set: root keys for several holders, online keys, the first root file
    New(KeysNew),
    /// Make one key, for a holder who then hands over its public half (beside it, with the ending .pub)
    Make(KeysMake),
    /// Show identifiers of keys, and who may sign for what according to a root file
    Show(KeysShow),
    /// Draft the next root file: other keys, another threshold, a later end
    Next(KeysNext),
}

#[derive(Debug, Args)]
pub(crate) struct KeysNew {
    /// The directory for the set; made when it is missing
    #[arg(default_value = "keys")]
    pub(crate) directory: PathBuf,
    /// A holder whose root key is made here; give each away afterwards [default: holder-1 to
    /// holder-3, unless --public is given]
    #[arg(long = "holder", value_name = "NAME")]
    pub(crate) holders: Vec<String>,
    /// The public half of a root key that its holder made elsewhere
    #[arg(long, value_name = "FILE")]
    pub(crate) public: Vec<PathBuf>,
    /// How many holders have to sign a new root file [default: more than half]
    #[arg(long, value_name = "N")]
    pub(crate) threshold: Option<u32>,
    /// For how many days the root file is good
    #[arg(long, value_name = "DAYS", default_value_t = 730,
          value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) good_for: u32,
}

#[derive(Debug, Args)]
pub(crate) struct KeysMake {
    /// The private key's file
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct KeysShow {
    /// Keys, public or private, and root files
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct KeysNext {
    /// The newest root file
    pub(crate) root: PathBuf,
    /// Let a public key sign for a role (root, targets, snapshot, timestamp)
    #[arg(long, value_name = "ROLE=FILE", value_parser = role_and_rest)]
    pub(crate) add: Vec<(Role, String)>,
    /// Take a role away from a key, by its identifier or the beginning of it
    #[arg(long, value_name = "ROLE=KEY", value_parser = role_and_rest)]
    pub(crate) remove: Vec<(Role, String)>,
    /// How many holders have to sign the root file after this one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) threshold: Option<u32>,
    /// For how many days the root file is good
    #[arg(long, value_name = "DAYS", default_value_t = 730,
          value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) good_for: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// The root file, or the draft of one
    pub(crate) root: PathBuf,
    /// The holder's private key
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
}

fn role_and_rest(text: &str) -> Result<(Role, String), String> {
    let (name, rest) = text.split_once('=').ok_or("expected ROLE=…")?;
    let role = Role::ALL.into_iter().find(|role| role.name() == name);
    let role = role.ok_or("the roles are root, targets, snapshot and timestamp")?;
    Ok((role, rest.to_owned()))
}

#[derive(Debug, Args)]
pub(crate) struct Kernel {
    /// Which hardware it is for
    #[arg(long, value_enum, default_value_t = Profile::Cloud)]
    pub(crate) profile: Profile,
    /// Its version; the newest that berth knows when absent
    #[arg(long = "kernel-version", value_name = "VERSION")]
    pub(crate) version: Option<String>,
    /// The source package, for computers that cannot fetch it
    #[arg(long, value_name = "FILE")]
    pub(crate) source: Option<PathBuf>,
    /// Copy the kernel image to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// List the versions that berth knows, and do nothing
    #[arg(long)]
    pub(crate) list: bool,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// The kernel's profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// virtio only
    Micro,
    /// All hypervisors and clouds
    Cloud,
    /// Common servers as well
    Metal,
}
