//! The whole agent, as its own process, against dnsmasq and a hand-written server.

use std::net::Ipv4Addr;
use std::path::Path;

use crate::lab::{Lab, MACHINE, ONE, TWO};
use crate::server::{ACK, DISCOVER, NAK, OFFER, REQUEST, Reply};

const DHCP: &str = r#"[{"name":"lan","match":{"driver":"veth"},"dhcp4":true}]"#;
/// dnsmasq's shortest lease is two minutes; renewal is asked for much sooner.
const RANGE: &str = "--dhcp-range=10.77.0.50,10.77.0.59,255.255.255.0,120";
const OTHER_RANGE: &str = "--dhcp-range=10.77.0.80,10.77.0.89,255.255.255.0,120";
const SOON: [&str; 2] = ["--dhcp-option=58,2", "--dhcp-option=59,4"];
/// From the first question to the report of the lease; it takes a few milliseconds.
const LEASE_MS: u64 = 1000;

fn time_us(line: &str) -> u64 {
    let word = line.split(' ').find_map(|word| word.strip_prefix("t="));
    word.unwrap().parse().unwrap()
}

#[test]
fn a_lease_is_there_at_once_with_everything_that_came_with_it() {
    let Some(lab) = Lab::new() else { return };
    let options = [
        RANGE,
        "--dhcp-option=6,10.77.0.1,10.77.0.2",
        "--domain=example.org",
        "--dhcp-option=26,1400",
        "--dhcp-option=42,10.77.0.1",
    ];
    let _server = lab.dnsmasq(ONE, &options);
    let mut agent = lab.agent(DHCP);
    let asking = agent.wait("state=asking");
    let up = agent.wait_all(&[
        "state=up",
        "address=10.77.0.5",
        "dns=10.77.0.2",
        "server=10.77.0.1",
    ]);
    let took_ms = (time_us(&up) - time_us(&asking)) / 1000;
    println!("from the first question to the lease in place: {took_ms} ms");
    assert!(took_ms < LEASE_MS, "{took_ms} ms");

    let addresses = lab.addresses();
    assert!(
        addresses.contains("/24 brd 10.77.0.255 scope global dynamic eth0"),
        "{addresses}"
    );
    assert!(
        addresses.contains("valid_lft 1"),
        "the kernel ends it if nobody else does: {addresses}"
    );
    let routes = lab.routes();
    assert!(
        routes.contains("default via 10.77.0.1 dev eth0 proto dhcp src 10.77.0.5"),
        "{routes}"
    );
    assert!(lab.ip(MACHINE, "link show eth0").contains("mtu 1400"));
    assert_eq!(
        std::fs::read_to_string(lab.file("etc/resolv.conf")).unwrap(),
        "nameserver 10.77.0.1\nnameserver 10.77.0.2\nsearch example.org\n"
    );
}

#[test]
fn a_lease_is_renewed_without_a_moment_without_address() {
    let Some(lab) = Lab::new() else { return };
    let mut server = lab.dnsmasq(ONE, &[RANGE, SOON[0], SOON[1]]);
    let mut agent = lab.agent(DHCP);
    agent.wait("state=up");
    let mut monitor = lab.spawn(
        MACHINE,
        Path::new("ip"),
        &[Path::new("monitor"), Path::new("address")],
    );
    for _ in 0..2 {
        agent.wait(": leased 10.77.0.5");
    }
    let log = server.catch_up();
    assert_eq!(log.matches("DHCPDISCOVER").count(), 1, "{log}");
    assert!(log.matches("DHCPREQUEST").count() >= 3, "{log}");
    let changes = monitor.catch_up();
    assert!(
        changes.contains("10.77.0.5"),
        "the lifetime was renewed: {changes}"
    );
    assert!(!changes.contains("Deleted"), "{changes}");
}

