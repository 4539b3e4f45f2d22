//! What supervision promises: by example, by walking every state that can be reached, and by
//! random sequences of events.

use std::collections::HashSet;

use super::*;
use crate::spec;

/// A container with a chain of `after`.
pub(crate) fn container(name: &str, after: &[&str]) -> Container {
    Container {
        name: name.into(),
        image: String::new(),
        digest: String::new(),
        oci: spec::Oci {
            oci_version: "1.1.0".into(),
            process: spec::Process {
                terminal: false,
                user: spec::User::default(),
                args: vec!["/bin/true".into()],
                env: Vec::new(),
                cwd: "/".into(),
                capabilities: spec::Capabilities::default(),
                rlimits: Vec::new(),
                no_new_privileges: true,
                oom_score_adj: None,
            },
            root: spec::Root {
                path: "/images/x".into(),
                readonly: true,
            },
            hostname: None,
            mounts: Vec::new(),
            linux: spec::Linux::default(),
        },
        after: after.iter().map(|&name| name.into()).collect(),
        after_healthy: Vec::new(),
        after_network: false,
        volumes: Vec::new(),
        health: None,
        restart: spec::Restart {
            policy: RestartPolicy::Always,
            backoff_min_ms: 1_000,
            backoff_max_ms: 4_000,
        },
        stop: Stop {
            signal: 15,
            timeout_ms: 10_000,
        },
        log: spec::Log { keep_bytes: 0 },
    }
}

/// A container with a health check.
pub(crate) fn checked(name: &str) -> Container {
    Container {
        health: Some(spec::Health {
            probe: spec::Probe::Exec(vec!["/bin/true".into()]),
            every_ms: 5_000,
            timeout_ms: 1_000,
            fails: 3,
            start_ms: 20_000,
        }),
        ..container(name, &[])
    }
}

const S: u64 = 1_000_000;
const A: Id = Id(0);
const B: Id = Id(1);
const C: Id = Id(2);

/// A supervisor and what it asked for last.
struct Bench(Supervisor);

impl Bench {
    fn of(containers: &[Container]) -> Self {
        Self(Supervisor::new(containers).expect("ordered"))
    }

    fn at(&mut self, now_s: u64, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.0.handle(now_s * S, event, &mut actions);
        actions
    }

    fn state(&self, id: Id) -> &'static str {
        self.0.state(id).expect("there").0.name()
    }
}

#[test]
fn a_container_starts_only_when_all_that_it_names_have_started() {
    let mut bench = Bench::of(&[container("a", &["b"]), container("b", &[])]);
    assert_eq!(bench.at(0, Event::Begin), [Action::Launch(B)]);
    assert_eq!(bench.at(0, Event::Launched(B)), []);
    assert_eq!(bench.at(0, Event::Executed(B)), [Action::Launch(A)]);
    assert_eq!(bench.at(0, Event::Executed(A)), [Action::Ready]);
    assert_eq!(bench.at(1, Event::Executed(A)), [], "ready is said once");
}

#[test]
fn a_container_waits_for_state_and_network_when_it_needs_them() {
    let mut needy = container("a", &[]);
    needy.after_network = true;
    needy.oci.mounts.push(spec::Mount {
        destination: "/data".into(),
        kind: Some("bind".into()),
        source: Some("/state/volumes/data".into()),
        options: vec!["bind".into()],
    });
    let mut bench = Bench::of(&[needy, container("b", &[])]);
    assert_eq!(bench.at(0, Event::Begin), [Action::Launch(B)]);
    assert_eq!(bench.at(0, Event::NetworkUp), []);
    assert_eq!(bench.at(0, Event::StateMounted), [Action::Launch(A)]);
}

