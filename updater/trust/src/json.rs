//! JSON as signed metadata uses it: no fractions, no name twice in a map, capped in size and
//! depth; and its canonical form, over which signatures are made.
//!
//! Read: RFC 8259, with integers of 64 bits only. Canonical form: the one of OLPC, which the TUF
//! specification names in section 4.1: names sorted, no white space, and only `"` and `\` escaped.

use std::fmt::{self, Write as _};

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
pub struct Map(Vec<(String, Value)>);

/// Why bytes are not JSON of this kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {reason}")]
pub struct JsonError {
    /// Where, counted from 0.
    pub at: usize,
    /// Why.
    pub reason: &'static str,
}

impl Map {
    /// The member called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        let place = self.0.binary_search_by(|(key, _)| key.as_str().cmp(name));
        place
            .ok()
            .and_then(|at| self.0.get(at))
            .map(|(_, value)| value)
    }

    /// Sets the member called `name`.
    pub fn set(&mut self, name: &str, value: Value) {
        match self.0.binary_search_by(|(key, _)| key.as_str().cmp(name)) {
            Ok(at) => {
                if let Some(member) = self.0.get_mut(at) {
                    member.1 = value;
                }
            }
            Err(at) => self.0.insert(at, (name.to_owned(), value)),
        }
    }

    /// The member called `name`, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        let place = self.0.binary_search_by(|(key, _)| key.as_str().cmp(name));
        let member = place.ok().and_then(|at| self.0.get_mut(at));
        member.map(|(_, value)| value)
    }

    /// Keeps the members whose names `keep` wants.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|(name, _)| keep(name));
    }

    /// Takes the member called `name` out.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let place = self.0.binary_search_by(|(key, _)| key.as_str().cmp(name));
        place.ok().map(|at| self.0.remove(at).1)
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

    /// Sorts members as they were read; the error is a name that is there twice.
    fn sorted(mut members: Vec<(String, Value)>) -> Option<Self> {
        members.sort_by(|a, b| a.0.cmp(&b.0));
        members.shrink_to_fit();
        let twice = members.windows(2).any(|pair| match pair {
            [a, b] => a.0 == b.0,
            _ => false,
        });
        (!twice).then_some(Self(members))
    }
}

impl IntoIterator for Map {
    type Item = (String, Value);
    type IntoIter = std::vec::IntoIter<Self::Item>;

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
    /// When `bytes` are not such JSON, or exceed the caps on values and depth.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, JsonError> {
        let text = std::str::from_utf8(bytes).map_err(|error| JsonError {
            at: error.valid_up_to(),
            reason: "not UTF-8",
        })?;
        let mut reader = Reader {
            text,
            at: 0,
            values_left: limits.values,
        };
        reader.skip_space();
        let value = reader.value(limits.depth)?;
        reader.skip_space();
        match reader.peek() {
            None => Ok(value),
            Some(_) => Err(reader.wrong("something follows the value")),
        }
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

struct Reader<'a> {
    text: &'a str,
    at: usize,
    values_left: usize,
}