#[test]
fn a_server_that_comes_back_with_other_addresses_gets_its_way() {
    let Some(lab) = Lab::new() else { return };
    let mut server = lab.dnsmasq(ONE, &[RANGE, SOON[0], SOON[1]]);
    let mut agent = lab.agent(DHCP);
    agent.wait("address=10.77.0.5");
    server.kill();
    let mut server = lab.dnsmasq(ONE, &[OTHER_RANGE, "--dhcp-authoritative"]);
    agent.wait("refused 10.77.0.5");
    agent.wait_all(&["state=up", "address=10.77.0.8"]);
    server.wait("DHCPNAK");
    let addresses = lab.addresses();
    assert!(
        addresses.contains("10.77.0.8") && !addresses.contains("10.77.0.5"),
        "{addresses}"
    );
    assert_eq!(lab.routes().matches("default").count(), 1);
}

#[test]
fn when_the_lease_s_server_dies_another_one_takes_over() {
    let Some(lab) = Lab::new() else { return };
    let options = |range| [range, SOON[0], SOON[1], "--dhcp-authoritative"];
    let one = lab.dnsmasq(ONE, &options(RANGE));
    let two = lab.dnsmasq(TWO, &options(OTHER_RANGE));
    let mut agent = lab.agent(DHCP);
    let up = agent.wait("state=up");
    let first_is_one = up.contains("address=10.77.0.5");
    assert_eq!(first_is_one, up.contains("server=10.77.0.1"), "{up}");
    let (mut first, mut second) = if first_is_one { (one, two) } else { (two, one) };
    first.kill();
    agent.wait("no server has prolonged the lease");
    let survivor = if first_is_one {
        "server=10.77.0.2"
    } else {
        "server=10.77.0.1"
    };
    agent.wait_all(&["state=up", survivor]);
    second.wait("DHCPACK");
    assert_eq!(
        lab.addresses().matches("10.77.0.").count(),
        2,
        "one address and its broadcast"
    );
}

#[test]
fn a_server_that_appears_later_is_found() {
    let Some(lab) = Lab::new() else { return };
    let mut agent = lab.agent(DHCP);
    agent.wait("state=asking");
    let _server = lab.dnsmasq(ONE, &[RANGE]);
    agent.wait("state=up");
}

#[test]
fn a_cable_or_a_whole_interface_may_come_late() {
    let Some(lab) = Lab::new() else { return };
    lab.cable("down");
    lab.ip(MACHINE, "link del eth0");
    let _server = lab.dnsmasq(ONE, &[RANGE]);
    let mut agent = lab.agent(DHCP);
    agent.wait("network=lan state=absent");
    lab.plug(MACHINE, "eth0", 10);
    lab.cable("down");
    agent.wait("state=no-carrier");
    lab.cable("up");
    agent.wait("state=up");
    lab.cable("down");
    agent.wait_all(&["state=no-carrier", "address=10.77.0.5"]);
    lab.cable("up");
    agent.wait_all(&["state=up", "leased 10.77.0.5"]);
    lab.ip(MACHINE, "link del eth0");
    let gone = agent.wait("interface=eth0 state=absent");
    assert!(!gone.contains("address="), "{gone}");
    agent.wait("network=lan state=absent");
}

#[test]
fn an_address_from_before_a_reboot_is_wished_for_also_when_state_comes_late() {
    let Some(lab) = Lab::new() else { return };
    let mut agent = lab.agent(DHCP);
    agent.wait("state=asking");
    lab.remember("10.77.0.57");
    let _server = lab.dnsmasq(ONE, &[RANGE]);
    agent.wait_all(&["state=up", "address=10.77.0.57/24"]);
}