#[test]
fn a_container_that_waits_for_health_starts_with_the_first_good_probe_and_not_before() {
    let mut web = container("web", &[]);
    web.after_healthy = vec!["db".into()];
    let mut bench = Bench::of(&[web, checked("db")]);
    assert_eq!(bench.at(0, Event::Begin), [Action::Launch(B)]);
    assert_eq!(bench.at(0, Event::Executed(B)), []);
    // A word about a run that is over does not count.
    bench.at(1, Event::Ended(B, End::Exited(1)));
    assert_eq!(bench.at(1, Event::Healthy(B)), []);
    assert_eq!(bench.at(2, Event::Tick), [Action::Launch(B)]);
    bench.at(2, Event::Executed(B));
    assert_eq!(bench.at(3, Event::Healthy(B)), [Action::Launch(A)]);
    assert_eq!(bench.at(3, Event::Executed(A)), [Action::Ready]);
    // It has been healthy once: whoever came after it is started again without asking.
    bench.at(20, Event::Ended(B, End::Exited(1)));
    bench.at(20, Event::Ended(A, End::Exited(1)));
    let launched = bench.at(21, Event::Tick);
    assert_eq!(launched, [Action::Launch(A), Action::Launch(B)]);
    // Stopping goes backwards along it.
    bench.at(21, Event::Executed(A));
    bench.at(21, Event::Executed(B));
    assert_eq!(bench.at(22, Event::StopAll), [Action::Signal(A, 15)]);
}

#[test]
fn one_that_dies_at_once_is_started_again_ever_more_slowly_and_holds_nobody_up() {
    let mut bench = Bench::of(&[container("a", &[]), container("b", &[])]);
    assert_eq!(
        bench.at(0, Event::Begin),
        [Action::Launch(A), Action::Launch(B)]
    );
    bench.at(0, Event::Executed(B));
    let mut now_s = 0;
    for pause_s in [1, 2, 4, 4] {
        assert_eq!(
            bench.at(now_s, Event::Executed(A)).contains(&Action::Ready),
            now_s == 0
        );
        assert_eq!(bench.at(now_s, Event::Ended(A, End::Exited(1))), []);
        assert_eq!(bench.state(A), "backoff");
        assert_eq!(bench.0.deadline_us(), Some((now_s + pause_s) * S));
        assert_eq!(bench.at(now_s + pause_s - 1, Event::Tick), []);
        now_s += pause_s;
        assert_eq!(bench.at(now_s, Event::Tick), [Action::Launch(A)]);
    }
    assert_eq!(bench.state(B), "running");
    assert_eq!(bench.0.state(A).map(|(_, restarts)| restarts), Some(4));
}

#[test]
fn policies_decide_who_is_started_again() {
    for (policy, end, state) in [
        (RestartPolicy::Always, End::Exited(0), "backoff"),
        (RestartPolicy::Always, End::Signaled(9), "backoff"),
        (RestartPolicy::OnFailure, End::Exited(0), "ended"),
        (RestartPolicy::OnFailure, End::Exited(3), "backoff"),
        (RestartPolicy::OnFailure, End::NotStarted, "backoff"),
        (RestartPolicy::No, End::Exited(0), "ended"),
        (RestartPolicy::No, End::Signaled(11), "failed"),
    ] {
        let mut one = container("a", &[]);
        one.restart.policy = policy;
        let mut bench = Bench::of(&[one]);
        bench.at(0, Event::Begin);
        bench.at(0, Event::Executed(A));
        bench.at(1, Event::Ended(A, end));
        assert_eq!(bench.state(A), state, "{policy:?} {end:?}");
    }
}

#[test]
fn a_job_that_is_done_still_counts_as_started() {
    let mut job = container("a", &[]);
    job.restart.policy = RestartPolicy::No;
    let mut bench = Bench::of(&[job, container("b", &["a"])]);
    bench.at(0, Event::Begin);
    // It is over before its start was even noticed elsewhere.
    assert_eq!(bench.at(0, Event::Executed(A)), [Action::Launch(B)]);
    bench.at(0, Event::Ended(A, End::Exited(0)));
    assert_eq!(bench.at(0, Event::Executed(B)), [Action::Ready]);
}

#[test]
fn stopping_goes_backwards_with_signal_then_time_then_kill() {
    let mut bench = Bench::of(&[container("a", &[]), container("b", &["a"])]);
    bench.at(0, Event::Begin);
    bench.at(0, Event::Executed(A));
    bench.at(0, Event::Executed(B));
    assert_eq!(bench.at(1, Event::StopAll), [Action::Signal(B, 15)]);
    assert_eq!(bench.at(10, Event::Tick), []);
    assert_eq!(bench.at(11, Event::Tick), [Action::Kill(B)]);
    assert_eq!(
        bench.at(11, Event::Ended(B, End::Signaled(9))),
        [Action::Signal(A, 15)]
    );
    assert_eq!(
        bench.at(12, Event::Ended(A, End::Exited(0))),
        [Action::Stopped]
    );
}

