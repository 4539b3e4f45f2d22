//! Whether a machine is good enough to keep the version that it runs: what an update's commit
//! asks of the containers.
//!
//! A pure function of [`Status`], which PID 1 publishes and knows no more about. Whether the
//! network has what its configuration asked for is another question (`status.networks`).

use crate::status::{ContainerStatus, HealthState, Status};

/// A status that is older than this says nothing about now: PID 1 renews it every 10 s.
const STALE_US: u64 = 30_000_000;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule<'a> {
    /// Names of the containers that count; none given: all of them.
    pub names: &'a [String],
    /// How long all of it must have held without a break, microseconds.
    pub hold_us: u64,
    /// Until when everything must be good, microseconds since the kernel started.
    pub within_us: u64,
}

/// What the answer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not yet; the sentence says what is waited for.
    Waiting(String),
    /// Everything that was asked for holds.
    Good,
    /// It does not, and the time is over or nothing will change; the sentence says what is wrong.
    Failed(String),
}

/// Judges the machine as `status` describes it, at `now_us` since the kernel started.
///
/// A container with a check is good while it is healthy, one without while it runs; one that has
/// ended and is not to be started again is good when it ended well. Whoever becomes good in time
/// is waited for until it has been good for long enough.
#[must_use]
pub fn judge(status: &Status, rule: &Rule<'_>, now_us: u64) -> Verdict {
    let in_time = now_us <= rule.within_us;
    let not_good = |sentence: String| match in_time {
        true => Verdict::Waiting(sentence),
        false => Verdict::Failed(sentence),
    };
    let known = |name: &&String| status.containers.iter().any(|one| one.name == **name);
    let age_us = now_us.saturating_sub(status.uptime_us);
    if age_us > STALE_US {
        return not_good(format!(
            "the machine has not said how its containers are for {} s",
            age_us / 1_000_000
        ));
    }
    // Before they are begun, or when they cannot be, the list is empty too.
    if status.containers.is_empty() && status.ready_us.is_none() {
        return not_good("the machine's containers have not begun".to_owned());
    }
    if let Some(name) = rule.names.iter().find(|name| !known(name)) {
        return Verdict::Failed(format!(
            "the update waits for container {name}, which this version does not have"
        ));
    }
    let counts = |one: &&ContainerStatus| rule.names.is_empty() || rule.names.contains(&one.name);
    let (mut since_us, mut bad, mut lost) = (0, None, None);
    for one in status.containers.iter().filter(counts) {
        match stands(one) {
            Stand::Good { since_us: since } => since_us = since.max(since_us),
            Stand::Bad(why) => bad = bad.or(Some(why)),
            Stand::Lost(why) => lost = lost.or(Some(why)),
        }
    }
    if let Some(why) = lost {
        return Verdict::Failed(why);
    }
    if let Some(why) = bad {
        return not_good(why);
    }
    let left_us = since_us.saturating_add(rule.hold_us).saturating_sub(now_us);
    match left_us {
        0 => Verdict::Good,
        _ => Verdict::Waiting(format!(
            "all containers are good, and have to stay so for {} s more",
            left_us.div_ceil(1_000_000)
        )),
    }
}

/// How one container stands.
enum Stand {
    /// As it should.
    Good {
        /// Since when.
        since_us: u64,
    },
    /// Not as it should.
    Bad(String),
    /// Not as it should, and nothing will change that.
    Lost(String),
}