#[test]
fn a_lease_that_nobody_prolongs_ends_in_time_and_is_asked_for_again() {
    let Some(lab) = Lab::new() else { return };
    let mut answers = 0;
    let _server = lab.serve(ONE, move |asked| {
        let kind = if asked.kind == DISCOVER { OFFER } else { ACK };
        answers += 1;
        match answers {
            1 | 2 => vec![Reply::giving(kind, &asked, [10, 77, 0, 1], [10, 77, 0, 50], 3).bytes()],
            _ if asked.client.is_unspecified() => {
                vec![Reply::giving(kind, &asked, [10, 77, 0, 1], [10, 77, 0, 51], 60).bytes()]
            }
            _ => vec![],
        }
    });
    let mut agent = lab.agent(DHCP);
    let up = agent.wait_all(&["state=up", "10.77.0.50"]);
    let ended = agent.wait("the lease of 10.77.0.50 ended");
    let lasted_ms = (time_us(&ended) - time_us(&up)) / 1000;
    assert!((2500..4000).contains(&lasted_ms), "{lasted_ms} ms");
    assert!(!ended.contains("address="), "{ended}");
    agent.wait_all(&["state=up", "10.77.0.51"]);
    assert!(
        !lab.addresses().contains("10.77.0.50/"),
        "{}",
        lab.addresses()
    );
}

#[test]
fn classless_routes_replace_the_router() {
    let Some(lab) = Lab::new() else { return };
    let classless = "--dhcp-option=121,10.99.0.0/16,10.77.0.254,0.0.0.0/0,10.88.0.1";
    let _server = lab.dnsmasq(ONE, &[RANGE, "--dhcp-option=3,10.77.0.253", classless]);
    let mut agent = lab.agent(DHCP);
    agent.wait_all(&["state=up", "gateway=10.88.0.1"]);
    let routes = lab.routes();
    assert!(
        routes.contains("10.99.0.0/16 via 10.77.0.254 dev eth0 proto dhcp"),
        "{routes}"
    );
    assert!(
        routes.contains("default via 10.88.0.1 dev eth0") && routes.contains("onlink"),
        "{routes}"
    );
    assert!(!routes.contains("10.77.0.253"), "{routes}");
}

#[test]
fn an_agent_that_is_killed_leaves_everything_to_the_next_one() {
    let Some(lab) = Lab::new() else { return };
    let mut server = lab.dnsmasq(ONE, &[RANGE, "--dhcp-option=6,10.77.0.1"]);
    let mut agent = lab.agent(DHCP);
    agent.wait("state=up");
    agent.kill();
    let before = (
        lab.addresses().split("valid_lft").next().map(str::to_owned),
        lab.routes(),
    );
    assert!(before.1.contains("default"), "{before:?}");
    let mut monitor = lab.spawn(
        MACHINE,
        Path::new("ip"),
        &[Path::new("monitor"), Path::new("all")],
    );
    let mut agent = lab.agent(DHCP);
    let first = agent.wait("network=lan");
    assert!(
        first.contains("state=up address=10.77.0.5"),
        "used from the first moment: {first}"
    );
    server.wait("DHCPACK");
    server.wait("DHCPACK");
    let log = server.catch_up();
    assert_eq!(
        log.matches("DHCPDISCOVER").count(),
        1,
        "verified, not asked for anew: {log}"
    );
    let after = (
        lab.addresses().split("valid_lft").next().map(str::to_owned),
        lab.routes(),
    );
    assert_eq!(after, before);
    let changes = monitor.catch_up();
    assert!(!changes.contains("Deleted"), "{changes}");
}

