//! The packet socket (packet(7)): IPv4 packets sent and received below IP, so that a server can
//! be asked before there is an address. The link header is the kernel's work (SOCK_DGRAM).

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::{bind, check_len, set_option, socket};
use crate::dhcp::{CLIENT_PORT, Checksum};

/// Room for one control message with what the kernel knows about a packet.
const CONTROL_LEN: usize = 64;

/// A socket for DHCP on one interface.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    fd: OwnedFd,
    index: i32,
}

/// One instruction of the classic packet filter.
const fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

/// Passes whole UDP packets to the client's port that start like a BOOTP reply; the rest is
/// dropped in the kernel, so that a busy network does not wake the agent.
static FILTER: [libc::sock_filter; 11] = {
    use libc::{
        BPF_ABS, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_LDX,
    };
    use libc::{BPF_MSH, BPF_RET};
    [
        // IP protocol is UDP.
        instruction(BPF_LD | BPF_B | BPF_ABS, 0, 0, 9),
        instruction(BPF_JMP | BPF_JEQ | BPF_K, 0, 8, 17),
        // Neither more fragments nor an offset.
        instruction(BPF_LD | BPF_H | BPF_ABS, 0, 0, 6),
        instruction(BPF_JMP | BPF_JSET | BPF_K, 6, 0, 0x3fff),
        // X = length of the IP header; UDP destination port.
        instruction(BPF_LDX | BPF_B | BPF_MSH, 0, 0, 0),
        instruction(BPF_LD | BPF_H | BPF_IND, 0, 0, 2),
        instruction(BPF_JMP | BPF_JEQ | BPF_K, 0, 3, CLIENT_PORT as u32),
        // BOOTP operation is a reply.
        instruction(BPF_LD | BPF_B | BPF_IND, 0, 0, 8),
        instruction(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 2),
        instruction(BPF_RET | BPF_K, 0, 0, 0xffff),
        instruction(BPF_RET | BPF_K, 0, 0, 0),
    ]
};

impl PacketSocket {
    pub(crate) fn open(index: u32) -> io::Result<Self> {
        let index = i32::try_from(index).map_err(io::Error::other)?;
        // Protocol 0 receives nothing until the filter is in place and bind() names one.
        let fd = socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK, 0)?;
        let filter = libc::sock_fprog {
            len: FILTER.len() as u16,
            // The kernel only reads it; the field has no const in C.
            filter: FILTER.as_ptr().cast_mut(),
        };
        set_option(
            fd.as_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            &filter,
        )?;
        set_option(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_AUXDATA, &1i32)?;
        bind(fd.as_fd(), &link_address(index))?;
        Ok(Self { fd, index })
    }

    /// Sends an IPv4 packet to everybody on the link.
    pub(crate) fn broadcast(&self, packet: &[u8]) -> io::Result<()> {
        let mut to = link_address(self.index);
        to.sll_halen = 6;
        to.sll_addr = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0];
        // SAFETY: the pointers and lengths describe `packet` and `to`.
        let sent = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                (&raw const to).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        check_len(sent).map(drop)
    }

    /// Receives an IPv4 packet, with what is known about its checksum.
    pub(crate) fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<(&'a [u8], Checksum)> {
        let mut control = [0u64; CONTROL_LEN / 8];
        let mut part = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        // SAFETY: msghdr is numbers and pointers, for which zero is a value.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = CONTROL_LEN as _;
        // SAFETY: `message` describes `buffer` and `control`, which outlive the call.
        let got = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &raw mut message, 0) };
        let len = check_len(got)?;
        let checksum = checksum(&message);
        Ok((buffer.get(..len).unwrap_or_default(), checksum))
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn link_address(index: i32) -> libc::sockaddr_ll {
    // SAFETY: sockaddr_ll is plain numbers, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_IP as u16).to_be();
    address.sll_ifindex = index;
    address
}

/// PACKET_AUXDATA of a received message.
fn checksum(message: &libc::msghdr) -> Checksum {
    // SAFETY: recvmsg() has filled `message` in; its control buffer is alive in the caller, and
    // the CMSG macros stay inside msg_controllen.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: a non-null header is inside the control buffer, which is aligned for it.
        let (level, kind, len) = unsafe {
            (
                (*header).cmsg_level,
                (*header).cmsg_type,
                (*header).cmsg_len,
            )
        };
        // SAFETY: CMSG_LEN only computes.
        let wanted = unsafe { libc::CMSG_LEN(size_of::<libc::tpacket_auxdata>() as u32) };
        if level == libc::SOL_PACKET && kind == libc::PACKET_AUXDATA && len >= wanted as _ {
            // SAFETY: the length was just checked; the data may be unaligned, so it is copied.
            let data: libc::tpacket_auxdata = unsafe {
                libc::CMSG_DATA(header)
                    .cast::<libc::tpacket_auxdata>()
                    .read_unaligned()
            };
            if data.tp_status & libc::TP_STATUS_CSUMNOTREADY != 0 {
                return Checksum::NotWritten;
            }
        }
        // SAFETY: as for CMSG_FIRSTHDR.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    Checksum::InPacket
}
