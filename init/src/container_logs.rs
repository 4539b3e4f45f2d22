//! The log role's process: keeps what containers write, apart from PID 1, which neither a flood
//! of output nor a slow disk ever stops. Reading and rotation are in `berth_containers::log`.

use std::path::Path;

use berth_containers::log;

use crate::failure::{Doing, Failure};
use crate::sys;

/// Its cgroup below /system.
pub(crate) const GROUP: &str = "log";

/// One container among the role's arguments; its output and its errors are passed in order.
pub(crate) fn argument(name: &str, keep_bytes: u64) -> String {
    format!("{name}:{keep_bytes}")
}

/// Runs the role with arguments as [`argument`] makes them, until PID 1 ends it.
pub(crate) fn run(arguments: &[&str]) -> Result<(), Failure> {
    let wanted: Vec<(&str, u64)> = arguments
        .iter()
        .map(|argument| parse(argument))
        .collect::<Result<_, _>>()?;
    let sources = log::inherited(sys::FIRST_PASSED, wanted.into_iter())
        .doing(|| "take the containers' output".to_owned())?;
    sys::restrict_bounding_set(&[]).doing(|| "give up capabilities".to_owned())?;
    log::run(Path::new(log::DIRECTORY), sources)
        .doing(|| "wait for the containers' output".to_owned())
}

fn parse(argument: &str) -> Result<(&str, u64), Failure> {
    let parts = argument.split_once(':');
    parts
        .and_then(|(name, keep)| Some((name, keep.parse().ok()?)))
        .ok_or_else(|| Failure::new(format!("{argument:?} is not NAME:BYTES")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pid_1_says_is_what_the_role_understands() {
        let said = argument("web", 8 << 20);
        assert_eq!(parse(&said), Ok(("web", 8 << 20)));
        assert!(parse("web").is_err());
    }
}
