//! What happens when a container ends, how it is asked to, and what is kept of what it said.

use berth_containers::spec::{Log, Restart, RestartPolicy};

use super::table::Table;
use super::units::{duration_ms, size_bytes};
use crate::signals;

/// Bytes of log kept for a container that says nothing.
const DEFAULT_LOG_BYTES: u64 = 8 << 20;

/// When it is started again.
pub(super) fn restart(table: &mut Table<'_>) -> Restart {
    let mut restart = Restart {
        policy: RestartPolicy::Always,
        backoff_min_ms: 1_000,
        backoff_max_ms: 60_000,
    };
    let Some(mut section) = table.table("restart") else {
        return restart;
    };
    let policy = section.parse("policy", |text| match text {
        "always" => Ok(RestartPolicy::Always),
        "on-failure" => Ok(RestartPolicy::OnFailure),
        "no" => Ok(RestartPolicy::No),
        _ => Err(format!(
            "expected \"always\", \"on-failure\" or \"no\", found {text:?}"
        )),
    });
    let backoff = section.parse("backoff", |text| {
        let (first, longest) = text
            .split_once("..")
            .ok_or_else(|| format!("expected a range like \"1s..60s\", found {text:?}"))?;
        let range = (duration_ms(first)?, duration_ms(longest)?);
        if range.0 == 0 || range.0 > range.1 {
            return Err(format!(
                "expected a first pause above zero and at most the longest, found {text:?}"
            ));
        }
        Ok(range)
    });
    section.finish();
    if let Some(policy) = policy {
        restart.policy = policy.value;
    }
    if let Some(backoff) = backoff {
        (restart.backoff_min_ms, restart.backoff_max_ms) = backoff.value;
    }
    restart
}

/// How it is asked to end: its own signal, and how long it has, milliseconds.
pub(super) fn stop(table: &mut Table<'_>) -> (Option<i32>, u64) {
    const DEFAULT_TIMEOUT_MS: u64 = 10_000;
    let Some(mut section) = table.table("stop") else {
        return (None, DEFAULT_TIMEOUT_MS);
    };
    let signal = section.parse("signal", signals::number);
    let timeout = section.parse("timeout", duration_ms);
    section.finish();
    (
        signal.map(|signal| signal.value),
        timeout.map_or(DEFAULT_TIMEOUT_MS, |timeout| timeout.value),
    )
}

/// How much of its output is kept.
pub(super) fn log(table: &mut Table<'_>) -> Log {
    let mut log = Log {
        keep_bytes: DEFAULT_LOG_BYTES,
    };
    if let Some(mut section) = table.table("log") {
        if let Some(keep) = section.parse("keep", size_bytes) {
            log.keep_bytes = keep.value;
        }
        section.finish();
    }
    log
}
