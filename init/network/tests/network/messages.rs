//! What is read from the network, and what is written to it.

use std::net::Ipv4Addr;

use crate::server::{self, ACK, Asked, NAK, OFFER};
use berth_network::HardwareAddress;
use berth_network::dhcp::{Checksum, Kind, Lease, LeasedRoute, Malformed, Random, Reply};
use berth_network::dhcp::{Request, RequestKind, Unusable, unwrap, wrap};
use berth_network::netlink::Messages;
use std::time::Duration;

const SERVER: [u8; 4] = [192, 0, 2, 1];
const ADDRESS: [u8; 4] = [192, 0, 2, 50];

fn asked() -> Asked {
    let request = Request {
        kind: RequestKind::Discover,
        xid: 0x1234_5678,
        secs: 3,
        client: None,
        hardware: HardwareAddress([2, 0, 0, 0, 0, 7]),
        requested: Some(ADDRESS.into()),
        server: None,
        hostname: Some("edge"),
    };
    Asked::read(&request.encode())
}

fn ack() -> server::Reply {
    server::Reply::giving(ACK, &asked(), SERVER, ADDRESS, 3600)
}

fn parse(reply: &server::Reply) -> Result<Reply, Malformed> {
    Reply::parse(&reply.bytes())
}

#[test]
fn a_request_says_who_asks_for_what() {
    let asked = asked();
    assert_eq!(
        (asked.kind, asked.xid, asked.secs, asked.flags),
        (1, 0x1234_5678, 3, 0)
    );
    assert_eq!(asked.hardware, [2, 0, 0, 0, 0, 7]);
    assert_eq!(asked.option(61), Some([1, 2, 0, 0, 0, 0, 7].as_slice()));
    assert_eq!(asked.address(50), Some(ADDRESS.into()));
    assert_eq!(asked.option(12), Some(b"edge".as_slice()));
    assert_eq!(asked.option(57), Some([0x05, 0xc0].as_slice()));
    let wanted = asked.option(55).unwrap();
    let place = |code| wanted.iter().position(|found| *found == code).unwrap();
    assert!(
        place(121) < place(3),
        "RFC 3442: classless routes before the router"
    );
    assert_eq!(asked.option(54), None);
}

#[test]
fn everything_an_acknowledgement_gives_is_taken() {
    let reply = ack()
        .option(6, &[192, 0, 2, 3, 192, 0, 2, 4])
        .option(15, b"example.org.\0")
        .option(26, &1400u16.to_be_bytes())
        .option(42, &[192, 0, 2, 5])
        .option(58, &100u32.to_be_bytes())
        .option(59, &200u32.to_be_bytes());
    let reply = parse(&reply).unwrap();
    assert_eq!((reply.kind, reply.xid), (Kind::Ack, 0x1234_5678));
    let lease = Lease::from_reply(&reply, None, Duration::from_secs(9)).unwrap();
    assert_eq!(String::from(lease.address), "192.0.2.50/24");
    assert_eq!((lease.lasts, lease.renew, lease.rebind), (3600, 100, 200));
    assert_eq!(lease.began_ms, 9000);
    assert_eq!(
        lease.dns,
        [Ipv4Addr::new(192, 0, 2, 3), Ipv4Addr::new(192, 0, 2, 4)]
    );
    assert_eq!(lease.ntp, [Ipv4Addr::new(192, 0, 2, 5)]);
    assert_eq!(
        (lease.domain.as_deref(), lease.mtu),
        (Some("example.org"), Some(1400))
    );
    let default = LeasedRoute::new(Ipv4Addr::UNSPECIFIED, 0, SERVER.into());
    assert_eq!(lease.routes, [default]);
}

#[test]
fn options_in_the_file_and_sname_fields_are_found() {
    let mut reply = ack().without(51).without(1).option(52, &[3]);
    reply.file = server::options(&[(51, vec![0, 0, 1, 0]), (6, vec![192, 0, 2, 3])]);
    reply.sname = server::options(&[(1, vec![255, 255, 0, 0])]);
    let read = parse(&reply).unwrap();
    assert_eq!((read.lasts, read.prefix), (Some(256), Some(16)));
    assert_eq!(read.dns.len(), 1);
    let unmarked = reply.without(52);
    assert_eq!(parse(&unmarked).unwrap().lasts, None);
}

#[test]
fn an_option_in_several_parts_is_one() {
    let reply = ack().option(6, &[192, 0]).option(6, &[2, 3]);
    assert_eq!(parse(&reply).unwrap().dns, [Ipv4Addr::new(192, 0, 2, 3)]);
}

#[test]
fn classless_routes_are_read_as_rfc_3442_writes_them() {
    let reply = ack().option(
        121,
        &[
            0, 10, 0, 0, 1, // default
            8, 10, 10, 0, 0, 1, // 10.0.0.0/8
            25, 10, 27, 129, 0, 10, 27, 129, 1, // 10.27.129.0/25
            32, 10, 229, 0, 128, 0, 0, 0, 0, // a host on the link
        ],
    );
    let reply = parse(&reply).unwrap();
    let lease = Lease::from_reply(&reply, None, Duration::ZERO).unwrap();
    let shown: Vec<String> = lease
        .routes
        .iter()
        .map(|route| format!("{} via {:?}", String::from(route.to), route.via))
        .collect();
    assert_eq!(
        shown,
        [
            "0.0.0.0/0 via Some(10.0.0.1)",
            "10.0.0.0/8 via Some(10.0.0.1)",
            "10.27.129.0/25 via Some(10.27.129.1)",
            "10.229.0.128/32 via None",
        ],
        "and the router option does not count"
    );
}

