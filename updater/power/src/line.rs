//! What PID 1 writes on the console for programs (`berth: …`, ARCHITECTURE.md).

use std::collections::BTreeMap;

/// A line that PID 1 wrote for programs, after its `berth:`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Words without a value (`start`, `exited`, `ready`).
    pub words: Vec<String>,
    /// `key=value`, quotes removed.
    pub values: BTreeMap<String, String>,
    /// What it says to people, after ` : `.
    pub sentence: Option<String>,
}

impl Line {
    /// Parses a console line; none when it is not one of PID 1's.
    pub fn parse(text: &str) -> Option<Self> {
        let (_, body) = text.split_once("berth: ")?;
        let mut line = Self::default();
        let mut rest = body.trim();
        while !rest.is_empty() {
            if let Some(sentence) = rest.strip_prefix(": ") {
                line.sentence = Some(sentence.to_owned());
                break;
            }
            let (token, after) = next_token(rest);
            match token.split_once('=') {
                Some((key, value)) => {
                    let value = value.trim_matches('"').to_owned();
                    line.values.insert(key.to_owned(), value);
                }
                None => line.words.push(token.to_owned()),
            }
            rest = after;
        }
        Some(line)
    }

    /// Whether the word stands in the line.
    pub fn says(&self, word: &str) -> bool {
        self.words.iter().any(|known| known == word)
    }

    /// A value.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// `t`: microseconds since the kernel's start.
    pub fn micros(&self) -> Option<u64> {
        self.get("t")?.parse().ok()
    }

    /// Whether it is about the container and says the word.
    pub fn is_container(&self, name: &str, word: &str) -> bool {
        self.get("container") == Some(name) && self.says(word)
    }
}

/// The first token, up to a space outside quotes, and what follows it.
fn next_token(text: &str) -> (&str, &str) {
    let mut quoted = false;
    for (at, letter) in text.char_indices() {
        match letter {
            '"' => quoted = !quoted,
            ' ' if !quoted => return (&text[..at], text[at..].trim_start()),
            _ => {}
        }
    }
    (text, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_line_gives_its_words_values_and_sentence() {
        let line = Line::parse(
            "[    0.5] berth: phase=state end t=512345 result=degraded disk=\"a b\" : no room",
        )
        .expect("a line of PID 1");
        assert!(line.says("end"));
        assert_eq!(line.micros(), Some(512_345));
        assert_eq!(line.get("disk"), Some("a b"));
        assert_eq!(line.sentence.as_deref(), Some("no room"));
    }

    #[test]
    fn other_lines_are_nobodys() {
        assert_eq!(Line::parse("[    0.1] clocksource: tsc"), None);
    }
}
