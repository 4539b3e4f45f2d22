//! Delegations: which role speaks for which paths (specification, 4.5).

use ring::digest;

use crate::encoding::hex;
use crate::error::Malformed;
use crate::json::{Map, Value};
use crate::limits::ROLE_NAME;
use crate::roles::{map, wrong};
use crate::verify::{Authority, Keys};

/// Names that a delegated role cannot have.
const TOP_LEVEL: [&str; 4] = ["root", "timestamp", "snapshot", "targets"];

/// Trust in another role, for some paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegation {
    /// The role's name.
    pub name: String,
    /// Whose signatures make its metadata.
    pub authority: Authority,
    /// Whether the search ends with it for the paths that it speaks for.
    pub terminating: bool,
    paths: Paths,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Paths {
    /// Shell patterns; `*`, `?` and `[…]` do not match a slash.
    Patterns(Vec<String>),
    /// Beginnings of the SHA-256 of a path, in hexadecimal digits.
    HashPrefixes(Vec<String>),
}

impl Delegation {
    /// Whether the role may speak for `path`.
    #[must_use]
    pub fn covers(&self, path: &str) -> bool {
        match &self.paths {
            Paths::Patterns(patterns) => patterns.iter().any(|pattern| matches(pattern, path)),
            Paths::HashPrefixes(prefixes) => {
                let hash = hex(digest::digest(&digest::SHA256, path.as_bytes()).as_ref());
                prefixes
                    .iter()
                    .any(|prefix| hash.starts_with(prefix.as_str()))
            }
        }
    }

    pub(crate) fn read_all(value: &Value) -> Result<Vec<Self>, Malformed> {
        let delegations = value.as_map().ok_or(wrong("delegations", "a map"))?;
        let keys = Keys::read(map(delegations, "keys")?)?;
        let roles = delegations.get("roles").and_then(Value::as_list);
        let mut all: Vec<Self> = Vec::new();
        for role in roles.ok_or(wrong("roles", "a list"))? {
            let role = role.as_map().ok_or(wrong("roles", "a list of maps"))?;
            let delegation = Self::read(role, &keys)?;
            if all.iter().any(|other| other.name == delegation.name) {
                return Err(wrong("roles", "a list in which each name is there once"));
            }
            all.push(delegation);
        }
        Ok(all)
    }

    fn read(role: &Map, keys: &Keys) -> Result<Self, Malformed> {
        let name = role
            .get("name")
            .and_then(Value::as_text)
            .unwrap_or_default();
        if name.is_empty() || name.len() > ROLE_NAME || TOP_LEVEL.contains(&name) {
            return Err(wrong("name", "a delegated role's name of at most 64 bytes"));
        }
        let Some(Value::Bool(terminating)) = role.get("terminating") else {
            return Err(wrong("terminating", "true or false"));
        };
        let paths = match (role.get("paths"), role.get("path_hash_prefixes")) {
            (Some(patterns), None) => Paths::Patterns(texts(patterns, "paths")?),
            (None, Some(prefixes)) => Paths::HashPrefixes(texts(prefixes, "path_hash_prefixes")?),
            _ => return Err(wrong("paths", "there alone, or path_hash_prefixes instead")),
        };
        Ok(Self {
            name: name.to_owned(),
            authority: Authority::read(role, keys)?,
            terminating: *terminating,
            paths,
        })
    }
}

fn texts(value: &Value, field: &'static str) -> Result<Vec<String>, Malformed> {
    let texts = value.as_list().ok_or(wrong(field, "a list"))?.iter();
    let texts: Option<Vec<_>> = texts
        .map(|text| text.as_text().map(str::to_owned))
        .collect();
    texts.ok_or(wrong(field, "a list of strings"))
}

/// Whether the whole `path` fits the shell pattern, segment by segment.
fn matches(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut segments) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), segments.next()) {
            (None, None) => return true,
            (Some(pattern), Some(segment)) if segment_matches(pattern, segment) => {}
            _ => return false,
        }
    }
}

/// Takes time in proportion to the product of the lengths at most: when something does not fit,
/// only the last star takes one letter more.
fn segment_matches(pattern: &str, segment: &str) -> bool {
    let (mut pattern, mut segment) = (pattern, segment);
    let mut last_star: Option<(&str, &str)> = None;
    loop {
        if let Some(rest) = pattern.strip_prefix('*') {
            pattern = rest;
            last_star = Some((rest, segment));
            continue;
        }
        let mut letters = segment.chars();
        if let Some(letter) = letters.next() {
            if let Some(rest) = letter_matches(pattern, letter) {
                (pattern, segment) = (rest, letters.as_str());
                continue;
            }
        } else if pattern.is_empty() {
            return true;
        }
        let Some((after_star, from)) = last_star else {
            return false;
        };
        let mut skipped = from.chars();
        if skipped.next().is_none() {
            return false;
        }
        (pattern, segment) = (after_star, skipped.as_str());
        last_star = Some((after_star, segment));
    }
}

/// What is left of the pattern when its first element, which is no star, fits `letter`.
fn letter_matches(pattern: &str, letter: char) -> Option<&str> {
    let mut rest = pattern.chars();
    match rest.next()? {
        '?' => Some(rest.as_str()),
        '[' => match class(rest.as_str()) {
            Some((members, negated, after)) => {
                (contains(members, letter) != negated).then_some(after)
            }
            None => (letter == '[').then_some(rest.as_str()),
        },
        plain => (plain == letter).then_some(rest.as_str()),
    }
}

/// Splits `abc]…` into its members and what follows. A `]` in the first place is a member; without
/// a closing one it is no class.
fn class(text: &str) -> Option<(&str, bool, &str)> {
    let (negated, text) = match text.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let from = text.chars().next()?.len_utf8();
    let end = from + text.get(from..)?.find(']')?;
    Some((text.get(..end)?, negated, text.get(end + 1..)?))
}

fn contains(members: &str, letter: char) -> bool {
    let mut rest = members;
    loop {
        let mut letters = rest.chars();
        let Some(first) = letters.next() else {
            return false;
        };
        let mut range = letters.clone();
        if let (Some('-'), Some(last)) = (range.next(), range.next()) {
            if (first..=last).contains(&letter) {
                return true;
            }
            rest = range.as_str();
        } else {
            if first == letter {
                return true;
            }
            rest = letters.as_str();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_a_shell_has_it_but_never_across_a_slash() {
        for (pattern, path) in [
            ("", ""),
            ("*", ""),
            ("*", "abc"),
            ("a*", "a"),
            ("*.tgz", "foo.tgz"),
            ("foo-?.tgz", "foo-1.tgz"),
            ("a/*/c", "a/b/c"),
            ("*a*b*", "xxaxxbxx"),
            ("*ab", "aabab"),
            ("[a-c]x", "bx"),
            ("[!a-c]x", "dx"),
            ("[]a]", "]"),
            ("[", "["),
            ("[a", "[a"),
            ("[a-]", "-"),
            ("?", "é"),
            ("**", "a"),
        ] {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("", "a"),
            ("*", "a/b"),
            ("?", "/"),
            ("[!a]", "/"),
            ("a/*", "a"),
            ("*.md", "README.MD"),
            ("foo-?.tgz", "foo-10.tgz"),
            ("a*b", "abc"),
            ("[a-c]", "d"),
            ("[!a]", "a"),
            ("?", ""),
            ("*/", "a"),
        ] {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
    }

    #[test]
    fn a_pattern_full_of_stars_takes_no_longer_than_its_length() {
        let pattern = "*a".repeat(2_000) + "b";
        let path = "a".repeat(10_000);
        assert!(!matches(&pattern, &path));
    }
}
