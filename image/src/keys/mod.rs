//! `berth keys` and `berth sign`: who may sign updates, and the files that say so.
//!
//! Keys are files in PEM: the private half readable by its owner alone, the public half beside it
//! as `.pub`. Nothing is ever overwritten. docs/trust.md says which key does what and who keeps it.

mod error;
mod files;
mod root;
mod set;

use std::path::Path;

use berth_trust::write::KeyRecord;

pub use error::KeysError;
pub use files::{read_private, read_public};
pub use root::{Change, Description, Signed, describe, next_root, sign};
pub use set::{NewSet, Set, new_set};

/// The directory of a key set below which the root's holders are.
const ROOT: &str = "root";
/// The directory of a key set with the keys that publishing needs.
const ONLINE: &str = "online";

/// Makes one key: `path` and its public half beside it.
///
/// # Errors
///
/// When one of the files is there already or cannot be written, or `path` is a public half's name.
pub fn new_key(path: &Path) -> Result<KeyRecord, KeysError> {
    if files::public_path(path) == path {
        return Err(KeysError::PublicName(path.to_owned()));
    }
    files::refuse_existing(&[path.to_owned(), files::public_path(path)])?;
    files::write_key(path)
}

/// The present, seconds since 1970.
fn now_s() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    now.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

/// The time this many days from now.
fn in_days(days: u32) -> berth_trust::Time {
    berth_trust::Time(now_s().saturating_add(i64::from(days) * 86_400))
}
