//! The way down: the boot backwards, every step bounded, so that it always ends.
//!
//! Containers get their signal and their time, in reverse order; then the machine's own roles;
//! then whatever is left is killed; then the state is closed in a process of its own, since a
//! disk may hang; then the machine restarts or powers off, come what may.

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::reboot::{RebootMode, reboot};
use nix::unistd::sync;

use crate::failure::{Doing, Failure};
use crate::{clock, entropy, state};

/// How the machine ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It starts again.
    Restart,
    /// It switches itself off.
    PowerOff,
}

impl Ending {
    /// As it stands in the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::PowerOff => "power-off",
        }
    }
}

/// One step on the way down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Containers stop in reverse order.
    Containers,
    /// The network agent and every other role stops.
    Roles,
    /// Everything else is killed.
    Rest,
    /// Clock and seed are saved, the state is unmounted.
    State,
    /// The machine ends.
    Off,
}

impl Step {
    /// As it stands in the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Containers => "stop-containers",
            Self::Roles => "stop-roles",
            Self::Rest => "stop-rest",
            Self::State => "close-state",
            Self::Off => "off",
        }
    }

    fn following(self) -> Self {
        match self {
            Self::Containers => Self::Roles,
            Self::Roles => Self::Rest,
            Self::Rest => Self::State,
            Self::State | Self::Off => Self::Off,
        }
    }

    /// Milliseconds until the next step begins whatever this one does.
    fn deadline_ms(self, containers_ms: u64) -> u64 {
        match self {
            Self::Containers => containers_ms,
            Self::Roles => 3_000,
            Self::Rest => 2_000,
            Self::State => 30_000,
            Self::Off => u64::MAX,
        }
    }
}

/// Where the machine is on its way down.
#[derive(Debug)]
pub(crate) struct Shutdown {
    /// How it ends.
    pub(crate) ending: Ending,
    /// The step that is being done.
    pub(crate) step: Step,
    containers_ms: u64,
    deadline_us: u64,
}

impl Shutdown {
    /// Begins with the containers, which together may take `containers_ms`.
    pub(crate) fn begin(ending: Ending, containers_ms: u64, now_us: u64) -> Self {
        let mut shutdown = Self {
            ending,
            step: Step::Containers,
            containers_ms,
            deadline_us: 0,
        };
        shutdown.enter(Step::Containers, now_us);
        shutdown
    }

    /// Moves on when the step is `done` or has had its time; gives the step that begins, and
    /// whether the one before was cut short.
    pub(crate) fn advance(&mut self, done: bool, now_us: u64) -> Option<(Step, bool)> {
        let late = now_us >= self.deadline_us;
        if self.step == Step::Off || !(done || late) {
            return None;
        }
        self.enter(self.step.following(), now_us);
        Some((self.step, !done))
    }

    /// When [`Shutdown::advance`] is due at the latest.
    pub(crate) fn deadline_us(&self) -> u64 {
        self.deadline_us
    }

    fn enter(&mut self, step: Step, now_us: u64) {
        self.step = step;
        let allowed_ms = step.deadline_ms(self.containers_ms);
        self.deadline_us = now_us.saturating_add(allowed_ms.saturating_mul(1000));
    }
}

/// Saves what the next boot needs and leaves the state clean. May block on the disk.
pub(crate) fn close_state() -> Result<(), Failure> {
    let saved = [clock::save(), entropy::save()];
    let unmounted = unmount_all();
    sync();
    saved.into_iter().chain([unmounted]).collect()
}

/// Undoes mounts in reverse order, so that nested ones go first; what is busy is made
/// read-only, which leaves it as clean.
fn unmount_all() -> Result<(), Failure> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")
        .doing(|| "read /proc/self/mounts".to_owned())?;
    let mut failures = Vec::new();
    for target in to_unmount(&mounts) {
        match umount2(target, MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(why) => {
                let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
                let read_only = mount(None::<&str>, target, None::<&str>, flags, None::<&str>);
                if read_only.is_err() {
                    failures.push(format!("cannot unmount {target}: {why}"));
                }
            }
        }
    }
    if failures.is_empty() {
        return Ok(());
    }
    Err(Failure::new(failures.join("; ")))
}

/// Mount points that hold or may cover data, last mounted first. The kernel's own file systems
/// stay: the rest of the shutdown needs them and they hold nothing.
fn to_unmount(mounts: &str) -> Vec<&str> {
    const OF_THE_KERNEL: [&str; 5] = ["/proc", "/sys", "/dev", "/run", "/tmp"];
    let target = |line: &'_ str| -> Option<(usize, usize)> {
        let start = line.find(' ')? + 1;
        let length = line.get(start..)?.find(' ')?;
        Some((start, start + length))
    };
    let mut targets: Vec<&str> = mounts
        .lines()
        .filter_map(|line| target(line).and_then(|(start, end)| line.get(start..end)))
        .filter(|target| {
            let under_state = *target == state::TARGET || target.starts_with("/state/");
            let kernels = OF_THE_KERNEL
                .iter()
                .any(|own| target == own || target.starts_with(&format!("{own}/")));
            under_state || !(kernels || *target == "/")
        })
        .collect();
    targets.reverse();
    targets
}

/// Ends the machine; comes back only when the kernel refuses, with the reason.
pub(crate) fn end(ending: Ending) -> Failure {
    let mode = match ending {
        Ending::Restart => RebootMode::RB_AUTOBOOT,
        Ending::PowerOff => RebootMode::RB_POWER_OFF,
    };
    match reboot(mode) {
        Err(why) => Failure::new(format!("the kernel refuses to {}: {why}", ending.name())),
        Ok(never) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_the_way_down_is_fixed() {
        let mut shutdown = Shutdown::begin(Ending::Restart, 10_000, 0);
        let mut order = vec![shutdown.step];
        while let Some((step, cut_short)) = shutdown.advance(true, 1) {
            assert!(!cut_short);
            order.push(step);
        }
        use Step::*;
        assert_eq!(order, [Containers, Roles, Rest, State, Off]);
    }

    #[test]
    fn every_step_is_bounded() {
        let mut shutdown = Shutdown::begin(Ending::PowerOff, 10_000, 0);
        let mut now_us = 0;
        while shutdown.step != Step::Off {
            assert_eq!(shutdown.advance(false, now_us), None);
            now_us = shutdown.deadline_us();
            assert!(matches!(shutdown.advance(false, now_us), Some((_, true))));
        }
        assert_eq!(now_us, (10_000 + 3_000 + 2_000 + 30_000) * 1000);
    }

    #[test]
    fn nested_mounts_are_undone_first_and_the_kernels_own_stay() {
        let mounts = "/dev/dm-0 / erofs ro 0 0\nproc /proc proc rw 0 0\ntmpfs /run tmpfs rw 0 0\n\
                      cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n/dev/vda5 /state ext4 rw 0 0\n\
                      tmpfs /state/x tmpfs rw 0 0\n/dev/vdb /mnt ext4 rw 0 0\n";
        assert_eq!(to_unmount(mounts), ["/mnt", "/state/x", "/state"]);
    }
}
