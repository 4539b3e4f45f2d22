//! What the monitor promises: by example, by walking every state that two containers can reach,
//! and by random sequences of events.

use std::collections::HashSet;

use super::*;
use crate::supervise::tests::{checked, container};

const S: u64 = 1_000_000;
const A: Id = Id(0);
const B: Id = Id(1);

/// A container that is asked every 5 s for 1 s, may fail 20 s long and is unhealthy after 3.
fn monitor(count: usize) -> Monitor {
    let containers: Vec<Container> = (0..count).map(|n| checked(&format!("c{n}"))).collect();
    Monitor::new(&containers)
}

struct Bench(Monitor);

impl Bench {
    fn at(&mut self, now_us: u64, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.0.handle(now_us, event, &mut actions);
        actions
    }

    /// Probes and answers until `until_us`; the times of the probes and what came of them.
    fn run(&mut self, until_us: u64, mut answer: impl FnMut(u64) -> Outcome) -> Vec<(u64, State)> {
        let mut seen = Vec::new();
        while let Some(now_us) = self.0.deadline_us().filter(|due| *due <= until_us) {
            for action in self.at(now_us, Event::Tick) {
                if let Action::Probe(id) = action {
                    self.at(now_us, Event::Probed(id, answer(now_us)));
                    seen.push((now_us, self.state(id)));
                }
            }
        }
        seen
    }

    fn state(&self, id: Id) -> State {
        self.0.health(id).expect("a check").state
    }

    fn turned(actions: &[Action]) -> Vec<State> {
        let turned = |action: &Action| match action {
            Action::Turned(_, state) => Some(*state),
            _ => None,
        };
        actions.iter().filter_map(turned).collect()
    }
}

#[test]
fn a_container_that_comes_up_is_found_healthy_soon_and_then_asked_at_its_own_pace() {
    let mut bench = Bench(monitor(1));
    assert_eq!(
        bench.at(0, Event::Executed(A)),
        [Action::Turned(A, State::Starting)]
    );
    let up_us = 1_600_000;
    let seen = bench.run(16 * S, |now_us| match now_us >= up_us {
        true => Outcome::Good,
        false => Outcome::Bad,
    });
    let times: Vec<u64> = seen.iter().map(|(at, _)| at / 100_000).collect();
    assert_eq!(times, [1, 3, 7, 15, 31, 63, 113], "tenths of a second");
    assert_eq!(seen[3].1, State::Starting);
    assert_eq!(seen[4].1, State::Healthy);
    assert_eq!(bench.0.health(A).expect("a check").since_us, 3_100_000);
}

#[test]
fn failures_in_the_start_period_do_not_count_and_three_after_it_do() {
    let mut bench = Bench(monitor(1));
    bench.at(0, Event::Executed(A));
    let seen = bench.run(60 * S, |_| Outcome::Bad);
    let first = seen
        .iter()
        .position(|(_, state)| *state == State::Unhealthy);
    let first = first.expect("unhealthy in the end");
    let counted = seen[..=first].iter().filter(|(at, _)| *at >= 20 * S);
    assert_eq!(counted.count(), 3);
    assert!(seen[first].0 <= 20 * S + 3 * 5 * S, "{seen:?}");
}

#[test]
fn single_failures_are_forgiven_and_one_good_probe_heals() {
    let mut bench = Bench(monitor(1));
    bench.at(0, Event::Executed(A));
    // In turns: two bad, one good.
    let mut count = 0;
    let seen = bench.run(100 * S, |_| {
        count += 1;
        match count % 3 {
            1 => Outcome::Good,
            _ => Outcome::Bad,
        }
    });
    assert!(seen.iter().all(|(_, state)| *state == State::Healthy));
    bench.run(200 * S, |_| Outcome::Bad);
    assert_eq!(bench.state(A), State::Unhealthy);
    let now_us = bench.0.deadline_us().expect("a probe");
    bench.at(now_us, Event::Tick);
    let healed = bench.at(now_us + 1, Event::Probed(A, Outcome::Good));
    assert_eq!(healed, [Action::Turned(A, State::Healthy)]);
    assert_eq!(bench.0.health(A).expect("a check").fails, 0);
}

#[test]
fn a_probe_that_hangs_is_killed_counts_as_failed_and_never_runs_twice() {
    let mut bench = Bench(monitor(1));
    bench.at(0, Event::Executed(A));
    bench.run(S, |_| Outcome::Good);
    let mut now_us = bench.0.deadline_us().expect("a probe");
    assert_eq!(bench.at(now_us, Event::Tick), [Action::Probe(A)]);
    let mut kills = 0;
    while bench.state(A) != State::Unhealthy {
        now_us = bench.0.deadline_us().expect("a deadline");
        let actions = bench.at(now_us, Event::Tick);
        assert!(!actions.contains(&Action::Probe(A)));
        kills += actions.iter().filter(|a| **a == Action::Kill(A)).count();
    }
    assert_eq!(kills, 3);
    // It ends at last; the next is asked soon.
    assert_eq!(bench.at(now_us, Event::Probed(A, Outcome::Bad)), []);
    let due_us = bench.0.deadline_us().expect("a probe");
    assert!(due_us <= now_us + 5 * S);
    assert_eq!(bench.at(due_us, Event::Tick), [Action::Probe(A)]);
}

