//! The client's state machine against scripted servers, on a clock of its own.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::server::{ACK, Asked, DISCOVER, NAK, OFFER, REQUEST, Reply};
use berth_network::HardwareAddress;
use berth_network::dhcp::{Action, Client, Event, FOREVER, Lease, Lost, Phase, Random, Target};

const HARDWARE: HardwareAddress = HardwareAddress([2, 0, 0, 0, 0, 7]);
const ONE: [u8; 4] = [192, 0, 2, 1];
const OTHER: [u8; 4] = [192, 0, 2, 2];
const ADDRESS: [u8; 4] = [192, 0, 2, 50];
const SECOND: Duration = Duration::from_secs(1);

/// A client and the time it lives in.
struct Bench {
    client: Client,
    now: Duration,
}

impl Bench {
    fn new() -> Self {
        let client = Client::new(HARDWARE, "edge.example.org", Random::new(7));
        Self {
            client,
            now: Duration::from_secs(1000),
        }
    }

    fn bound(lasts: u32) -> Self {
        let mut bench = Self::new();
        bench.event(Event::CarrierUp);
        bench.client = Self::new().client;
        let asked = bench.asked(Event::CarrierUp);
        bench.lease(&asked, lasts);
        bench
    }

    fn event(&mut self, event: Event<'_>) -> Vec<Action> {
        self.client.handle(self.now, event)
    }

    /// The one message that an event makes the client send, and where to.
    fn sent(&mut self, event: Event<'_>) -> (Target, Asked) {
        let actions = self.event(event);
        let mut sent = actions.iter().filter_map(|action| match action {
            Action::Send(target, message) => Some((*target, Asked::read(message))),
            _ => None,
        });
        let first = sent
            .next()
            .unwrap_or_else(|| panic!("nothing sent: {actions:?}"));
        assert!(sent.next().is_none(), "more than one message: {actions:?}");
        first
    }

    fn asked(&mut self, event: Event<'_>) -> Asked {
        let (target, asked) = self.sent(event);
        assert_eq!(target, Target::Link);
        asked
    }

    fn answer(&mut self, reply: &Reply) -> Vec<Action> {
        self.event(Event::Message(&reply.bytes()))
    }

    /// Plays the server's part from DISCOVER to ACK.
    fn lease(&mut self, discover: &Asked, lasts: u32) {
        let offer = Reply::giving(OFFER, discover, ONE, ADDRESS, lasts);
        let request = self.asked(Event::Message(&offer.bytes()));
        let ack = Reply::giving(ACK, &request, ONE, ADDRESS, lasts);
        assert!(matches!(self.answer(&ack)[..], [Action::Use(_)]));
        assert_eq!(self.client.phase(), Phase::Bound);
    }

    /// Goes on to the client's deadline; how long that took.
    fn pass(&mut self) -> Duration {
        let deadline = self.client.deadline().expect("a deadline");
        let passed = deadline.saturating_sub(self.now);
        self.now = deadline;
        passed
    }
}

#[test]
fn the_first_question_is_asked_the_moment_there_is_a_carrier() {
    let mut bench = Bench::new();
    assert_eq!(bench.client.deadline(), None);
    let asked = bench.asked(Event::CarrierUp);
    assert_eq!(
        (asked.kind, asked.secs, asked.address(50)),
        (DISCOVER, 0, None)
    );
    assert_eq!(asked.option(12), Some(b"edge".as_slice()));
}

#[test]
fn questions_nobody_answers_come_after_4_8_16_32_and_then_64_seconds() {
    let mut bench = Bench::new();
    let first = bench.asked(Event::CarrierUp);
    for expected in [4, 8, 16, 32, 64, 64, 64] {
        let pause = bench.pass();
        let expected = expected * SECOND;
        assert!(
            pause >= expected - SECOND && pause <= expected + SECOND,
            "{pause:?}"
        );
        let again = bench.asked(Event::Time);
        assert_eq!((again.kind, again.xid), (DISCOVER, first.xid));
        assert_eq!(u64::from(again.secs), (bench.now - 1000 * SECOND).as_secs());
    }
}