#[test]
fn damaged_foreign_and_repeated_packets_change_nothing() {
    let Some(lab) = Lab::new() else { return };
    let _server = lab.serve(ONE, |asked| {
        let kind = if asked.kind == DISCOVER { OFFER } else { ACK };
        let good = Reply::giving(kind, &asked, [10, 77, 0, 1], [10, 77, 0, 50], 60);
        let mut foreign_transaction = good.clone();
        foreign_transaction.xid ^= 1;
        foreign_transaction.address = Ipv4Addr::new(10, 77, 0, 66);
        let mut foreign_machine = good.clone();
        foreign_machine.hardware[5] ^= 1;
        foreign_machine.address = Ipv4Addr::new(10, 77, 0, 67);
        let mut loopback = good.clone();
        loopback.address = Ipv4Addr::LOCALHOST;
        let mut cut = good.clone().option(12, b"name").bytes();
        cut.truncate(cut.len() - 3);
        let foreign_refusal = Reply::bare(NAK, &asked).option(54, &[10, 77, 0, 99]);
        vec![
            vec![2],
            vec![2; 1473],
            cut,
            good.clone().without(51).bytes(),
            good.clone().without(54).bytes(),
            loopback.bytes(),
            foreign_transaction.bytes(),
            foreign_machine.bytes(),
            foreign_refusal.bytes(),
            good.bytes(),
            good.bytes(),
            Reply::bare(NAK, &asked)
                .option(54, &[10, 77, 0, 99])
                .bytes(),
        ]
    });
    let mut agent = lab.agent(DHCP);
    let up = agent.wait("state=up");
    assert!(up.contains("address=10.77.0.50/24"), "{up}");
    let said = agent.catch_up();
    assert!(said.contains("ignored a DHCP packet"), "{said}");
    assert!(lab.addresses().contains("10.77.0.50/24"));
    for wrong in ["127.0.0.1", "10.77.0.66", "10.77.0.67"] {
        assert!(!lab.addresses().contains(wrong));
    }
}

#[test]
fn the_lease_of_the_last_boot_is_asked_for_first() {
    let Some(lab) = Lab::new() else { return };
    lab.remember("10.77.0.55");
    let mut server = lab.dnsmasq(ONE, &[RANGE, "--dhcp-authoritative"]);
    let mut agent = lab.agent(DHCP);
    agent.wait_all(&["state=up", "address=10.77.0.55/24"]);
    let log = server.catch_up();
    assert!(
        !log.contains("DHCPDISCOVER") && log.contains("DHCPACK"),
        "{log}"
    );
}

#[test]
fn fixed_addresses_are_all_there_is_and_what_is_not_configured_goes() {
    let Some(lab) = Lab::new() else { return };
    lab.ip(MACHINE, "addr add 10.1.2.3/24 dev eth0");
    lab.ip(MACHINE, "link set eth0 up");
    lab.ip(MACHINE, "route add 10.60.0.0/16 via 10.1.2.1");
    let networks = format!(
        r#"[{{"name":"fixed","match":{{"mac":"{}"}},"mtu":1280,"gateway":"10.77.0.1",
            "addresses":["10.77.0.9/24","10.78.0.9/16"],"dns":["10.77.0.1"],
            "routes":[{{"to":"10.50.1.1/16","via":"10.78.0.1"}}]}}]"#,
        lab.mac()
    );
    let (asked, questions) = std::sync::mpsc::channel();
    let _server = lab.serve(ONE, move |question| {
        asked.send(question).unwrap();
        vec![]
    });
    let mut agent = lab.agent(&networks);
    let up = agent.wait("state=up");
    assert!(
        up.contains("address=10.77.0.9/24 address=10.78.0.9/16 gateway=10.77.0.1"),
        "{up}"
    );
    let addresses = lab.addresses();
    assert!(
        addresses.contains("10.77.0.9/24") && addresses.contains("10.78.0.9/16"),
        "{addresses}"
    );
    assert!(!addresses.contains("10.1.2.3"), "{addresses}");
    let routes = lab.routes();
    assert!(
        routes.contains("default via 10.77.0.1 dev eth0 proto static"),
        "{routes}"
    );
    assert!(
        routes.contains("10.50.0.0/16 via 10.78.0.1 dev eth0 proto static"),
        "{routes}"
    );
    assert!(!routes.contains("10.60.0.0"), "{routes}");
    assert!(lab.ip(MACHINE, "link show eth0").contains("mtu 1280"));
    let names = std::fs::read_to_string(lab.file("etc/resolv.conf")).unwrap();
    assert_eq!(names, "nameserver 10.77.0.1\n");
    assert!(questions.try_recv().is_err(), "no DHCP server was asked");
}

