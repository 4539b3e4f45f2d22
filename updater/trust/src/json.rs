//! JSON as signed metadata uses it: no fractions, no name twice in a map, capped in size; and its
//! canonical form, over which signatures are made.
//!
//! `serde_json` reads it, value by value, so that what must not be there ends the reading at once.
//! Canonical form: the one of OLPC, which the TUF specification names in section 4.1: names
//! sorted, no white space, and only `"` and `\` escaped.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::limits::Limits;

/// A JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number without fraction and exponent.
    Int(i64),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Value>),
    /// An object.
    Map(Map),
}

/// An object: its members sorted by name, no name twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map(BTreeMap<String, Value>);

/// Why bytes are not JSON of this kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(String);

impl Map {
    /// The member called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The member called `name`, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        self.0.get_mut(name)
    }

    /// Sets the member called `name`.
    pub fn set(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    /// Takes the member called `name` out.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    /// Keeps the members whose names `keep` wants.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| keep(name));
    }

    /// The members, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// How many members.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl IntoIterator for Map {
    type Item = (String, Value);
    type IntoIter = std::collections::btree_map::IntoIter<String, Value>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<const N: usize> From<[(&str, Value); N]> for Map {
    fn from(members: [(&str, Value); N]) -> Self {
        let mut map = Self::default();
        for (name, value) in members {
            map.set(name, value);
        }
        map
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl Value {
    /// Reads one value and nothing after it but white space.
    ///
    /// # Errors
    ///
    /// When `bytes` are not such JSON, hold more values than the cap, or lie more than 127 deep in
    /// one another, where `serde_json` gives up.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, JsonError> {
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let mut values_left = limits.values;
        let value = Reader {
            values_left: &mut values_left,
        };
        value
            .deserialize(&mut reader)
            .and_then(|value| reader.end().map(|()| value))
            .map_err(|error| JsonError(error.to_string()))
    }

    /// The text, when it is a string.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, when it is one.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// The members, when it is an object.
    #[must_use]
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The elements, when it is an array.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }

    /// The canonical form.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        let mut text = String::new();
        self.write(&mut text, &Form::Canonical, 0);
        text.into_bytes()
    }

    /// As JSON on one line.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, &Form::Line, 0);
        text
    }

    /// As JSON for people: one member a line, a line feed at the end.
    #[must_use]
    pub fn pretty(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, &Form::Pretty, 0);
        text.push('\n');
        text
    }

    fn write(&self, out: &mut String, form: &Form, depth: usize) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(true) => out.push_str("true"),
            Self::Bool(false) => out.push_str("false"),
            Self::Int(number) => push(out, format_args!("{number}")),
            Self::Text(text) => form.string(out, text),
            Self::List(list) => {
                out.push('[');
                for (index, value) in list.iter().enumerate() {
                    form.separate(out, index, depth + 1);
                    value.write(out, form, depth + 1);
                }
                form.close(out, list.is_empty(), depth);
                out.push(']');
            }
            Self::Map(map) => {
                out.push('{');
                for (index, (name, value)) in map.iter().enumerate() {
                    form.separate(out, index, depth + 1);
                    form.string(out, name);
                    out.push_str(if matches!(form, Form::Pretty) {
                        ": "
                    } else {
                        ":"
                    });
                    value.write(out, form, depth + 1);
                }
                form.close(out, map.is_empty(), depth);
                out.push('}');
            }
        }
    }
}

enum Form {
    Canonical,
    Line,
    Pretty,
}

impl Form {
    fn string(&self, out: &mut String, text: &str) {
        out.push('"');
        for letter in text.chars() {
            match letter {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                control if control < ' ' && !matches!(self, Self::Canonical) => {
                    push(out, format_args!("\\u{:04x}", u32::from(control)));
                }
                other => out.push(other),
            }
        }
        out.push('"');
    }

    fn separate(&self, out: &mut String, index: usize, depth: usize) {
        if index > 0 {
            out.push(',');
        }
        self.line(out, depth);
    }