#[test]
fn an_answer_about_a_run_that_is_over_says_nothing_about_the_next() {
    let mut bench = Bench(monitor(1));
    bench.at(0, Event::Executed(A));
    assert_eq!(bench.at(S / 10, Event::Tick), [Action::Probe(A)]);
    assert_eq!(
        bench.at(S / 5, Event::Ended(A)),
        [Action::Turned(A, State::Down), Action::Kill(A)]
    );
    bench.at(S, Event::Executed(A));
    assert_eq!(bench.at(S, Event::Probed(A, Outcome::Good)), []);
    assert_eq!(bench.state(A), State::Starting);
    let next_us = bench.0.deadline_us().expect("a probe");
    assert_eq!(next_us, S + S / 10);
}

#[test]
fn shutdown_kills_probes_and_starts_none() {
    let mut bench = Bench(monitor(2));
    bench.at(0, Event::Executed(A));
    bench.at(0, Event::Executed(B));
    bench.at(S / 10, Event::Tick);
    let actions = bench.at(S, Event::StopAll);
    assert_eq!(actions, [Action::Kill(A), Action::Kill(B)]);
    bench.at(S, Event::Probed(A, Outcome::Bad));
    assert_eq!(bench.at(100 * S, Event::Tick), [Action::Kill(B)]);
    bench.at(100 * S, Event::Probed(B, Outcome::Bad));
    assert_eq!(bench.0.deadline_us(), None);
}

#[test]
fn no_more_probes_run_at_once_than_the_machine_can_hold_and_all_get_their_turn() {
    let count = 3 * MOST_AT_ONCE;
    let mut bench = Bench(monitor(count));
    for n in 0..count {
        bench.at(0, Event::Executed(Id(n)));
    }
    let mut asked = HashSet::new();
    let mut open: Vec<Id> = Vec::new();
    let mut now_us = S / 10;
    while asked.len() < count {
        let mut actions = bench.at(now_us, Event::Tick);
        for id in std::mem::take(&mut open) {
            actions.extend(bench.at(now_us, Event::Probed(id, Outcome::Good)));
        }
        open.extend(actions.iter().filter_map(|action| match action {
            Action::Probe(id) => Some(*id),
            _ => None,
        }));
        assert!(open.len() <= MOST_AT_ONCE);
        assert!(bench.0.deadline_us().is_some_and(|due| due > now_us));
        asked.extend(open.iter().map(|id| id.0));
        now_us += 1_000;
    }
    assert!(now_us < S, "nobody waits for a second round");
}

#[test]
fn a_container_without_a_check_is_never_asked() {
    let mut bench = Bench(Monitor::new(&[container("a", &[])]));
    assert_eq!(bench.at(0, Event::Executed(A)), []);
    assert_eq!(bench.at(0, Event::Probed(A, Outcome::Good)), []);
    assert_eq!(bench.at(0, Event::Ended(Id(7))), []);
    assert_eq!(bench.0.deadline_us(), None);
    assert_eq!(bench.0.health(A), None);
}

/// What must hold after every event whatever came before.
#[derive(Clone)]
struct Invariants {
    /// Of each container: runs since, probe out, and whether that is about this run.
    units: Vec<(Option<u64>, bool, bool)>,
    states: Vec<State>,
    stopped: bool,
}

impl Invariants {
    fn of(count: usize) -> Self {
        Self {
            units: vec![(None, false, false); count],
            states: vec![State::Down; count],
            stopped: false,
        }
    }