fn stands(one: &ContainerStatus) -> Stand {
    let name = &one.name;
    let ended = match &one.last_exit {
        Some(exit) => format!(", and ended with {exit} before"),
        None => String::new(),
    };
    match (one.state.as_str(), &one.health, one.started_us) {
        ("ended", ..) => Stand::Good { since_us: 0 },
        ("failed", ..) => Stand::Lost(format!("container {name} has failed for good{ended}")),
        ("running", Some(health), _) => match (health.state, &health.sentence) {
            (HealthState::Healthy, _) => Stand::Good {
                since_us: health.since_us,
            },
            (state, None) => Stand::Bad(format!("container {name} is {}{ended}", state.name())),
            (state, Some(why)) => Stand::Bad(format!(
                "container {name} is {}: {why}{ended}",
                state.name()
            )),
        },
        ("running", None, Some(since_us)) => Stand::Good { since_us },
        (state, ..) => Stand::Bad(format!("container {name} is {state}{ended}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::HealthStatus;

    const S: u64 = 1_000_000;

    fn running(name: &str, since_us: u64) -> ContainerStatus {
        ContainerStatus {
            name: name.into(),
            image: String::new(),
            state: "running".into(),
            pid: Some(100),
            restarts: 0,
            started_us: Some(since_us),
            health: None,
            last_exit: None,
            memory: None,
        }
    }

    fn checked(name: &str, state: HealthState, since_us: u64) -> ContainerStatus {
        ContainerStatus {
            health: Some(HealthStatus {
                state,
                since_us,
                fails: 0,
                sentence: (state == HealthState::Unhealthy).then(|| "status 500".into()),
            }),
            ..running(name, S)
        }
    }

    fn other(name: &str, state: &str) -> ContainerStatus {
        ContainerStatus {
            state: state.into(),
            started_us: None,
            last_exit: Some("status 1".into()),
            ..running(name, 0)
        }
    }

    fn judged(containers: &[ContainerStatus], names: &[&str], now_us: u64) -> Verdict {
        let status = Status {
            containers: containers.to_vec(),
            uptime_us: now_us,
            ..Status::default()
        };
        let names: Vec<String> = names.iter().map(|name| (*name).into()).collect();
        let rule = Rule {
            names: &names,
            hold_us: 10 * S,
            within_us: 60 * S,
        };
        judge(&status, &rule, now_us)
    }

    #[test]
    fn all_count_unless_some_are_named() {
        let healthy = checked("web", HealthState::Healthy, 5 * S);
        let unhealthy = checked("db", HealthState::Unhealthy, 5 * S);
        let both = [healthy, unhealthy, running("log", 2 * S)];
        assert_eq!(judged(&both, &["web"], 20 * S), Verdict::Good);
        assert_eq!(
            judged(&both, &[], 20 * S),
            Verdict::Waiting("container db is unhealthy: status 500".into())
        );
        assert_eq!(
            judged(&both, &["web", "db"], 61 * S),
            Verdict::Failed("container db is unhealthy: status 500".into())
        );
    }

    #[test]
    fn good_has_to_last_without_a_break_and_a_restart_begins_it_anew() {
        let since = |web_s: u64, log_s: u64| {
            [
                checked("web", HealthState::Healthy, web_s * S),
                running("log", log_s * S),
            ]
        };
        assert_eq!(judged(&since(5, 2), &[], 15 * S), Verdict::Good);
        assert_eq!(
            judged(&since(5, 2), &[], 15 * S - 1),
            Verdict::Waiting("all containers are good, and have to stay so for 1 s more".into())
        );
        // It crashed at 14 s and runs again.
        assert!(matches!(
            judged(&since(5, 14), &[], 20 * S),
            Verdict::Waiting(_)
        ));
        // Good in time, and not yet for long enough when the time is over.
        assert!(matches!(
            judged(&since(5, 55), &[], 61 * S),
            Verdict::Waiting(_)
        ));
        assert_eq!(judged(&since(5, 55), &[], 65 * S), Verdict::Good);
    }

    #[test]
    fn whatever_is_not_as_it_should_be_is_named_with_its_last_end() {
        for state in ["waiting", "starting", "backoff", "stopping"] {
            let all = [other("web", state)];
            let why = format!("container web is {state}, and ended with status 1 before");
            assert_eq!(judged(&all, &[], S), Verdict::Waiting(why.clone()));
            assert_eq!(judged(&all, &[], 61 * S), Verdict::Failed(why));
        }
        for state in [HealthState::Down, HealthState::Starting] {
            let all = [checked("web", state, S)];
            assert!(matches!(judged(&all, &[], 30 * S), Verdict::Waiting(_)));
        }
    }

    #[test]
    fn what_can_never_become_good_fails_at_once() {
        assert_eq!(
            judged(&[other("job", "failed")], &[], S),
            Verdict::Failed(
                "container job has failed for good, and ended with status 1 before".into()
            )
        );
        assert!(matches!(
            judged(&[running("web", 0)], &["wbe"], S),
            Verdict::Failed(why) if why.contains("wbe")
        ));
    }

    #[test]
    fn a_job_that_ended_well_is_good() {
        let all = [other("job", "ended"), running("web", S)];
        assert_eq!(judged(&all, &[], 11 * S), Verdict::Good);
    }

    #[test]
    fn a_machine_without_containers_is_good_and_one_that_could_not_begin_them_is_not() {
        assert!(matches!(judged(&[], &[], S), Verdict::Waiting(_)));
        assert!(matches!(judged(&[], &[], 61 * S), Verdict::Failed(_)));
        let status = Status {
            uptime_us: S,
            ready_us: Some(S),
            ..Status::default()
        };
        let rule = Rule {
            names: &[],
            hold_us: 0,
            within_us: 60 * S,
        };
        assert_eq!(judge(&status, &rule, S), Verdict::Good);
        let web = ["web".to_owned()];
        let asked = Rule {
            names: &web,
            ..rule
        };
        assert!(matches!(judge(&status, &asked, S), Verdict::Failed(_)));
    }

    #[test]
    fn an_old_status_says_nothing() {
        let status = Status {
            containers: vec![running("web", 0)],
            uptime_us: S,
            ..Status::default()
        };
        let rule = Rule {
            names: &[],
            hold_us: S,
            within_us: 60 * S,
        };
        assert_eq!(judge(&status, &rule, 31 * S), Verdict::Good);
        assert!(matches!(
            judge(&status, &rule, 32 * S),
            Verdict::Waiting(why) if why.contains("31 s")
        ));
        assert!(matches!(judge(&status, &rule, 62 * S), Verdict::Failed(_)));
    }
}
