//! One TOML table while it is read: keys are taken by name and type, and what nobody took is a
//! mistake. A wrong value is noted and reading goes on, so that all mistakes come out at once.

use std::cell::RefCell;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistakes::{Collector, Place};
use super::nearest::nearest;

/// A value with its place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub place: Place,
}

struct Entry<'a> {
    key: String,
    key_span: Range<usize>,
    value: &'a Spanned<DeValue<'a>>,
    taken: bool,
}

/// A table being read. [`Table::finish`] must be called last.
pub(super) struct Table<'a> {
    /// `[container.web]`, or `mounts[1] of [container.web]`, for messages.
    name: String,
    span: Range<usize>,
    entries: Vec<Entry<'a>>,
    known: Vec<&'static str>,
    mistakes: &'a RefCell<Collector>,
}

impl<'a> Table<'a> {
    pub(super) fn new(
        name: String,
        span: Range<usize>,
        table: &'a DeTable<'a>,
        mistakes: &'a RefCell<Collector>,
    ) -> Self {
        let mut entries: Vec<Entry<'a>> = table
            .iter()
            .map(|(key, value)| Entry {
                key: key.get_ref().to_string(),
                key_span: key.span(),
                value,
                taken: false,
            })
            .collect();
        entries.sort_by_key(|entry| entry.key_span.start);
        Self {
            name,
            span,
            entries,
            known: Vec::new(),
            mistakes,
        }
    }

    /// Notes a mistake at `at`.
    pub(super) fn wrong(&self, at: &Range<usize>, message: impl Into<String>) {
        self.mistakes.borrow_mut().add(at, message);
    }

    /// Notes a mistake of the table as a whole.
    pub(super) fn wrong_here(&self, message: impl Into<String>) {
        self.wrong(&self.span, message);
    }

    /// The table's name for messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Where the table starts.
    pub(super) fn place(&self) -> Place {
        self.mistakes.borrow().place(&self.span)
    }

    /// Where `at` is.
    pub(super) fn place_of(&self, at: &Range<usize>) -> Place {
        self.mistakes.borrow().place(at)
    }