#[test]
fn the_first_network_s_default_route_counts_while_it_has_a_carrier() {
    let Some(lab) = Lab::new() else { return };
    lab.plug(MACHINE, "eth1", 14);
    let networks = format!(
        r#"[{{"name":"first","match":{{"mac":"{}"}},"dhcp4":true}},
            {{"name":"second","match":{{"driver":"veth"}},"dhcp4":true}}]"#,
        lab.mac()
    );
    let _server = lab.dnsmasq(ONE, &[RANGE]);
    let mut agent = lab.agent(&networks);
    for _ in 0..2 {
        agent.wait_all(&["state=up", "leased"]);
    }
    assert_eq!(lab.routes().matches("default").count(), 2);
    let way = || lab.ip(MACHINE, "route get 198.51.100.1");
    assert!(way().contains("dev eth0"), "{}", way());
    lab.cable("down");
    agent.wait("interface=eth0 state=no-carrier");
    assert!(way().contains("dev eth1"), "{}", way());
    lab.cable("up");
    agent.wait("interface=eth0 state=up");
    assert!(way().contains("dev eth0"), "{}", way());
}

#[test]
fn one_network_s_mistake_is_its_own() {
    let Some(lab) = Lab::new() else { return };
    lab.plug(MACHINE, "eth1", 14);
    let networks = format!(
        r#"[{{"name":"typo","match":{{"mac":"52:54:00"}},"dhcp4":true}},
            {{"name":"lan","match":{{"mac":"{}"}},"dhcp4":true}},
            {{"name":"giant","match":{{"driver":"veth"}},"mtu":70000,"addresses":["10.79.0.1/24"]}}]"#,
        lab.mac()
    );
    let _server = lab.dnsmasq(ONE, &[RANGE]);
    let mut agent = lab.agent(&networks);
    agent.wait_all(&["network=lan interface=eth0 state=up", "leased"]);
    let said = agent.catch_up();
    assert!(said.contains("network=typo state=failed"), "{said}");
    assert!(
        said.contains("\"52:54:00\" is not a hardware address"),
        "{said}"
    );
    assert!(
        said.contains("network=giant interface=eth1 state=failed"),
        "{said}"
    );
    assert!(
        said.contains("refused to set the MTU to 70000 bytes"),
        "{said}"
    );
    assert!(
        lab.addresses().contains("10.79.0.1/24"),
        "and what can be done is done"
    );
}

#[test]
fn requests_follow_the_rules_on_the_wire() {
    let Some(lab) = Lab::new() else { return };
    let (sender, receiver) = std::sync::mpsc::channel();
    let _server = lab.serve(ONE, move |asked| {
        sender.send(asked.clone()).unwrap();
        let kind = if asked.kind == DISCOVER { OFFER } else { ACK };
        let reply = Reply::giving(kind, &asked, [10, 77, 0, 1], [10, 77, 0, 50], 60);
        vec![reply.option(58, &2u32.to_be_bytes()).bytes()]
    });
    let mut agent = lab.agent(DHCP);
    agent.wait(": leased 10.77.0.50");
    agent.wait(": leased 10.77.0.50");
    let asked: Vec<_> = receiver.try_iter().collect();
    let kinds: Vec<u8> = asked.iter().map(|asked| asked.kind).collect();
    assert_eq!(kinds, [DISCOVER, REQUEST, REQUEST]);
    assert!(asked[0].client.is_unspecified() && asked[1].client.is_unspecified());
    assert_eq!(
        asked[2].client,
        Ipv4Addr::new(10, 77, 0, 50),
        "sent by UDP, from the address"
    );
    assert_eq!(asked[2].option(54), None);
}
