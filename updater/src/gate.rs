//! Whether the containers of a version on trial are as they should be.

use berth_provision::status::{ContainerStatus, Status};

/// What must hold.
pub(crate) struct Rule<'a> {
    pub(crate) names: &'a [String],
    pub(crate) hold_us: u64,
    pub(crate) within_us: u64,
}

/// What follows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Waiting(String),
    Good,
    Failed(String),
}

/// Judges.
pub(crate) fn judge(status: &Status, rule: &Rule<'_>, now_us: u64) -> Verdict {
    let asked = |one: &&ContainerStatus| rule.names.is_empty() || rule.names.contains(&one.name);
    let mut holds = true;
    for one in status.containers.iter().filter(asked) {
        let since = match one.state.as_str() {
            "ended" => Some(0),
            "running" => one.started_us,
            _ => None,
        };
        match since {
            Some(since) if now_us.saturating_sub(since) >= rule.hold_us || since == 0 => {}
            Some(_) => holds = false,
            None => {
                let what = format!("container {} was {}", one.name, one.state);
                return match now_us > rule.within_us {
                    true => Verdict::Failed(what),
                    false => Verdict::Waiting(what),
                };
            }
        }
    }
    match holds {
        true => Verdict::Good,
        false => Verdict::Waiting("the containers have not run for long enough".into()),
    }
}