#[test]
fn broken_extras_are_left_out_and_the_lease_stays() {
    let reply = ack()
        .option(6, &[192, 0, 2])
        .option(121, &[33, 1, 2, 3, 4, 5])
        .option(26, &[0, 68])
        .option(15, b"a b\n.example")
        .option(58, &[1])
        .option(59, &7200u32.to_be_bytes());
    let reply = parse(&reply).unwrap();
    let lease = Lease::from_reply(&reply, None, Duration::ZERO).unwrap();
    assert!(lease.dns.is_empty() && lease.domain.is_none() && lease.mtu.is_none());
    assert_eq!(lease.routes.len(), 1, "the router's");
    assert_eq!((lease.renew, lease.rebind), (1800, 3150));
}

#[test]
fn renewal_times_always_lie_in_order_inside_the_lease() {
    for lasts in [1, 2, 3, 7, 8, 60, 3600, u32::MAX - 1] {
        for renew in [0, 1, 2, 59, u32::MAX] {
            for rebind in [0, 1, 2, 60, u32::MAX] {
                let mut reply = ack()
                    .without(51)
                    .option(51, &u32::to_be_bytes(lasts))
                    .option(58, &u32::to_be_bytes(renew))
                    .option(59, &u32::to_be_bytes(rebind));
                reply.address = ADDRESS.into();
                let reply = parse(&reply).unwrap();
                let lease = Lease::from_reply(&reply, None, Duration::ZERO).unwrap();
                assert!(
                    lease.renew <= lease.rebind && lease.rebind <= lasts,
                    "{lease:?}"
                );
            }
        }
    }
}

#[test]
fn what_no_lease_can_be_made_of_is_refused_with_the_reason() {
    let unusable = |reply: server::Reply| {
        Lease::from_reply(&parse(&reply).unwrap(), None, Duration::ZERO).unwrap_err()
    };
    assert_eq!(unusable(ack().without(51)), Unusable::Time);
    assert_eq!(
        unusable(ack().without(51).option(51, &[0; 4])),
        Unusable::Time
    );
    assert_eq!(unusable(ack().without(54)), Unusable::Server);
    for address in [
        [0, 0, 0, 0],
        [127, 0, 0, 1],
        [224, 0, 0, 1],
        [255; 4],
        [192, 0, 2, 0],
        [192, 0, 2, 255],
    ] {
        let mut reply = ack();
        reply.address = address.into();
        assert_eq!(unusable(reply), Unusable::Address(address.into()));
    }
}

#[test]
fn a_message_that_is_damaged_where_it_matters_is_refused() {
    assert_eq!(
        parse(&ack().without(1).option(1, &[255, 0, 255, 0])),
        Err(Malformed::Value(1))
    );
    assert_eq!(
        parse(&ack().without(1).option(1, &[0; 4])),
        Err(Malformed::Value(1))
    );
    assert_eq!(
        parse(&ack().without(54).option(54, &[1, 2, 3])),
        Err(Malformed::Value(54))
    );
    assert_eq!(parse(&ack().without(53)), Err(Malformed::Value(53)));
    assert_eq!(parse(&ack().option(52, &[4])), Err(Malformed::Value(52)));
    let mut cut = ack().option(12, b"name").bytes();
    cut.truncate(cut.len() - 3);
    assert_eq!(Reply::parse(&cut), Err(Malformed::Truncated(12)));
    let mut request = ack().bytes();
    request[0] = 1;
    assert_eq!(Reply::parse(&request), Err(Malformed::NotReply));
    let mut cookie = ack().bytes();
    cookie[236] = 0;
    assert_eq!(Reply::parse(&cookie), Err(Malformed::NotReply));
    assert_eq!(Reply::parse(&[2; 235]), Err(Malformed::Short));
}

#[test]
fn a_refusal_s_reason_is_printable_whatever_was_sent() {
    let reply = server::Reply::bare(NAK, &asked()).option(56, b"wrong\n\x1b[31m network\xff");
    assert_eq!(
        parse(&reply).unwrap().text.as_deref(),
        Some("wrong[31m network")
    );
}

#[test]
fn no_packet_can_stop_the_agent() {
    let mut random = Random::new(1);
    let whole = server::Reply::giving(OFFER, &asked(), SERVER, ADDRESS, 60)
        .option(121, &[24, 10, 0, 0, 10, 0, 0, 1])
        .option(15, b"example.org")
        .option(52, &[3])
        .bytes();
    for len in 0..whole.len() {
        let _ = Reply::parse(&whole[..len]);
    }
    let mut read = 0;
    for _ in 0..200_000 {
        let mut message = whole.clone();
        for _ in 0..=random.bits() % 8 {
            let bit = random.bits() as usize % (message.len() * 8);
            message[bit / 8] ^= 1 << (bit % 8);
        }
        message.truncate(whole.len() - random.bits() as usize % 20);
        if let Ok(reply) = Reply::parse(&message) {
            let _ = Lease::from_reply(&reply, None, Duration::ZERO);
            read += 1;
        }
        let packet = wrap(SERVER.into(), &message);
        let mut packet = packet;
        for _ in 0..4 {
            let bit = random.bits() as usize % (40 * 8);
            packet[bit / 8] ^= 1 << (bit % 8);
        }
        unwrap(&packet, Checksum::NotWritten);
    }
    assert!(
        read > 1000,
        "damage must not always be found by the first check: {read}"
    );
    for _ in 0..20_000 {
        let len = random.bits() as usize % 600;
        let noise: Vec<u8> = (0..len).map(|_| random.bits() as u8).collect();
        let _ = Reply::parse(&noise);
        unwrap(&noise, Checksum::InPacket);
        assert!(
            Messages::new(&noise).count() < 600,
            "and every walk over messages ends"
        );
    }
}