#[test]
fn what_does_not_even_die_is_given_up_so_that_shutdown_ends() {
    let mut bench = Bench::of(&[container("a", &[])]);
    bench.at(0, Event::Begin);
    bench.at(0, Event::Executed(A));
    bench.at(0, Event::StopAll);
    assert_eq!(bench.at(10, Event::Tick), [Action::Kill(A)]);
    assert_eq!(
        bench.at(15, Event::Tick),
        [Action::GiveUp(A), Action::Stopped]
    );
    assert!(bench.0.longest_stop_us() >= 15 * S);
}

#[test]
fn killing_all_at_once_waits_for_nobody() {
    let mut bench = Bench::of(&[
        container("a", &[]),
        container("b", &["a"]),
        container("c", &["b"]),
    ]);
    bench.at(0, Event::Begin);
    bench.at(0, Event::Executed(A));
    bench.at(0, Event::Executed(B));
    let asked = bench.at(0, Event::StopAll);
    assert_eq!(asked, [Action::Kill(C)], "c was only being set up");
    assert_eq!(
        bench.at(0, Event::KillAll),
        [Action::Kill(A), Action::Kill(B)]
    );
}

#[test]
fn a_machine_without_containers_is_ready_and_stopped_at_once() {
    let mut bench = Bench::of(&[]);
    assert_eq!(bench.at(0, Event::Begin), [Action::Ready]);
    assert_eq!(bench.at(0, Event::StopAll), [Action::Stopped]);
}

/// What must hold after every event whatever came before.
struct Invariants {
    launched: Vec<bool>,
    stop_asked: bool,
    ready: u32,
    stopped: u32,
}

impl Invariants {
    fn of(count: usize) -> Self {
        Self {
            launched: vec![false; count],
            stop_asked: false,
            ready: 0,
            stopped: 0,
        }
    }

    /// Follows an event and what came of it.
    fn check(&mut self, supervisor: &Supervisor, now_us: u64, event: Event, actions: &[Action]) {
        self.stop_asked |= matches!(event, Event::StopAll | Event::KillAll);
        if let Event::Ended(id, _) | Event::LaunchFailed(id) = event {
            self.launched[id.0] = false;
        }
        for action in actions {
            match *action {
                Action::Launch(id) => {
                    assert!(!self.stop_asked, "nothing starts after a stop");
                    assert!(!self.launched[id.0], "never two processes of one container");
                    self.launched[id.0] = true;
                    for other in &supervisor.units[id.0].after.all {
                        assert!(supervisor.units[other.0].has_started);
                    }
                    for other in &supervisor.units[id.0].after.healthy {
                        assert!(supervisor.units[other.0].has_been_healthy);
                    }
                }
                Action::Signal(id, _) => {
                    assert!(self.launched[id.0] && self.stop_asked);
                    for (index, other) in supervisor.units.iter().enumerate() {
                        let later = other.after.all.contains(&id) && index != id.0;
                        assert!(!later || !self.launched[index], "stopped before its users");
                    }
                }
                Action::Kill(id) => assert!(self.launched[id.0] && self.stop_asked),
                Action::GiveUp(id) => self.launched[id.0] = false,
                Action::Ready => self.ready += 1,
                Action::Stopped => {
                    self.stopped += 1;
                    assert!(!self.launched.contains(&true), "all stopped but one lives");
                }
            }
        }
        assert!(self.ready <= 1 && self.stopped <= 1);
        for (index, unit) in supervisor.units.iter().enumerate() {
            assert_eq!(unit.state.is_alive(), self.launched[index], "{unit:?}");
        }
        if supervisor.goal != Goal::Nothing {
            let due = supervisor.deadline_us();
            assert!(
                due.is_none_or(|due| due > now_us),
                "a deadline that has passed"
            );
        }
    }
}

fn trio() -> Vec<Container> {
    let mut db = checked("db");
    db.restart.policy = RestartPolicy::OnFailure;
    let mut job = container("job", &["db"]);
    job.restart.policy = RestartPolicy::No;
    let mut web = container("web", &["job"]);
    web.after_healthy = vec!["db".into()];
    web.after_network = true;
    vec![db, job, web]
}

fn all_events() -> Vec<Event> {
    let mut events = vec![
        Event::Begin,
        Event::StateMounted,
        Event::NetworkUp,
        Event::StopAll,
        Event::KillAll,
        Event::Tick,
    ];
    for id in [A, B, C] {
        events.extend([
            Event::Launched(id),
            Event::LaunchFailed(id),
            Event::Executed(id),
            Event::Healthy(id),
        ]);
        let ends = [
            End::Exited(0),
            End::Exited(1),
            End::Signaled(9),
            End::NotStarted,
        ];
        events.extend(ends.map(|end| Event::Ended(id, end)));
    }
    events
}

