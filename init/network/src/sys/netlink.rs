//! The rtnetlink socket.

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::{bind, check_len, set_option, socket};

/// The kernel always answers; this only keeps a bug from stopping the agent.
const ANSWER_SECONDS: libc::time_t = 5;

/// A socket to the kernel's routing tables.
#[derive(Debug)]
pub(crate) struct NetlinkSocket(OwnedFd);

impl NetlinkSocket {
    /// A socket for requests: waits for answers.
    pub(crate) fn for_requests() -> io::Result<Self> {
        let fd = Self::open(0, 0)?;
        let wait = libc::timeval {
            tv_sec: ANSWER_SECONDS,
            tv_usec: 0,
        };
        set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RCVTIMEO, &wait)?;
        Ok(Self(fd))
    }

    /// A socket that tells when links change; never waits.
    pub(crate) fn for_link_events() -> io::Result<Self> {
        Ok(Self(Self::open(
            libc::SOCK_NONBLOCK,
            libc::RTMGRP_LINK as u32,
        )?))
    }

    fn open(flags: i32, groups: u32) -> io::Result<OwnedFd> {
        let fd = socket(
            libc::AF_NETLINK,
            libc::SOCK_RAW | flags,
            libc::NETLINK_ROUTE,
        )?;
        // SAFETY: sockaddr_nl is plain numbers, for which zero is a value.
        let mut address: libc::sockaddr_nl = unsafe { zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = groups;
        bind(fd.as_fd(), &address)?;
        Ok(fd)
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        // SAFETY: the pointer and length describe `bytes`.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        check_len(sent).map(drop)
    }

    /// Receives one datagram from the kernel; what other processes send is skipped.
    pub(crate) fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        loop {
            // SAFETY: as in `open`.
            let mut from: libc::sockaddr_nl = unsafe { zeroed() };
            let mut from_len = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
            // SAFETY: the pointers and lengths describe `buffer` and `from`.
            let got = unsafe {
                libc::recvfrom(
                    self.0.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    0,
                    (&raw mut from).cast(),
                    &raw mut from_len,
                )
            };
            match check_len(got) {
                Ok(len) if from.nl_pid == 0 => return Ok(buffer.get(..len).unwrap_or_default()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for NetlinkSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