    fn close(&self, out: &mut String, empty: bool, depth: usize) {
        if !empty {
            self.line(out, depth);
        }
    }

    fn line(&self, out: &mut String, depth: usize) {
        if matches!(self, Self::Pretty) {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', depth));
        }
    }
}

/// Writing into a `String` cannot fail.
fn push(out: &mut String, what: fmt::Arguments<'_>) {
    let _ = out.write_fmt(what);
}

/// Reads the next value.
struct Reader<'a> {
    values_left: &'a mut usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Reader<'_> {
        Reader {
            values_left: self.values_left,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Value, D::Error> {
        match self.values_left.checked_sub(1) {
            Some(left) => *self.values_left = left,
            None => return Err(D::Error::custom("too many values")),
        }
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON whose numbers are integers of 64 bits")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Int(number))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Value, E> {
        let number = i64::try_from(number);
        number
            .map(Value::Int)
            .map_err(|_| E::custom("a number does not fit 64 bits with a sign"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::from(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut source: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = source.next_element_seed(self.next())? {
            list.push(value);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut source: A) -> Result<Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some(name) = source.next_key::<String>()? {
            let value = source.next_value_seed(self.next())?;
            if map.insert(name, value).is_some() {
                return Err(A::Error::custom("a name is there twice"));
            }
        }
        Ok(Value::Map(Map(map)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Value, JsonError> {
        Value::parse(text.as_bytes(), &Limits::default())
    }

    fn canonical(text: &str) -> String {
        String::from_utf8(parse(text).expect(text).canonical()).expect("UTF-8")
    }

    #[test]
    fn the_canonical_form_sorts_names_and_drops_white_space() {
        assert_eq!(
            canonical(" { \"b\" : [ 1 , -2,null ] ,\n\"a\":{\"é\":true,\"z\":false, \"\":\"\"} } "),
            "{\"a\":{\"\":\"\",\"z\":false,\"é\":true},\"b\":[1,-2,null]}"
        );
    }

    #[test]
    fn the_canonical_form_escapes_only_quotes_and_backslashes() {
        assert_eq!(
            canonical(r#""\n\t\"\\\/\u0041\ud83d\ude00""#),
            "\"\n\t\\\"\\\\/A\u{1f600}\""
        );
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        let value = parse(r#"{"a":["\u0000\n\"\\",{"b":{}},[]],"c":-9223372036854775808}"#);
        let value = value.expect("JSON");
        assert_eq!(parse(&value.text()), Ok(value.clone()));
        assert_eq!(parse(&value.pretty()), Ok(value));
    }

    #[test]
    fn what_is_not_such_json_is_refused() {
        for wrong in [
            "",
            " ",
            "{",
            "[",
            "[1,]",
            "{\"a\":1,}",
            "{\"a\" 1}",
            "{a:1}",
            "[1 2]",
            "1 2",
            "01",
            "-",
            "--1",
            "+1",
            "1.0",
            "1e3",
            "9223372036854775808",
            "\"",
            "\"\\",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u123é\"",
            "\"\\ud800\"",
            "\"\\ud800\\u0041\"",
            "\"\\udc00\"",
            "\"\n\"",
            "tru",
            "nul",
            "NaN",
            "'a'",
            "\u{feff}1",
            "{\"a\":1,\"\\u0061\":1}",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(Value::parse(b"\"\xff\"", &Limits::default()).is_err());
    }

    #[test]
    fn depth_and_number_of_values_are_capped() {
        let limits = Limits {
            values: 5,
            ..Limits::default()
        };
        let parse = |text: &str| Value::parse(text.as_bytes(), &limits);
        assert!(parse("[1,2,3,4]").is_ok());
        assert!(parse("[1,2,3,4,5]").is_err());
        assert!(parse("{\"a\":[1,2],\"b\":3}").is_ok());
        assert!(parse("{\"a\":[1,2],\"b\":[3]}").is_err());
        let deep = "[".repeat(1_000_000);
        assert!(Value::parse(deep.as_bytes(), &Limits::default()).is_err());
    }
}