#[test]
fn the_first_usable_offer_is_taken_and_only_its_server_counts_from_then_on() {
    let mut bench = Bench::new();
    let discover = bench.asked(Event::CarrierUp);
    let useless = Reply::giving(OFFER, &discover, OTHER, ADDRESS, 60).without(51);
    assert!(matches!(bench.answer(&useless)[..], [Action::Note(_)]));
    let offer = Reply::giving(OFFER, &discover, ONE, ADDRESS, 60);
    let request = bench.asked(Event::Message(&offer.bytes()));
    assert_eq!((request.kind, request.xid), (REQUEST, discover.xid));
    assert_eq!(request.address(54), Some(ONE.into()));
    assert_eq!(request.address(50), Some(ADDRESS.into()));
    assert_eq!(request.client, Ipv4Addr::UNSPECIFIED);

    let late = Reply::giving(OFFER, &discover, OTHER, [192, 0, 2, 60], 60);
    assert_eq!(bench.answer(&late), []);
    for kind in [ACK, NAK] {
        let foreign = Reply::giving(kind, &request, OTHER, ADDRESS, 60);
        assert_eq!(bench.answer(&foreign), []);
    }
    let ack = Reply::giving(ACK, &request, ONE, ADDRESS, 60);
    assert!(
        matches!(&bench.answer(&ack)[..], [Action::Use(lease)] if lease.server == Ipv4Addr::from(ONE))
    );
    assert_eq!(bench.answer(&ack), [], "a duplicate changes nothing");
}

#[test]
fn answers_to_other_questions_and_other_machines_are_ignored() {
    let mut bench = Bench::new();
    let discover = bench.asked(Event::CarrierUp);
    let mut offer = Reply::giving(OFFER, &discover, ONE, ADDRESS, 60);
    offer.xid ^= 1;
    assert_eq!(bench.answer(&offer), []);
    offer.xid ^= 1;
    offer.hardware = [2, 0, 0, 0, 0, 8];
    assert_eq!(bench.answer(&offer), []);
    let early = Reply::giving(ACK, &discover, ONE, ADDRESS, 60);
    assert_eq!(
        bench.answer(&early),
        [],
        "an ACK that was not asked for is none"
    );
}

#[test]
fn a_server_that_offers_and_then_says_nothing_is_left_for_all_servers_again() {
    let mut bench = Bench::new();
    let discover = bench.asked(Event::CarrierUp);
    let offer = Reply::giving(OFFER, &discover, ONE, ADDRESS, 60);
    bench.asked(Event::Message(&offer.bytes()));
    let begun = bench.now;
    loop {
        bench.pass();
        let asked = bench.asked(Event::Time);
        if asked.kind == DISCOVER {
            assert_ne!(asked.xid, discover.xid);
            break;
        }
    }
    assert!(bench.now - begun < 32 * SECOND);
}

#[test]
fn a_lease_is_renewed_at_its_server_then_anywhere_and_dropped_at_its_end() {
    let mut bench = Bench::bound(3600);
    let begun = bench.now;
    let passed = bench.pass();
    assert!(
        passed <= 1800 * SECOND && passed >= 1687 * SECOND,
        "T1, a little early: {passed:?}"
    );
    let (target, request) = bench.sent(Event::Time);
    assert_eq!(
        target,
        Target::Server {
            from: ADDRESS.into(),
            to: ONE.into()
        }
    );
    assert_eq!((request.kind, request.client), (REQUEST, ADDRESS.into()));
    assert_eq!((request.address(50), request.address(54)), (None, None));

    let mut questions = 1;
    let target = loop {
        let passed = bench.pass();
        let (target, _) = bench.sent(Event::Time);
        if !matches!(target, Target::Server { .. }) {
            break target;
        }
        assert!(passed >= 60 * SECOND, "no more often than once a minute");
        questions += 1;
    };
    assert!((2..=6).contains(&questions), "{questions}");
    assert_eq!(
        target,
        Target::Network {
            from: ADDRESS.into()
        }
    );
    assert_eq!(bench.now - begun, 3150 * SECOND, "T2");

    loop {
        bench.pass();
        assert!(bench.client.lease().is_some());
        let actions = bench.event(Event::Time);
        if let [Action::Drop(lost), Action::Send(Target::Link, message)] = &actions[..] {
            assert_eq!(*lost, Lost::Ended(ADDRESS.into()));
            assert_eq!(Asked::read(message).kind, DISCOVER);
            break;
        }
    }
    assert_eq!(bench.now - begun, 3600 * SECOND);
    assert!(bench.client.lease().is_none());
}

#[test]
fn a_renewal_counts_from_the_question_that_was_answered_and_keeps_the_server() {
    let mut bench = Bench::bound(3600);
    bench.pass();
    let (_, lost) = bench.sent(Event::Time);
    bench.pass();
    let asked_at = bench.now;
    let (_, request) = bench.sent(Event::Time);
    bench.now += SECOND;
    let stale = Reply::giving(ACK, &lost, ONE, ADDRESS, 3600);
    assert_eq!(bench.answer(&stale), []);
    let ack = Reply::giving(ACK, &request, ONE, ADDRESS, 3600).without(54);
    let actions = bench.answer(&ack);
    let [Action::Use(lease)] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(u128::from(lease.began_ms), asked_at.as_millis());
    assert_eq!(lease.server, Ipv4Addr::from(ONE));
}

