//! Keys of `machine.json` that differ, under their own names.
//!
//! Lists of things with a name are compared by the name, so that one more in front changes nothing
//! behind it.

use std::collections::BTreeMap;

use berth_containers::spec::Container;
use berth_provision::Machine;
use serde::Serialize;
use serde_json::Value;

/// One key with another value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KeyChange {
    /// Where it is: names with dots between them, `[NAME]` for one of a list.
    pub key: String,
    /// Its value before; nothing when it is new.
    pub old: Option<Value>,
    /// Its value now; nothing when it is gone.
    pub new: Option<Value>,
}

/// Keys that name one of a list.
const NAMES: [&str; 4] = ["name", "destination", "path", "type"];

/// The sets of capabilities: the one that bounds the others, and those.
const SETS: [&str; 5] = [
    "bounding",
    "effective",
    "inheritable",
    "permitted",
    "ambient",
];

/// What differs between two versions of a container, but for its image.
pub(super) fn of_container(old: &Container, new: &Container) -> Vec<KeyChange> {
    let value = |container: &Container| {
        let mut value = serde_json::to_value(container).unwrap_or_default();
        if let Some(keys) = value.as_object_mut() {
            for key in ["name", "image", "digest"] {
                keys.remove(key);
            }
        }
        // The root's directory is named by the digest.
        if let Some(root) = value
            .pointer_mut("/oci/root")
            .and_then(Value::as_object_mut)
        {
            root.remove("path");
        }
        value
    };
    let mut changes = changes(&value(old), &value(new));
    // Each capability is among the privileges; the other sets follow, unless only they differ.
    let set = |name: &str| format!("oci.process.capabilities.{name}");
    let bounding = changes.iter().any(|change| change.key == set("bounding"));
    if bounding {
        changes.retain(|change| !SETS.iter().any(|name| change.key == set(name)));
    }
    changes
}

/// What differs outside of containers, but for what every version has another value of.
pub(super) fn of_machine(old: &Machine, new: &Machine) -> Vec<KeyChange> {
    let value = |machine: &Machine| {
        let mut value = serde_json::to_value(machine).unwrap_or_default();
        if let Some(keys) = value.as_object_mut() {
            for key in [
                "containers",
                "version",
                "security_version",
                "built",
                "name",
                "profile",
            ] {
                keys.remove(key);
            }
        }
        value
    };
    changes(&value(old), &value(new))
}

fn changes(old: &Value, new: &Value) -> Vec<KeyChange> {
    let flat = |value: &Value| {
        let mut keys = BTreeMap::new();
        flatten("", value, &mut keys);
        keys
    };
    let (old, mut new) = (flat(old), flat(new));
    let mut changes = Vec::new();
    for (key, old) in old {
        let new = new.remove(&key);
        if new.as_ref() != Some(&old) {
            let old = Some(old);
            changes.push(KeyChange { key, old, new });
        }
    }
    changes.extend(new.into_iter().map(|(key, new)| KeyChange {
        key,
        old: None,
        new: Some(new),
    }));
    changes.sort_by(|one, next| one.key.cmp(&next.key));
    changes
}

fn flatten(key: &str, value: &Value, keys: &mut BTreeMap<String, Value>) {
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (name, value) in fields {
                let dot = if key.is_empty() { "" } else { "." };
                flatten(&format!("{key}{dot}{name}"), value, keys);
            }
        }
        Value::Array(list) => match named(list) {
            Some(named) => {
                for (name, value) in named {
                    flatten(&format!("{key}[{name}]"), value, keys);
                }
            }
            None => {
                keys.insert(key.to_owned(), value.clone());
            }
        },
        _ => {
            keys.insert(key.to_owned(), value.clone());
        }
    }
}

/// The things of a list by their names, if each has one of its own.
fn named(list: &[Value]) -> Option<BTreeMap<&str, &Value>> {
    let mut named = BTreeMap::new();
    for one in list {
        let name = NAMES.iter().find_map(|name| one.get(name)?.as_str())?;
        if named.insert(name, one).is_some() {
            return None;
        }
    }
    (!list.is_empty()).then_some(named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_more_in_front_of_a_list_changes_nothing_behind_it() {
        let mount = |at: &str, size: &str| json!({ "destination": at, "options": [size] });
        let old = json!({ "mounts": [mount("/b", "1"), mount("/c", "2")], "args": ["x", "y"] });
        let new = json!({
            "mounts": [mount("/a", "0"), mount("/b", "1"), mount("/c", "3")],
            "args": ["y", "x"],
        });
        let found = changes(&old, &new);
        let keys: Vec<_> = found.iter().map(|change| change.key.as_str()).collect();
        let expected = [
            "args",
            "mounts[/a].destination",
            "mounts[/a].options",
            "mounts[/c].options",
        ];
        assert_eq!(keys, expected);
        assert_eq!(found[3].old, Some(json!(["2"])));
        assert_eq!(found[1].old, None);
    }
}
