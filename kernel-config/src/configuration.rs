//! Makes the `.config` and holds it against what was asked for. A symbol whose dependencies are
//! not met disappears from a configuration without a word; here that is an error.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::Path;

use crate::compile::{self, Tree};
use crate::error::{Error, io as io_error};
use crate::fragment::{self, Setting, Value};
use crate::kconfig::{self, Dependencies};
use crate::profile::Profile;
use crate::progress::Progress;

/// What `make tinyconfig` reads. It is read here too, so that our fragments can win over it.
const TINY: &[&str] = &[
    "kernel/configs/tiny-base.config",
    "kernel/configs/tiny.config",
    "arch/x86/configs/tiny.config",
];

/// A symbol that is not what a fragment asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What was asked for, and where.
    pub setting: Setting,
    /// What the configuration has.
    pub found: Value,
    /// Why, as far as the kernel's Kconfig tree tells.
    pub obstacle: Obstacle,
}

/// What stands between a symbol and the value that a fragment asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// No Kconfig tree was asked.
    Unknown,
    /// This kernel has no such symbol.
    NoSuchSymbol,
    /// Nothing that the symbol depends on: another symbol selects it, or its choice is taken.
    Selected,
    /// What the symbol depends on.
    Dependencies {
        /// The condition, in Kconfig's words.
        condition: String,
        /// Those of its symbols that are not set.
        unset: Vec<String>,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setting {
            symbol,
            value,
            fragment,
            line,
            ..
        } = &self.setting;
        write!(
            formatter,
            "fragments/{fragment}.config:{line}: CONFIG_{symbol} is to be {value} and is {}",
            self.found
        )?;
        match &self.obstacle {
            Obstacle::Unknown => Ok(()),
            Obstacle::NoSuchSymbol => formatter.write_str("; this kernel has no such symbol"),
            Obstacle::Selected => {
                formatter.write_str("; another symbol selects it, or its choice is taken")
            }
            Obstacle::Dependencies { condition, unset } => {
                write!(formatter, "; it depends on {condition}")?;
                if unset.is_empty() {
                    return Ok(());
                }
                write!(formatter, " (not set: {})", unset.join(", "))
            }
        }
    }
}

/// Holds the text of a `.config` against a profile's fragments.
#[must_use]
pub fn check(profile: Profile, config: &str) -> Vec<Violation> {
    violations(&profile.settings(), config)
}

/// The settings that `config` does not fulfil.
pub(crate) fn violations(settings: &[Setting], config: &str) -> Vec<Violation> {
    let found = read(config);
    settings
        .iter()
        .filter_map(|setting| {
            let value = found
                .get(setting.symbol.as_str())
                .cloned()
                .unwrap_or(Value::Off);
            (value != setting.value).then(|| Violation {
                setting: setting.clone(),
                found: value,
                obstacle: Obstacle::Unknown,
            })
        })
        .collect()
}

/// The symbols that a `.config` sets.
fn read(config: &str) -> HashMap<&str, Value> {
    config
        .lines()
        .filter_map(|line| line.strip_prefix("CONFIG_")?.split_once('='))
        .map(|(symbol, value)| (symbol, Value::parse(value)))
        .collect()
}

/// Makes the tree's `.config` and returns its text.
pub(crate) fn configure(
    tree: &Tree,
    settings: &[Setting],
    progress: &mut dyn FnMut(Progress),
) -> Result<String, Error> {
    progress(Progress::Configuring);
    let wanted = tree.root.join("berth.config");
    let text = tiny(&tree.root, settings)? + &fragment::plain(settings);
    fs::write(&wanted, text).map_err(io_error("writing", &wanted))?;
    let mut make = tree.make();
    make.arg("allnoconfig")
        .env("KCONFIG_ALLCONFIG", "berth.config");
    compile::run("configuring the kernel", make)?;
    let path = tree.root.join(".config");
    let config = fs::read_to_string(&path).map_err(io_error("reading", &path))?;
    let mut violations = violations(settings, &config);
    if violations.is_empty() {
        return Ok(config);
    }
    let dependencies = Dependencies::read(&tree.root);
    explain(&mut violations, &dependencies, &config);
    Err(Error::Configuration(violations))
}

