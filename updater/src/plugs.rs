//! Waits, and wakes up when a disk is plugged in: the kernel's own announcements
//! (NETLINK_KOBJECT_UEVENT), so that a machine with nothing to do does nothing.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

/// The group that the kernel itself speaks to.
const KERNEL: u32 = 1;
/// Bytes of an announcement (lib/kobject_uevent.c: UEVENT_BUFFER_SIZE and the path before it).
const BYTES: usize = 8192;
/// From the announcement to a disk that answers.
const SETTLE: Duration = Duration::from_millis(500);

/// The announcements; nothing where the kernel gives none.
#[derive(Debug)]
pub(crate) struct Plugs(Option<OwnedFd>);

impl Plugs {
    /// Listens from now on.
    pub(crate) fn listen() -> Self {
        let opened = socket(
            AddressFamily::Netlink,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkKObjectUEvent,
        );
        let bound = opened.and_then(|socket| {
            bind(socket.as_raw_fd(), &NetlinkAddr::new(0, KERNEL))?;
            Ok(socket)
        });
        Self(bound.ok())
    }

    /// Listens to nothing.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Waits for so long, or until a disk was plugged in: true then.
    pub(crate) fn wait(&self, long: Duration) -> bool {
        let Some(socket) = &self.0 else {
            sleep(long);
            return false;
        };
        let end = Instant::now() + long;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut files = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut files, timeout) {
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) if self.announced() => {
                    sleep(SETTLE);
                    return true;
                }
                Ok(_) => {}
                Err(_) => sleep(left),
            }
        }
    }

    /// Reads all announcements; whether one is of a new disk.
    fn announced(&self) -> bool {
        let Some(socket) = &self.0 else {
            return false;
        };
        let mut any = false;
        let mut bytes = [0; BYTES];
        loop {
            match recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
                Ok(length) => any |= is_new_disk(bytes.get(..length).unwrap_or_default()),
                // More came than there was room for: one of them may have been it.
                Err(Errno::ENOBUFS) => any = true,
                Err(Errno::EINTR) => {}
                Err(_) => return any,
            }
        }
    }
}

fn is_new_disk(announcement: &[u8]) -> bool {
    let has = |field: &[u8]| {
        announcement
            .split(|byte| *byte == 0)
            .any(|one| one == field)
    };
    has(b"ACTION=add") && has(b"SUBSYSTEM=block") && has(b"DEVTYPE=disk")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_disk_is_told_from_its_partitions_and_from_other_news() {
        let of = |text: &str| is_new_disk(text.replace(' ', "\0").as_bytes());
        let disk = "add@/devices/x/block/sdb ACTION=add DEVPATH=/devices/x/block/sdb \
                    SUBSYSTEM=block MAJOR=8 MINOR=16 DEVNAME=sdb DEVTYPE=disk SEQNUM=9 ";
        assert!(of(disk));
        assert!(!of(&disk.replace("DEVTYPE=disk", "DEVTYPE=partition")));
        assert!(!of(&disk.replace("ACTION=add", "ACTION=change")));
        assert!(!of(&disk.replace("=block", "=net")));
        assert!(!of("") && !of(&"x".repeat(BYTES)));
    }

    #[test]
    fn without_announcements_waiting_ends_with_its_time() {
        assert!(!Plugs::none().wait(Duration::from_millis(5)));
        assert!(!Plugs::listen().wait(Duration::from_millis(5)));
    }
}
