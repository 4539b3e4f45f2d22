//! Fragments: `CONFIG_SYMBOL=value  # reason`, one symbol a line. A fragment without its reasons
//! is a plain Kconfig fragment; `=n` is written out, because "off" has a reason too.

use std::fmt;

use rust_embed::RustEmbed;

/// The fragments, inside the tool.
#[derive(RustEmbed)]
#[folder = "fragments/"]
struct Fragments;

/// One requested symbol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The symbol's name without `CONFIG_`.
    pub symbol: String,
    /// What it is to be.
    pub value: Value,
    /// Why.
    pub reason: String,
    /// The fragment's name.
    pub fragment: String,
    /// The line in the fragment, from 1.
    pub line: usize,
}

/// A symbol's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Not set.
    Off,
    /// `y`: built in. There are no modules.
    On,
    /// A number or a quoted string, as it stands in a `.config`.
    Literal(String),
}

impl Value {
    /// Reads the part after `=`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text {
            "y" => Value::On,
            "n" => Value::Off,
            literal => Value::Literal(literal.to_owned()),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Value::Off => "n",
            Value::On => "y",
            Value::Literal(text) => text,
        })
    }
}

/// A line of a fragment that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("fragments/{fragment}.config:{line}: {why}: {text}")]
pub(crate) struct Malformed {
    fragment: String,
    line: usize,
    why: &'static str,
    text: String,
}

/// The settings of the fragment of that name in the tool.
///
/// # Panics
/// If the fragment does not exist or is malformed: it is part of this program, and a test reads
/// every fragment of every profile.
pub(crate) fn embedded(name: &str) -> Vec<Setting> {
    let file = Fragments::get(&format!("{name}.config"))
        .unwrap_or_else(|| panic!("the fragment {name} is not in this program"));
    let text = std::str::from_utf8(&file.data)
        .unwrap_or_else(|_| panic!("the fragment {name} is not UTF-8"));
    parse(name, text).unwrap_or_else(|malformed| panic!("{malformed}"))
}

/// Reads a fragment.
///
/// # Errors
/// A line that is neither empty, nor a comment, nor a symbol with its value and reason.
pub(crate) fn parse(name: &str, text: &str) -> Result<Vec<Setting>, Malformed> {
    let mut settings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let malformed = |why| Malformed {
            fragment: name.to_owned(),
            line: index + 1,
            why,
            text: line.to_owned(),
        };
        let (assignment, reason) = line
            .split_once("  # ")
            .ok_or_else(|| malformed("a symbol without a reason"))?;
        if reason.trim().is_empty() {
            return Err(malformed("a symbol without a reason"));
        }
        let (symbol, value) = assignment
            .strip_prefix("CONFIG_")
            .and_then(|rest| rest.split_once('='))
            .ok_or_else(|| malformed("not CONFIG_SYMBOL=value"))?;
        if symbol.is_empty() || value.is_empty() || value.trim() != value {
            return Err(malformed("not CONFIG_SYMBOL=value"));
        }
        settings.push(Setting {
            symbol: symbol.to_owned(),
            value: Value::parse(value),
            reason: reason.trim().to_owned(),
            fragment: name.to_owned(),
            line: index + 1,
        });
    }
    Ok(settings)
}

/// The settings as a plain Kconfig fragment, which does not change when only a reason does.
pub(crate) fn plain(settings: &[Setting]) -> String {
    settings
        .iter()
        .map(|it| format!("CONFIG_{}={}\n", it.symbol, it.value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol_without_a_reason_is_refused_by_file_and_line() {
        let text = "# subject\nCONFIG_A=y  # because\nCONFIG_B=y\n";
        let error = parse("subject", text).unwrap_err().to_string();
        assert_eq!(
            error,
            "fragments/subject.config:3: a symbol without a reason: CONFIG_B=y"
        );
    }

    #[test]
    fn an_unset_marker_of_a_config_is_not_taken_for_a_setting() {
        assert!(
            parse("subject", "# CONFIG_A is not set\n")
                .unwrap()
                .is_empty()
        );
        assert!(parse("subject", "A=y  # because\n").is_err());
        assert!(parse("subject", "CONFIG_A  # because\n").is_err());
        assert!(parse("subject", "CONFIG_A= y  # because\n").is_err());
    }

    #[test]
    fn values_keep_their_form() {
        let text = "CONFIG_A=y  # a\nCONFIG_B=n  # b\nCONFIG_C=\"x # y\"  # c\nCONFIG_D=64  # d\n";
        let settings = parse("subject", text).unwrap();
        assert_eq!(
            plain(&settings),
            "CONFIG_A=y\nCONFIG_B=n\nCONFIG_C=\"x # y\"\nCONFIG_D=64\n"
        );
    }
}