impl<'a> Reader<'a> {
    fn wrong(&self, reason: &'static str) -> JsonError {
        JsonError {
            at: self.at,
            reason,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth_left: usize) -> Result<Value, JsonError> {
        self.values_left = self
            .values_left
            .checked_sub(1)
            .ok_or_else(|| self.wrong("too many values"))?;
        match self.peek() {
            Some(b'{') => self.map(depth_left),
            Some(b'[') => self.list(depth_left),
            Some(b'"') => self.string().map(Value::Text),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            Some(_) => Err(self.wrong("expected a value")),
            None => Err(self.wrong("it ends before a value")),
        }
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, JsonError> {
        if self.rest().starts_with(word) {
            self.at += word.len();
            Ok(value)
        } else {
            Err(self.wrong("expected a value"))
        }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn deeper(&self, depth_left: usize) -> Result<usize, JsonError> {
        depth_left
            .checked_sub(1)
            .ok_or_else(|| self.wrong("values lie too deep in one another"))
    }

    fn list(&mut self, depth_left: usize) -> Result<Value, JsonError> {
        let depth_left = self.deeper(depth_left)?;
        self.at += 1;
        let mut list = Vec::new();
        self.skip_space();
        if self.take(b']') {
            return Ok(Value::List(list));
        }
        loop {
            self.skip_space();
            list.push(self.value(depth_left)?);
            self.skip_space();
            if self.take(b']') {
                list.shrink_to_fit();
                return Ok(Value::List(list));
            }
            if !self.take(b',') {
                return Err(self.wrong("expected ',' or ']'"));
            }
        }
    }

    fn map(&mut self, depth_left: usize) -> Result<Value, JsonError> {
        let depth_left = self.deeper(depth_left)?;
        self.at += 1;
        let mut members = Vec::new();
        self.skip_space();
        if self.take(b'}') {
            return Ok(Value::Map(Map::default()));
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(self.wrong("expected a name"));
            }
            let name = self.string()?;
            self.skip_space();
            if !self.take(b':') {
                return Err(self.wrong("expected ':'"));
            }
            self.skip_space();
            members.push((name, self.value(depth_left)?));
            self.skip_space();
            if self.take(b'}') {
                let map = Map::sorted(members);
                return map
                    .map(Value::Map)
                    .ok_or_else(|| self.wrong("a name is there twice"));
            }
            if !self.take(b',') {
                return Err(self.wrong("expected ',' or '}'"));
            }
        }
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        let rest = self.rest();
        let end = rest
            .find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'))
            .unwrap_or(rest.len());
        let text = rest.get(..end).unwrap_or_default();
        let digits = text.strip_prefix('-').unwrap_or(text);
        if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(self.wrong("only numbers without fraction and exponent are allowed"));
        }
        if digits.is_empty() || (digits.len() > 1 && digits.starts_with('0')) {
            return Err(self.wrong("not a number"));
        }
        let number = text
            .parse()
            .map_err(|_| self.wrong("the number does not fit 64 bits"))?;
        self.at += end;
        Ok(Value::Int(number))
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.at += 1;
        let mut string = String::new();
        loop {
            let rest = self.rest();
            let end = rest
                .find(|c: char| c == '"' || c == '\\' || c < ' ')
                .ok_or_else(|| self.wrong("a string does not end"))?;
            string.push_str(rest.get(..end).unwrap_or_default());
            self.at += end;
            if self.take(b'"') {
                string.shrink_to_fit();
                return Ok(string);
            }
            if !self.take(b'\\') {
                return Err(self.wrong("a control character in a string"));
            }
            string.push(self.escaped()?);
        }
    }

    fn escaped(&mut self) -> Result<char, JsonError> {
        let kind = self.peek();
        self.at += 1;
        Ok(match kind {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.four_digits()?;
                let code = if (0xd800..0xdc00).contains(&first) {
                    if !(self.take(b'\\') && self.take(b'u')) {
                        return Err(self.wrong("half a surrogate pair"));
                    }
                    let second = self.four_digits()?;
                    if !(0xdc00..0xe000).contains(&second) {
                        return Err(self.wrong("half a surrogate pair"));
                    }
                    0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                } else {
                    first
                };
                char::from_u32(code).ok_or_else(|| self.wrong("half a surrogate pair"))?
            }
            _ => return Err(self.wrong("an unknown escape in a string")),
        })
    }

    fn four_digits(&mut self) -> Result<u32, JsonError> {
        let digits = self.text.get(self.at..self.at.saturating_add(4));
        let code = digits
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or_else(|| self.wrong("expected four hexadecimal digits"))?;
        self.at += 4;
        Ok(code)
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
            depth: 3,
            values: 5,
            ..Limits::default()
        };
        let parse = |text: &str| Value::parse(text.as_bytes(), &limits);
        assert!(parse("[[[1]]]").is_ok());
        assert!(parse("[[[[]]]]").is_err());
        assert!(parse("[1,2,3,4]").is_ok());
        assert!(parse("[1,2,3,4,5]").is_err());
        let deep = "[".repeat(1_000_000);
        assert!(Value::parse(deep.as_bytes(), &Limits::default()).is_err());
    }
}