/// tinyconfig's own settings, without those that the fragments decide.
fn tiny(root: &Path, settings: &[Setting]) -> Result<String, Error> {
    let mut text = String::new();
    for name in TINY {
        let path = root.join(name);
        let fragment = fs::read_to_string(&path).map_err(io_error("reading", &path))?;
        for line in fragment.lines().filter(|line| line.starts_with("CONFIG_")) {
            let ours = settings.iter().any(|setting| {
                line.strip_prefix("CONFIG_")
                    .and_then(|rest| rest.strip_prefix(setting.symbol.as_str()))
                    .is_some_and(|rest| rest.starts_with('='))
            });
            if !ours {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    Ok(text)
}

/// Adds to each violation what the symbol depends on.
fn explain(violations: &mut [Violation], dependencies: &Dependencies, config: &str) {
    let found = read(config);
    for violation in violations {
        let symbol = &violation.setting.symbol;
        let condition = dependencies.of(symbol);
        violation.obstacle = if !dependencies.knows(symbol) {
            Obstacle::NoSuchSymbol
        } else if condition.is_empty() || violation.setting.value == Value::Off {
            Obstacle::Selected
        } else {
            let mut unset: Vec<_> = kconfig::symbols(&condition)
                .filter(|word| dependencies.knows(word) && !found.contains_key(word))
                .map(str::to_owned)
                .collect();
            unset.sort();
            unset.dedup();
            Obstacle::Dependencies { condition, unset }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Vec<Setting> {
        fragment::parse("subject", text).unwrap()
    }

    #[test]
    fn a_dropped_symbol_is_named_with_its_place_and_what_it_depends_on() {
        let tree = tempfile::tempdir().unwrap();
        fs::write(
            tree.path().join("Kconfig"),
            "config BLOCK\n\tbool\nconfig PCI\n\tbool\nconfig NVME\n\tdepends on BLOCK && PCI\n",
        )
        .unwrap();
        let config = "CONFIG_PCI=y\n# CONFIG_BLOCK is not set\n";
        let mut found = violations(&settings("# disks\nCONFIG_NVME=y  # disks\n"), config);
        explain(&mut found, &Dependencies::read(tree.path()), config);
        assert_eq!(
            found[0].to_string(),
            "fragments/subject.config:2: CONFIG_NVME is to be y and is n; \
             it depends on BLOCK && PCI (not set: BLOCK)"
        );
    }

    #[test]
    fn a_forbidden_symbol_that_is_set_is_a_violation_and_an_absent_one_is_none() {
        let forbidden = settings("CONFIG_KEXEC=n  # no\nCONFIG_UNHEARD_OF=n  # no\n");
        let found = violations(&forbidden, "CONFIG_KEXEC=y\n");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].setting.symbol, "KEXEC");
        assert!(violations(&forbidden, "# CONFIG_KEXEC is not set\n").is_empty());
    }

    #[test]
    fn another_number_or_string_is_a_violation() {
        let wanted = settings("CONFIG_N=64  # n\nCONFIG_S=\"a\"  # s\n");
        assert!(violations(&wanted, "CONFIG_N=64\nCONFIG_S=\"a\"\n").is_empty());
        assert_eq!(
            violations(&wanted, "CONFIG_N=6\nCONFIG_S=\"a b\"\n").len(),
            2
        );
    }

    #[test]
    fn tinyconfig_yields_to_the_fragments_and_to_nothing_else() {
        let tree = tempfile::tempdir().unwrap();
        for name in TINY {
            let path = tree.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "# tiny\nCONFIG_SLUB=y\nCONFIG_SLUB_TINY=y\n").unwrap();
        }
        let text = tiny(tree.path(), &settings("CONFIG_SLUB_TINY=n  # hardened\n")).unwrap();
        assert_eq!(text, "CONFIG_SLUB=y\n".repeat(3));
    }
}
