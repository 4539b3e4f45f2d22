//! What a publisher should know although nothing is wrong: machines that will look for nothing any
//! more, or believe somebody else, and a root file that ends soon.

use berth_provision::TRUST_ROOT_PATH;
use berth_trust::{Time, write::Repository};

use super::signing::Keys;

/// A root file that ends within this time, seconds, is told of: its holders need time to sign.
const SOON_S: u64 = 90 * 24 * 3600;

/// Sentences about a version with this root file system, published with these keys.
pub(super) fn of(root: &[u8], keys: &Keys, repository: &Repository, now: Time) -> Vec<String> {
    let mut notes = Vec::new();
    if let Ok(entries) = berth_erofs::entries(root) {
        match entries.get(TRUST_ROOT_PATH.as_bytes()) {
            None => notes.push(
                "machines of this version look for no updates, and will take no later version: \
                 its berth.toml has no [update]"
                    .to_owned(),
            ),
            Some(file) if !keys.have_root(&file.data.concat()) => notes.push(
                "machines of this version will believe another root of trust than that of these \
                 keys (trust in [update]): what comes after it must be published with its keys"
                    .to_owned(),
            ),
            Some(_) => {}
        }
    }
    let ends = repository.root().expires;
    if ends <= Time(now.0.saturating_add_unsigned(SOON_S)) {
        notes.push(format!(
            "the root file ends on {ends}, and no machine believes anything after that: berth \
             keys next drafts the one that follows it"
        ));
    }
    notes
}
