//! IPv4 and UDP headers around a DHCP message (RFC 791, RFC 768): needed while the interface has
//! no address, when the kernel's own UDP can neither send nor receive for it.

use std::net::Ipv4Addr;

/// Servers listen here.
pub const SERVER_PORT: u16 = 67;
/// Clients listen here.
pub const CLIENT_PORT: u16 = 68;

const IP_HEADER_LEN: usize = 20;
const UDP_HEADER_LEN: usize = 8;
const PROTOCOL_UDP: u8 = 17;
/// More fragments, or an offset: not a whole packet.
const FRAGMENT: u16 = 0x3fff;

/// What the kernel knows about a received packet's UDP checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// It is in the packet, to be verified.
    InPacket,
    /// The sender left it to hardware that the packet never went through (it came from this
    /// host); what is in the packet is not it.
    NotWritten,
}

/// `message` in a UDP datagram from `source` port 68 to the broadcast address, port 67.
pub fn wrap(source: Ipv4Addr, message: &[u8]) -> Vec<u8> {
    let destination = Ipv4Addr::BROADCAST;
    let udp_len = (UDP_HEADER_LEN + message.len()) as u16;
    let mut udp = Vec::with_capacity(usize::from(udp_len));
    udp.extend(CLIENT_PORT.to_be_bytes());
    udp.extend(SERVER_PORT.to_be_bytes());
    udp.extend(udp_len.to_be_bytes());
    let pseudo = pseudo_sum(source, destination, udp_len);
    let header = [udp.as_slice(), &[0, 0], message].concat();
    // A sum of zero would mean "no checksum"; RFC 768 sends ones instead.
    let checksum = match fold(sum(&header, pseudo)) {
        0 => u16::MAX,
        sum => sum,
    };
    udp.extend(checksum.to_be_bytes());
    udp.extend(message);

    let total_len = (IP_HEADER_LEN as u16).wrapping_add(udp_len);
    let mut packet = vec![0x45, 0xc0];
    packet.extend(total_len.to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, PROTOCOL_UDP]);
    let addresses = [source.octets(), destination.octets()].concat();
    let checksum = fold(sum(&addresses, sum(&packet, 0)));
    packet.extend(checksum.to_be_bytes());
    packet.extend(addresses);
    packet.extend(udp);
    packet
}

/// The message in a received IPv4 packet; `None` when it is not a whole, undamaged UDP datagram
/// to the client's port.
pub fn unwrap(packet: &[u8], checksum: Checksum) -> Option<&[u8]> {
    let first = packet.first()?;
    let header_len = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header_len < IP_HEADER_LEN {
        return None;
    }
    let total_len = usize::from(be16(packet, 2)?);
    let (header, datagram) = packet.get(..total_len)?.split_at_checked(header_len)?;
    let whole = be16(header, 6)? & FRAGMENT == 0 && *header.get(9)? == PROTOCOL_UDP;
    if !whole || fold(sum(header, 0)) != 0 {
        return None;
    }
    let udp_len = be16(datagram, 4)?;
    let datagram = datagram.get(..usize::from(udp_len))?;
    if be16(datagram, 2)? != CLIENT_PORT {
        return None;
    }
    if be16(datagram, 6)? != 0 && checksum == Checksum::InPacket {
        let source = address(header, 12)?;
        let destination = address(header, 16)?;
        let pseudo = pseudo_sum(source, destination, udp_len);
        if fold(sum(datagram, pseudo)) != 0 {
            return None;
        }
    }
    datagram.get(UDP_HEADER_LEN..)
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u16::from_be_bytes)
}

fn address(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    bytes
        .get(at..)?
        .first_chunk::<4>()
        .copied()
        .map(Ipv4Addr::from)
}

fn pseudo_sum(source: Ipv4Addr, destination: Ipv4Addr, udp_len: u16) -> u32 {
    let addresses = sum(&source.octets(), sum(&destination.octets(), 0));
    addresses + u32::from(PROTOCOL_UDP) + u32::from(udp_len)
}

/// RFC 1071, unfolded. Packets here are shorter than 64 KiB, so 32 bits cannot overflow.
fn sum(bytes: &[u8], start: u32) -> u32 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let words = pairs
        .iter()
        .map(|pair| u32::from(u16::from_be_bytes(*pair)));
    let last = rest.first().map_or(0, |byte| u32::from(*byte) << 8);
    words.fold(start.wrapping_add(last), u32::wrapping_add)
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server's packet: ours with the ports the other way round and the checksum to match.
    fn from_server(message: &[u8]) -> Vec<u8> {
        let mut packet = wrap(Ipv4Addr::new(192, 0, 2, 1), message);
        packet.swap(20, 22);
        packet.swap(21, 23);
        packet
    }

    #[test]
    fn a_wrapped_message_comes_out_again_also_behind_padding() {
        let mut packet = from_server(b"an odd message");
        packet.extend([0; 9]);
        assert_eq!(
            unwrap(&packet, Checksum::InPacket),
            Some(b"an odd message".as_slice())
        );
    }

    #[test]
    fn a_packet_with_any_bit_flipped_is_refused() {
        let packet = from_server(b"message");
        for bit in 0..packet.len() * 8 {
            let mut damaged = packet.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unwrap(&damaged, Checksum::InPacket), None, "bit {bit}");
        }
    }

    #[test]
    fn a_checksum_left_to_absent_hardware_is_not_held_against_the_packet() {
        let mut packet = from_server(b"message");
        packet[26] ^= 0xff;
        assert_eq!(unwrap(&packet, Checksum::InPacket), None);
        assert_eq!(
            unwrap(&packet, Checksum::NotWritten),
            Some(b"message".as_slice())
        );
    }

    #[test]
    fn no_length_field_can_lead_outside_the_packet() {
        let packet = from_server(&[7; 300]);
        for len in 0..packet.len() {
            assert_eq!(unwrap(&packet[..len], Checksum::NotWritten), None);
        }
        for place in [0, 2, 3, 24, 25] {
            for value in 0..=255 {
                let mut wrong = packet.clone();
                wrong[place] = value;
                unwrap(&wrong, Checksum::NotWritten);
            }
        }
    }
}
