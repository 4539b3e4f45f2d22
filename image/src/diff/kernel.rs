//! Options of the kernel that differ.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Side;

/// An option with another value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OptionChange {
    /// Its name, without `CONFIG_`.
    pub name: String,
    /// Its value before; nothing when that kernel had no such option.
    pub old: Option<String>,
    /// Its value now.
    pub new: Option<String>,
}

/// Options that differ; nothing when one side's are not known.
pub(super) fn options(old: &Side, new: &Side) -> Option<Vec<OptionChange>> {
    let (old, new) = (old.kernel_config.as_ref()?, new.kernel_config.as_ref()?);
    let (old, mut new) = (read(old), read(new));
    let mut changes = Vec::new();
    for (name, before) in old {
        let now = new.remove(name);
        if now != Some(before) {
            changes.push((name, Some(before), now));
        }
    }
    changes.extend(new.into_iter().map(|(name, now)| (name, None, Some(now))));
    changes.sort_unstable();
    let changes = changes.into_iter().map(|(name, old, new)| OptionChange {
        name: name.to_owned(),
        old: old.map(str::to_owned),
        new: new.map(str::to_owned),
    });
    Some(changes.collect())
}

/// `CONFIG_NAME=value` and `# CONFIG_NAME is not set`, which is the value `n`.
fn read<'a>(config: &'a str) -> BTreeMap<&'a str, &'a str> {
    let option = |line: &'a str| {
        let unset = line
            .strip_prefix("# CONFIG_")
            .and_then(|line| line.strip_suffix(" is not set"));
        unset
            .map(|name| (name, "n"))
            .or_else(|| line.strip_prefix("CONFIG_")?.split_once('='))
    };
    config.lines().filter_map(option).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_is_not_set_is_told_from_one_that_does_not_exist() {
        let read = read("# a comment\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"x=y\"\n");
        let expected = BTreeMap::from([("A", "y"), ("B", "n"), ("C", "\"x=y\"")]);
        assert_eq!(read, expected);
    }
}