#[test]
fn while_renewing_only_the_lease_s_own_server_can_refuse_it() {
    let mut bench = Bench::bound(3600);
    bench.pass();
    let (_, request) = bench.sent(Event::Time);
    let foreign = Reply::bare(NAK, &request).option(54, &OTHER);
    assert_eq!(bench.answer(&foreign), []);
    let own = Reply::bare(NAK, &request)
        .option(54, &ONE)
        .option(56, b"wrong network");
    let actions = bench.answer(&own);
    let [Action::Drop(lost), Action::Send(Target::Link, message)] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert!(lost.to_string().contains("wrong network"));
    assert_eq!(Asked::read(message).kind, DISCOVER);
    assert!(bench.client.lease().is_none());
}

#[test]
fn a_server_that_offers_and_refuses_in_turn_is_asked_more_and_more_slowly() {
    let mut bench = Bench::new();
    let mut discover = bench.asked(Event::CarrierUp);
    let mut pauses = vec![];
    for _ in 0..10 {
        let offer = Reply::giving(OFFER, &discover, ONE, ADDRESS, 60);
        let request = bench.asked(Event::Message(&offer.bytes()));
        let before = bench.now;
        let actions = bench.answer(&Reply::bare(NAK, &request).option(54, &ONE));
        let sent = actions.iter().find_map(|action| match action {
            Action::Send(_, message) => Some(Asked::read(message)),
            _ => None,
        });
        discover = sent.unwrap_or_else(|| {
            bench.pass();
            bench.asked(Event::Time)
        });
        pauses.push((bench.now - before).as_secs());
    }
    assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 64, 64, 64]);
}

#[test]
fn without_a_carrier_the_lease_stays_and_with_it_is_asked_for_again() {
    let mut bench = Bench::bound(3600);
    assert_eq!(bench.event(Event::CarrierDown), []);
    assert!(bench.client.lease().is_some());
    bench.now += 10 * SECOND;
    let request = bench.asked(Event::CarrierUp);
    assert_eq!(
        (request.kind, request.address(50)),
        (REQUEST, Some(ADDRESS.into()))
    );
    assert_eq!(
        (request.address(54), request.client),
        (None, Ipv4Addr::UNSPECIFIED)
    );
    let ack = Reply::giving(ACK, &request, OTHER, ADDRESS, 3600);
    assert!(
        matches!(&bench.answer(&ack)[..], [Action::Use(lease)] if lease.server == Ipv4Addr::from(OTHER))
    );
}

#[test]
fn a_lease_that_nobody_confirms_is_used_to_its_end_while_servers_are_asked() {
    let mut bench = Bench::bound(600);
    bench.event(Event::CarrierDown);
    let begun = bench.now;
    let mut kinds = vec![bench.asked(Event::CarrierUp).kind];
    while bench.client.lease().is_some() {
        bench.pass();
        for action in bench.event(Event::Time) {
            match action {
                Action::Send(_, message) => kinds.push(Asked::read(&message).kind),
                Action::Drop(lost) => assert_eq!(lost, Lost::Ended(ADDRESS.into())),
                Action::Note(_) => {}
                Action::Use(lease) => panic!("{lease:?}"),
            }
        }
    }
    assert_eq!(bench.now - begun, 600 * SECOND);
    assert_eq!(kinds[..3], [REQUEST, REQUEST, DISCOVER]);
    assert!(kinds[2..].iter().all(|kind| *kind == DISCOVER));
    assert!(bench.client.deadline().is_some(), "and the asking goes on");
}

#[test]
fn a_lease_in_use_survives_the_refusal_of_another_address() {
    let mut bench = Bench::bound(3600);
    bench.event(Event::CarrierDown);
    let mut asked = bench.asked(Event::CarrierUp);
    while asked.kind == REQUEST {
        bench.pass();
        asked = bench.asked(Event::Time);
    }
    let offer = Reply::giving(OFFER, &asked, OTHER, [192, 0, 2, 60], 60);
    let request = bench.asked(Event::Message(&offer.bytes()));
    let actions = bench.answer(&Reply::bare(NAK, &request).option(54, &OTHER));
    assert!(
        matches!(actions[..], [Action::Note(_), Action::Send(..)]),
        "{actions:?}"
    );
    let lease = bench.client.lease().unwrap();
    assert_eq!(lease.address.address, Ipv4Addr::from(ADDRESS));
}

