//! The loopback interface, so that containers on the host network find 127.0.0.1 at once.

use crate::failure::{Doing, Failure};
use crate::sys;

/// Switches it on.
pub(crate) fn raise() -> Result<(), Failure> {
    sys::raise_loopback().doing(|| "switch the loopback interface on".to_owned())
}
