//! A UDP socket on one interface, for renewals.

use std::ffi::CString;
use std::io;
use std::mem::zeroed;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;

use super::{bind, set_option, socket};
use crate::dhcp::CLIENT_PORT;

/// A socket from `address` port 68 through `interface`. It only sends: answers are read from the
/// packet socket, which also gets those that are broadcast. That it is there keeps the kernel
/// from telling the server that nobody listens.
pub(crate) fn unicast_socket(address: Ipv4Addr, interface: &str) -> io::Result<UdpSocket> {
    let fd = socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK, 0)?;
    let name = CString::new(interface).map_err(io::Error::other)?;
    let bytes = name.as_bytes_with_nul();
    let mut device = [0u8; libc::IFNAMSIZ];
    let Some(place) = device.get_mut(..bytes.len()) else {
        return Err(io::Error::other("the interface's name is too long"));
    };
    place.copy_from_slice(bytes);
    set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_BINDTODEVICE, &device)?;
    set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, &1i32)?;
    set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_BROADCAST, &1i32)?;
    // SAFETY: sockaddr_in is plain numbers, for which zero is a value.
    let mut from: libc::sockaddr_in = unsafe { zeroed() };
    from.sin_family = libc::AF_INET as libc::sa_family_t;
    from.sin_port = CLIENT_PORT.to_be();
    from.sin_addr.s_addr = u32::from(address).to_be();
    bind(fd.as_fd(), &from)?;
    Ok(UdpSocket::from(fd))
}