#[test]
fn a_lease_from_before_a_restart_of_the_agent_is_in_use_at_once() {
    let bench = Bench::bound(3600);
    let lease = bench.client.lease().unwrap().clone();
    let mut next = Bench::new();
    next.client.adopt(next.now, lease.clone());
    assert_eq!(next.client.lease(), Some(&lease));
    assert_eq!(
        next.asked(Event::CarrierUp).address(50),
        Some(ADDRESS.into())
    );

    let mut late = Bench::new();
    late.client.adopt(lease.ends_at().unwrap(), lease);
    assert_eq!(late.client.lease(), None, "one that has ended is not");
    assert_eq!(
        late.asked(Event::CarrierUp).kind,
        REQUEST,
        "but is asked for"
    );
}

#[test]
fn an_address_from_before_a_reboot_is_asked_for_first_but_not_for_long() {
    let mut bench = Bench::new();
    bench.client.remember(ADDRESS.into());
    assert_eq!(bench.client.lease(), None);
    let begun = bench.now;
    let mut asked = bench.asked(Event::CarrierUp);
    assert_eq!(
        (asked.kind, asked.address(50)),
        (REQUEST, Some(ADDRESS.into()))
    );
    while asked.kind == REQUEST {
        bench.pass();
        asked = bench.asked(Event::Time);
    }
    assert!(bench.now - begun < 4 * SECOND);
    assert_eq!(
        asked.address(50),
        Some(ADDRESS.into()),
        "and still as a wish"
    );
    bench.lease(&asked, 60);
}

#[test]
fn an_address_from_before_a_reboot_that_is_refused_is_forgotten_at_once() {
    let mut bench = Bench::new();
    bench.client.remember(ADDRESS.into());
    let request = bench.asked(Event::CarrierUp);
    let nak = Reply::bare(NAK, &request).option(54, &ONE);
    let discover = bench.asked(Event::Message(&nak.bytes()));
    assert_eq!((discover.kind, discover.address(50)), (DISCOVER, None));
}

#[test]
fn a_lease_for_ever_is_never_renewed() {
    let bench = Bench::bound(FOREVER);
    assert_eq!(bench.client.deadline(), None);
}

#[test]
fn a_name_that_is_no_label_is_not_sent() {
    for name in ["", "-edge", "edge-", "ed_ge", "ü", &"x".repeat(64)] {
        let mut client = Client::new(HARDWARE, name, Random::new(1));
        let actions = client.handle(SECOND, Event::CarrierUp);
        let [Action::Send(_, message)] = &actions[..] else {
            panic!("{actions:?}")
        };
        assert_eq!(Asked::read(message).option(12), None, "{name:?}");
    }
}

/// Carriers come and go, servers answer, refuse, lie and keep silent in random order, and:
/// a lease in use has not ended, a call at the deadline always moves it on (no busy loop), and
/// what the client was last told to use is what it holds.
#[test]
fn whatever_happens_the_client_neither_spins_nor_uses_a_lease_that_has_ended() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let mut bench = Bench::new();
        let mut last: Option<Asked> = None;
        let mut used: Option<Lease> = None;
        for _ in 0..400 {
            let choice = random.bits() % 16;
            let mut bytes = Vec::new();
            if let Some(asked) = &last {
                let kind = [OFFER, ACK, NAK][random.bits() as usize % 3];
                let lasts = [0, 1, 5, 60, 3600, FOREVER][random.bits() as usize % 6];
                let server = [ONE, OTHER][random.bits() as usize % 2];
                let address = [192, 0, 2, 50 + (random.bits() % 3) as u8];
                bytes = Reply::giving(kind, asked, server, address, lasts).bytes();
                if random.bits().is_multiple_of(4) {
                    let bit = random.bits() as usize % (bytes.len() * 8);
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
            }
            let event = match choice {
                0 => Event::CarrierDown,
                1 | 2 => Event::CarrierUp,
                3..=9 => Event::Message(&bytes),
                _ => {
                    match bench.client.deadline() {
                        Some(deadline) => bench.now = bench.now.max(deadline),
                        None => bench.now += SECOND,
                    }
                    Event::Time
                }
            };
            let timed = matches!(event, Event::Time);
            for action in bench.event(event) {
                match action {
                    Action::Send(_, message) => last = Some(Asked::read(&message)),
                    Action::Use(lease) => used = Some(lease),
                    Action::Drop(_) => assert!(used.take().is_some(), "dropped what was not used"),
                    Action::Note(_) => {}
                }
            }
            if timed {
                let deadline = bench.client.deadline();
                assert!(
                    deadline.is_none_or(|deadline| deadline > bench.now),
                    "seed {seed}"
                );
                let end = bench.client.lease().and_then(Lease::ends_at);
                assert!(end.is_none_or(|end| end > bench.now), "seed {seed}");
            }
            assert_eq!(bench.client.lease(), used.as_ref(), "seed {seed}");
        }
    }
}