    /// The key's place, when it is there: for mistakes about a combination of keys.
    pub(super) fn key_span(&self, key: &str) -> Option<Range<usize>> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(entry.key_span.clone())
    }

    /// Takes a key, whatever its type.
    pub(super) fn take(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.push(key);
        let entry = self.entries.iter_mut().find(|entry| entry.key == key)?;
        entry.taken = true;
        Some(entry.value)
    }

    /// Takes a key with `read`, which says what it expected when the value does not fit.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&DeValue<'a>) -> Result<T, String>,
    ) -> Option<Located<T>> {
        let value = self.take(key)?;
        match read(value.get_ref()) {
            Ok(read) => Some(Located {
                value: read,
                place: self.place_of(&value.span()),
            }),
            Err(expected) => {
                self.wrong(&value.span(), format!("{key}: {expected}"));
                None
            }
        }
    }

    /// Takes a string and parses it; `parse` explains itself in a clause.
    pub(super) fn parse<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Located<T>> {
        self.read(key, |value| parse(&string(value)?))
    }

    /// Takes a string.
    pub(super) fn string(&mut self, key: &'static str) -> Option<Located<String>> {
        self.read(key, string)
    }

    /// Takes a boolean.
    pub(super) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let read = self.read(key, |value| match value {
            DeValue::Boolean(yes) => Ok(*yes),
            other => Err(expected("true or false", other)),
        })?;
        Some(read.value)
    }

    /// Takes a list, reading each of its items.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        what: &str,
        mut read: impl FnMut(&DeValue<'a>) -> Result<T, String>,
    ) -> Option<Vec<Located<T>>> {
        let value = self.take(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            let text = expected(what, value.get_ref());
            self.wrong(&value.span(), format!("{key}: {text}"));
            return None;
        };
        let mut list = Vec::new();
        for item in items.iter() {
            match read(item.get_ref()) {
                Ok(read) => list.push(Located {
                    value: read,
                    place: self.place_of(&item.span()),
                }),
                Err(text) => self.wrong(&item.span(), format!("{key}: {text}")),
            }
        }
        Some(list)
    }

    /// Takes a list of strings.
    pub(super) fn strings(&mut self, key: &'static str, what: &str) -> Option<Vec<String>> {
        let list = self.list(key, what, string)?;
        Some(list.into_iter().map(|item| item.value).collect())
    }

    /// Takes a table.
    pub(super) fn table(&mut self, key: &'static str) -> Option<Table<'a>> {
        let value = self.take(key)?;
        let name = if self.name.is_empty() {
            format!("[{key}]")
        } else {
            format!("{key} of {}", self.name)
        };
        self.as_table(name, key, value)
    }

    /// Takes a list of tables.
    pub(super) fn tables(&mut self, key: &'static str, what: &str) -> Vec<Table<'a>> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let DeValue::Array(items) = value.get_ref() else {
            let text = expected(what, value.get_ref());
            self.wrong(&value.span(), format!("{key}: {text}"));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let name = format!("{key}[{index}] of {}", self.name);
            tables.extend(self.as_table(name, key, item));
        }
        tables
    }

    /// Takes a table of named tables (`[container.web]`): names with their tables, in the order
    /// of the file.
    pub(super) fn named(&mut self, key: &'static str) -> Option<Vec<(Located<String>, Table<'a>)>> {
        let value = self.take(key)?;
        let outer = self.as_table(format!("[{key}]"), key, value)?;
        let mut tables = Vec::new();
        for entry in &outer.entries {
            let name = format!("[{key}.{}]", entry.key);
            if let Some(mut table) = self.as_table(name, key, entry.value) {
                table.span = entry.key_span.clone();
                let located = Located {
                    value: entry.key.clone(),
                    place: self.place_of(&entry.key_span),
                };
                tables.push((located, table));
            }
        }
        Some(tables)
    }

    /// All entries of a table whose keys are free (`environment`), in the order of the file.
    pub(super) fn free_entries(mut self) -> Vec<(Located<String>, &'a Spanned<DeValue<'a>>)> {
        let entries = std::mem::take(&mut self.entries);
        entries
            .into_iter()
            .map(|entry| {
                let key = Located {
                    place: self.place_of(&entry.key_span),
                    value: entry.key,
                };
                (key, entry.value)
            })
            .collect()
    }

    /// Refuses keys that the format has but this version does not build.
    pub(super) fn not_yet(&mut self, keys: &[&'static str]) {
        for key in keys {
            if self.take(key).is_some() {
                let at = self.key_span(key).unwrap_or_default();
                self.wrong(&at, format!("{key:?} is not supported yet; remove it"));
            }
        }
    }

    /// Refuses every key that was not taken.
    pub(super) fn finish(self) {
        for entry in self.entries.iter().filter(|entry| !entry.taken) {
            let place = match self.name.as_str() {
                "" => "at the top level".to_owned(),
                name => format!("in {name}"),
            };
            let hint = match nearest(&entry.key, self.known.iter().copied()) {
                Some(known) => format!("did you mean {known:?}?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            self.wrong(
                &entry.key_span,
                format!("unknown key {:?} {place}; {hint}", entry.key),
            );
        }
    }

    fn as_table(
        &self,
        name: String,
        key: &str,
        value: &'a Spanned<DeValue<'a>>,
    ) -> Option<Table<'a>> {
        match value.get_ref() {
            DeValue::Table(table) => Some(Table::new(name, value.span(), table, self.mistakes)),
            other => {
                let text = expected("a table", other);
                self.wrong(&value.span(), format!("{key}: {text}"));
                None
            }
        }
    }
}

/// A string value.
pub(super) fn string(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        other => Err(expected("a string", other)),
    }
}

/// An integer from 1 to `most`.
pub(super) fn positive(value: &DeValue<'_>, most: u64) -> Result<u64, String> {
    let wrong = || expected(&format!("a whole number from 1 to {most}"), value);
    let DeValue::Integer(integer) = value else {
        return Err(wrong());
    };
    u64::from_str_radix(integer.as_str(), integer.radix())
        .ok()
        .filter(|number| (1..=most).contains(number))
        .ok_or_else(wrong)
}

/// The clause `expected WHAT, found VALUE`.
pub(super) fn expected(what: &str, found: &DeValue<'_>) -> String {
    let found = match found {
        DeValue::String(text) => format!("the string {text:?}"),
        DeValue::Integer(integer) => format!("the number {}", integer.as_str()),
        DeValue::Float(float) => format!("the number {}", float.as_str()),
        DeValue::Boolean(yes) => yes.to_string(),
        DeValue::Datetime(date) => format!("the date {date}"),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    };
    format!("expected {what}, found {found}")
}