    fn check(&mut self, monitor: &Monitor, now_us: u64, event: Event, actions: &[Action]) {
        let mut good = None;
        match event {
            Event::Executed(id) => self.units[id.0].0 = self.units[id.0].0.or(Some(now_us)),
            Event::Ended(id) => {
                self.units[id.0].0 = None;
                self.units[id.0].2 = false;
            }
            Event::Probed(id, outcome) => {
                let (_, out, counts) = &mut self.units[id.0];
                good = (*out && *counts && outcome == Outcome::Good).then_some(id);
                *out = false;
            }
            Event::StopAll => {
                self.stopped = true;
                self.units.iter_mut().for_each(|unit| unit.2 = false);
            }
            Event::Tick => {}
        }
        for action in actions {
            match *action {
                Action::Probe(id) => {
                    let unit = &mut self.units[id.0];
                    assert!(!self.stopped && unit.0.is_some() && !unit.1);
                    (unit.1, unit.2) = (true, true);
                }
                Action::Kill(id) => assert!(self.units[id.0].1, "killed what is not there"),
                Action::Turned(id, state) => {
                    assert_ne!(self.states[id.0], state, "turned to where it was");
                    self.states[id.0] = state;
                    let health = monitor.health(id).expect("a check");
                    assert_eq!((health.state, health.since_us), (state, now_us));
                    match state {
                        State::Down => assert_eq!(event, Event::Ended(id)),
                        State::Starting => assert_eq!(event, Event::Executed(id)),
                        State::Healthy => assert_eq!(good, Some(id)),
                        State::Unhealthy => assert_eq!(health.fails, 3),
                    }
                }
            }
        }
        assert!(self.units.iter().filter(|unit| unit.1).count() <= MOST_AT_ONCE);
        for (index, (since, out, _)) in self.units.iter().enumerate() {
            let health = monitor.health(Id(index)).expect("a check");
            assert_eq!(health.state == State::Down, since.is_none());
            assert_eq!(health.state, self.states[index]);
            let unit = monitor.units[index].as_ref().expect("a check");
            assert_eq!(unit.probe.is_some(), *out);
        }
        let due = monitor.deadline_us();
        assert!(due.is_none_or(|due| due > now_us), "a deadline has passed");
        // Whoever runs has a next probe, or one out; nothing is ever forgotten.
        let someone = self.units.iter().any(|unit| unit.0.is_some());
        assert!(due.is_some() || !someone || self.stopped);
    }
}

fn all_events(count: usize) -> Vec<Event> {
    let mut events = vec![Event::Tick, Event::StopAll];
    for id in (0..count).map(Id) {
        events.extend([
            Event::Executed(id),
            Event::Ended(id),
            Event::Probed(id, Outcome::Good),
            Event::Probed(id, Outcome::Bad),
        ]);
    }
    events
}

/// A state without its absolute times, to see which have been visited.
fn shape(monitor: &Monitor) -> String {
    let units = monitor.units.iter().flatten().map(|unit| {
        let probe = unit.probe.map(|probe| probe.counts);
        let age = unit.due_us.saturating_sub(unit.executed_us) >= unit.check.start_us;
        (unit.health.state, unit.health.fails.min(4), probe, age)
    });
    format!("{} {:?}", monitor.stopping, units.collect::<Vec<_>>())
}

#[test]
fn every_state_that_two_containers_can_reach_keeps_the_invariants_and_can_heal() {
    let first = monitor(2);
    let mut seen = HashSet::from([shape(&first)]);
    let mut open = vec![(first, 0_u64, Invariants::of(2))];
    while let Some((monitor, now_us, invariants)) = open.pop() {
        for event in all_events(2) {
            let mut next = monitor.clone();
            // Time passes only with a tick, and then until something is due.
            let now_us = match event {
                Event::Tick => next.deadline_us().unwrap_or(now_us).max(now_us),
                _ => now_us,
            };
            let mut actions = Vec::new();
            next.handle(now_us, event, &mut actions);
            let mut followed = invariants.clone();
            followed.check(&next, now_us, event, &actions);
            if seen.insert(shape(&next)) {
                heals(next.clone(), now_us);
                open.push((next, now_us, followed));
            }
        }
    }
    assert!(seen.len() > 500, "only {} states were reached", seen.len());
}

/// From any state, whoever runs and answers well is healthy within a bounded time.
fn heals(monitor: Monitor, start_us: u64) {
    if monitor.stopping {
        return;
    }
    let mut bench = Bench(monitor);
    for id in [A, B] {
        // What is out answers or is killed; then the next probe is good.
        bench.at(start_us, Event::Probed(id, Outcome::Bad));
    }
    let running = [A, B].map(|id| bench.state(id) != State::Down);
    bench.run(start_us + 5 * S + S, |_| Outcome::Good);
    for (id, runs) in [A, B].into_iter().zip(running) {
        assert_eq!(bench.state(id) == State::Healthy, runs);
    }
}

#[test]
fn random_events_in_any_order_never_break_the_invariants() {
    // xorshift64*: the sequence is the same on every run.
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        seed ^= seed >> 12;
        seed ^= seed << 25;
        seed ^= seed >> 27;
        (seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below
    };
    let count = MOST_AT_ONCE + 4;
    let mut turned = 0;
    for _ in 0..500 {
        let mut monitor = monitor(count);
        let mut invariants = Invariants::of(count);
        let mut now_us = 0;
        for _ in 0..200 {
            let events = all_events(count);
            let event = events[random(events.len())];
            // Ends are rare, or nothing else would be seen.
            let rare = matches!(event, Event::StopAll | Event::Ended(_));
            if rare && random(12) != 0 {
                continue;
            }
            now_us += random(1_500_000) as u64;
            let mut actions = Vec::new();
            monitor.handle(now_us, event, &mut actions);
            invariants.check(&monitor, now_us, event, &actions);
            turned += Bench::turned(&actions).len();
        }
    }
    assert!(turned > 5_000, "only {turned} changes");
}
