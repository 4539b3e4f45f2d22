//! Whether a version on trial is kept: the rule of the commit, asked again and again.
//!
//! Three things must be true before the time is over: the containers are as the configuration asks
//! (`berth_provision::gate`), every network that has a cable has its address, and the update
//! server was reached with genuine metadata, because a version that cannot be updated any more
//! must not stay. A version that came by a bundle came without a network, and needs none to stay.

use berth_provision::gate::{self, Rule};
use berth_provision::status::Status;
use berth_provision::{Machine, Update};

/// What is known about a trial at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Moment<'a> {
    /// What PID 1 says about the machine, if it says anything.
    pub(crate) status: Option<&'a Status>,
    /// What is known about the update server since the start.
    pub(crate) server: Reach<'a>,
    /// Microseconds since the kernel's start.
    pub(crate) now_us: u64,
}

/// Whether a version can be updated again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach<'a> {
    /// The server, or a bundle, gave genuine metadata.
    Reached,
    /// Not yet; why, when that is known.
    NotYet(Option<&'a str>),
    /// The version came by a bundle.
    NotNeeded,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not yet; what is waited for.
    Wait(String),
    /// The version stays.
    Keep,
    /// The version goes; why.
    Reject(String),
}

/// Judges.
#[must_use]
pub(crate) fn judge(machine: &Machine, update: &Update, moment: &Moment<'_>) -> Verdict {
    let within_us = update.within_ms.saturating_mul(1000);
    let late = moment.now_us > within_us;
    let not_yet = |what: String| match late {
        true => Verdict::Reject(format!(
            "{what} when its {} s were over",
            update.within_ms / 1000
        )),
        false => Verdict::Wait(what),
    };
    let Some(status) = moment.status else {
        return not_yet("PID 1 had said nothing about the machine".into());
    };
    let rule = Rule {
        names: update.healthy.as_deref().unwrap_or_default(),
        hold_us: update.hold_ms.saturating_mul(1000),
        within_us,
    };
    match gate::judge(status, &rule, moment.now_us) {
        gate::Verdict::Waiting(what) => return Verdict::Wait(what),
        gate::Verdict::Failed(why) => return Verdict::Reject(why),
        gate::Verdict::Good => {}
    }
    if let Some(name) = network_without_address(machine, status, moment.server) {
        return not_yet(format!("the network {name} had no address"));
    }
    match moment.server {
        Reach::Reached | Reach::NotNeeded => Verdict::Keep,
        Reach::NotYet(None) => not_yet("the update server had not answered".into()),
        Reach::NotYet(Some(why)) => not_yet(format!("the update server was not reached ({why})")),
    }
}

/// A configured network that should have an address and has none. One without an interface or
/// without a cable is the machine's business and not the version's, unless there is no other and
/// one is needed.
fn network_without_address<'a>(
    machine: &'a Machine,
    status: &Status,
    server: Reach<'_>,
) -> Option<&'a str> {
    let states_of = |name: &str| {
        let name = name.to_owned();
        let of = status
            .networks
            .iter()
            .filter(move |network| network.name == name);
        of.map(|network| network.state.as_str())
    };
    let any_up = status.networks.iter().any(|network| network.state == "up");
    let lacks = |name: &str| {
        let mut states = states_of(name).peekable();
        let silent = states.peek().is_none();
        silent || states.all(|state| !matches!(state, "up" | "absent" | "no-carrier"))
    };
    let mut networks = machine.networks.iter().map(|network| network.name.as_str());
    match any_up || server == Reach::NotNeeded {
        true => networks.find(|name| lacks(name)),
        false => networks.next(),
    }
}

#[cfg(test)]
mod tests {
    use berth_provision::status::NetworkStatus;
    use berth_provision::{Match, Network, UpdatePolicy};

    use super::*;

    const NOW_US: u64 = 30_000_000;

    fn machine() -> Machine {
        let network = Network {
            name: "lan".into(),
            matches: Match::default(),
            dhcp4: true,
            addresses: Vec::new(),
            gateway: None,
            dns: Vec::new(),
            routes: Vec::new(),
            mtu: None,
        };
        Machine {
            networks: vec![network],
            ..Machine::default()
        }
    }

    fn update() -> Update {
        Update {
            url: Some("http://x".into()),
            bundles: false,
            policy: UpdatePolicy::Auto,
            window: None,
            every_ms: 1,
            wave: None,
            healthy: None,
            within_ms: 60_000,
            hold_ms: 1000,
            proxy: None,
            ca: false,
            rate: None,
            without_trial: false,
        }
    }

    fn status(state: &str) -> Status {
        Status {
            uptime_us: NOW_US,
            ready_us: Some(1),
            networks: vec![NetworkStatus {
                name: "lan".into(),
                interface: Some("eth0".into()),
                state: state.into(),
                hardware: None,
                addresses: Vec::new(),
                gateway: None,
            }],
            ..Status::default()
        }
    }

    fn verdict(state: &str, server: Reach<'_>, now_us: u64) -> Verdict {
        let mut status = status(state);
        status.uptime_us = now_us;
        let moment = Moment {
            status: Some(&status),
            server,
            now_us,
        };
        judge(&machine(), &update(), &moment)
    }

    #[test]
    fn a_version_that_does_all_that_is_asked_is_kept() {
        assert_eq!(verdict("up", Reach::Reached, NOW_US), Verdict::Keep);
    }

    #[test]
    fn a_version_that_loses_the_network_is_not_kept() {
        assert!(matches!(
            verdict("asking", Reach::Reached, NOW_US),
            Verdict::Wait(_)
        ));
        let late = 60_000_001;
        assert!(matches!(
            verdict("asking", Reach::Reached, late),
            Verdict::Reject(_)
        ));
        assert!(matches!(
            verdict("absent", Reach::Reached, late),
            Verdict::Reject(_)
        ));
    }

    #[test]
    fn a_version_that_loses_the_server_is_not_kept() {
        let lost = Reach::NotYet(Some("no route"));
        assert!(matches!(verdict("up", lost, NOW_US), Verdict::Wait(_)));
        let Verdict::Reject(why) = verdict("up", lost, 60_000_001) else {
            panic!("kept");
        };
        assert!(why.contains("no route"), "{why}");
    }

    #[test]
    fn a_version_that_came_by_a_bundle_needs_no_network_and_no_server() {
        assert_eq!(verdict("absent", Reach::NotNeeded, NOW_US), Verdict::Keep);
        // One with a cable still has to come up.
        assert!(matches!(
            verdict("asking", Reach::NotNeeded, 60_000_001),
            Verdict::Reject(_)
        ));
    }

    #[test]
    fn a_machine_whose_pid_1_is_silent_is_not_kept() {
        let moment = Moment {
            status: None,
            server: Reach::Reached,
            now_us: 60_000_001,
        };
        let verdict = judge(&machine(), &update(), &moment);
        assert!(matches!(verdict, Verdict::Reject(_)));
    }
}
