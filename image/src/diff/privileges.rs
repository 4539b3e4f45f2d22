//! What may do more than before, and what less: said first, because it is what a reviewer must
//! not miss.

use std::collections::BTreeSet;

use berth_containers::spec::Container;

use super::files::Tree;
use crate::privileges::{capabilities, has_every_capability, opened};

/// Set-user-id and set-group-id.
const SET_ID: u16 = 0o6000;
const FILE_CAPABILITIES: &[u8] = b"security.capability";

/// Sentences.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) more: Vec<String>,
    pub(super) less: Vec<String>,
}

impl Changes {
    /// Compares a container's two versions, one of which may be missing.
    pub(super) fn container(&mut self, old: Option<&Container>, new: Option<&Container>) {
        let Some(name) = new.or(old).map(|one| one.name.as_str()) else {
            return;
        };
        let (before, now) = (old.map(granted), new.map(granted));
        let (before, now) = (before.unwrap_or_default(), now.unwrap_or_default());
        let every = |one: Option<&Container>| one.is_some_and(has_every_capability);
        // Forty single names say less than the one sentence.
        let told = |grant: &&String, side: Option<&Container>| {
            !(every(side) && grant.starts_with(CAPABILITY))
        };
        let say = |grant: &String| format!("container {name}: {grant}");
        let gained = now.difference(&before).filter(|grant| told(grant, new));
        self.more.extend(gained.map(say));
        let lost = before.difference(&now).filter(|grant| told(grant, old));
        self.less.extend(lost.map(say));
    }

    /// Compares programs that give privileges to whoever starts them, where the container lets
    /// them.
    pub(super) fn files(&mut self, old: &Tree<'_>, new: &Tree<'_>) {
        let (before, now) = (raising(old), raising(new));
        self.more.extend(now.difference(&before).cloned());
        self.less.extend(before.difference(&now).cloned());
    }
}

const CAPABILITY: &str = "capability ";

/// Everything that was opened for it, each on its own.
fn granted(container: &Container) -> BTreeSet<String> {
    let oci = &container.oci;
    let mut list: BTreeSet<String> = opened(container).into_iter().map(str::to_owned).collect();
    list.extend(capabilities(container).map(|name| format!("{CAPABILITY}{name}")));
    if has_every_capability(container) {
        list.insert("every capability".to_owned());
    }
    let devices = oci.linux.devices.iter();
    list.extend(devices.map(|device| format!("device {}", device.path)));
    if oci.process.user.uid == 0 {
        list.insert("runs as user 0".to_owned());
    }
    for mount in &oci.mounts {
        let source = mount.source.as_deref().unwrap_or_default();
        if source.starts_with('/') {
            let read_only = mount.options.iter().any(|option| option == "ro");
            let does = if read_only { "reads" } else { "writes" };
            list.insert(format!("{does} the machine's {source}"));
        }
    }
    list
}

fn raising(tree: &Tree<'_>) -> BTreeSet<String> {
    let mut list = BTreeSet::new();
    for (path, entry) in tree.entries() {
        if !entry.is_file() || !tree.may_gain_privileges(path) {
            continue;
        }
        if entry.mode & SET_ID != 0 {
            let owner = (entry.uid, entry.gid);
            let bits = entry.mode & 0o7777;
            list.insert(format!(
                "{path} is set-id ({bits:04o}, owner {}:{})",
                owner.0, owner.1
            ));
        }
        if entry.xattrs.contains_key(FILE_CAPABILITIES) {
            list.insert(format!("{path} has file capabilities"));
        }
    }
    list
}