/// Events that can happen: PID 1 reports on a process only while there is one.
fn possible(supervisor: &Supervisor, event: Event) -> bool {
    match event {
        Event::Launched(id) | Event::LaunchFailed(id) | Event::Executed(id) => {
            supervisor.units[id.0].state == State::Starting
        }
        Event::Ended(id, _) => supervisor.units[id.0].state.is_alive(),
        _ => true,
    }
}

/// A state without its absolute times, to see which have been visited.
fn shape(supervisor: &Supervisor) -> String {
    let units: Vec<_> = supervisor
        .units
        .iter()
        .map(|unit| {
            let state = (unit.state.name(), unit.state.is_alive());
            (state, unit.has_started, unit.has_been_healthy)
        })
        .collect();
    format!(
        "{:?} {units:?} {} {} {} {}",
        supervisor.goal,
        supervisor.network,
        supervisor.state,
        supervisor.said_ready,
        supervisor.said_stopped
    )
}

#[test]
fn every_state_that_three_containers_can_reach_keeps_the_invariants_and_can_stop() {
    let first = Supervisor::new(&trio()).expect("ordered");
    let mut seen = HashSet::from([shape(&first)]);
    let mut open = vec![(first, 0_u64, Invariants::of(3))];
    while let Some((supervisor, now_us, invariants)) = open.pop() {
        for event in all_events() {
            if !possible(&supervisor, event) {
                continue;
            }
            let mut next = supervisor.clone();
            // Time passes only with a tick, and then until something is due.
            let now_us = match event {
                Event::Tick => next.deadline_us().unwrap_or(now_us).max(now_us),
                _ => now_us,
            };
            let mut actions = Vec::new();
            next.handle(now_us, event, &mut actions);
            let mut followed = Invariants {
                launched: invariants.launched.clone(),
                ..invariants
            };
            followed.check(&next, now_us, event, &actions);
            if seen.insert(shape(&next)) {
                stops_in_bounded_time(next.clone(), now_us);
                open.push((next, now_us, followed));
            }
        }
    }
    assert!(seen.len() > 300, "only {} states were reached", seen.len());
}

/// From any state, shutdown ends without any help from the containers.
fn stops_in_bounded_time(mut supervisor: Supervisor, start_us: u64) {
    let (mut now_us, mut actions) = (start_us, Vec::new());
    supervisor.handle(now_us, Event::StopAll, &mut actions);
    while let Some(due_us) = supervisor.deadline_us() {
        now_us = due_us;
        supervisor.handle(now_us, Event::Tick, &mut actions);
        assert!(now_us - start_us <= supervisor.longest_stop_us());
    }
    assert!(supervisor.said_stopped);
}

#[test]
fn random_events_in_any_order_never_break_the_invariants() {
    // xorshift64*: the sequence is the same on every run.
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        seed ^= seed >> 12;
        seed ^= seed << 25;
        seed ^= seed >> 27;
        (seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below
    };
    for _ in 0..2_000 {
        let mut supervisor = Supervisor::new(&trio()).expect("ordered");
        let mut invariants = Invariants::of(3);
        let mut now_us = 0;
        for _ in 0..60 {
            let events = all_events();
            let event = events[random(events.len())];
            // Stops are rare, or nothing else would be seen.
            let stop = matches!(event, Event::StopAll | Event::KillAll);
            if !possible(&supervisor, event) || (stop && random(8) != 0) {
                continue;
            }
            now_us += random(3_000_000) as u64;
            let mut actions = Vec::new();
            supervisor.handle(now_us, event, &mut actions);
            invariants.check(&supervisor, now_us, event, &actions);
        }
        stops_in_bounded_time(supervisor, now_us);
    }
}

#[test]
fn events_that_cannot_happen_change_nothing() {
    let mut bench = Bench::of(&trio());
    for event in all_events() {
        if !possible(&bench.0, event) {
            assert_eq!(bench.at(0, event), [], "{event:?}");
        }
    }
    assert_eq!(bench.at(0, Event::Ended(Id(99), End::Exited(0))), []);
    assert_eq!(bench.state(A), "waiting");
}
