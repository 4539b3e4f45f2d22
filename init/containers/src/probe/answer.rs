//! What the prober tells PID 1: one record of [`LEN`] bytes.
//!
//! It is written whole or not at all (it is shorter than PIPE_BUF). The sentence is checked text
//! already; PID 1 looks at each byte once more, and takes none that could hurt a console.

use crate::health::Outcome;

/// Length of every record in bytes.
pub const LEN: usize = 256;

const MAGIC: [u8; 4] = *b"BHA1";
const GOOD: u8 = b'+';
const BAD: u8 = b'-';
const HEADER: usize = MAGIC.len() + 1;
/// The longest sentence that is told, bytes.
const LONGEST: usize = LEN - HEADER;

/// What a probe found, and why when it is bad.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it found.
    pub outcome: Outcome,
    /// Why, in printable ASCII; empty when it is good.
    pub sentence: String,
}

impl Answer {
    /// The container does its work.
    #[must_use]
    pub fn good() -> Self {
        Self {
            outcome: Outcome::Good,
            sentence: String::new(),
        }
    }

    /// It does not, or could not be asked.
    #[must_use]
    pub fn bad(why: &str) -> Self {
        Self {
            outcome: Outcome::Bad,
            sentence: printable(why.as_bytes(), LONGEST),
        }
    }

    /// The record's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; LEN] {
        let outcome = match self.outcome {
            Outcome::Good => GOOD,
            Outcome::Bad => BAD,
        };
        let mut bytes = [0; LEN];
        let parts = [&MAGIC[..], &[outcome], self.sentence.as_bytes()];
        let all = parts.iter().flat_map(|part| part.iter());
        for (place, byte) in bytes.iter_mut().zip(all) {
            *place = *byte;
        }
        bytes
    }

    /// Reads a record; anything else is no answer, which counts as a bad one.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Self {
        let rest = match bytes.len() {
            LEN => bytes.strip_prefix(&MAGIC),
            _ => None,
        };
        match rest.and_then(<[u8]>::split_first) {
            Some((&GOOD, _)) => Self::good(),
            Some((&BAD, text)) => {
                let end = text.iter().position(|byte| *byte == 0);
                let text = text.get(..end.unwrap_or(text.len())).unwrap_or_default();
                Self {
                    outcome: Outcome::Bad,
                    sentence: printable(text, LONGEST),
                }
            }
            _ => Self::bad("the probe's process ended without an answer"),
        }
    }
}

impl From<Result<(), String>> for Answer {
    fn from(result: Result<(), String>) -> Self {
        match result {
            Ok(()) => Self::good(),
            Err(why) => Self::bad(&why),
        }
    }
}

/// Text of printable ASCII, whatever the bytes are, at most `longest` long.
pub(super) fn printable(bytes: &[u8], longest: usize) -> String {
    let shown = |byte: &u8| match byte {
        b' '..=b'~' => char::from(*byte),
        b'\t' => ' ',
        _ => '?',
    };
    bytes.iter().take(longest).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_what_is_read() {
        for answer in [
            Answer::good(),
            Answer::bad("nothing listens on port 80"),
            Answer::bad(""),
            Answer::bad(&"long ".repeat(100)),
        ] {
            assert_eq!(Answer::decode(&answer.encode()), answer);
        }
    }

    #[test]
    fn no_byte_of_a_record_can_hurt_its_reader() {
        let bytes = Answer::bad("status 500 Internal Server Error").encode();
        for place in 0..LEN {
            for value in 0..=255 {
                let mut wrong = bytes;
                wrong[place] = value;
                let read = Answer::decode(&wrong);
                let clean = |byte: u8| (b' '..=b'~').contains(&byte);
                assert!(read.sentence.bytes().all(clean) && read.sentence.len() <= LONGEST);
                // Only the one byte that says so makes it good.
                let good = place == MAGIC.len() && value == GOOD;
                assert_eq!(read.outcome == Outcome::Good, good, "{place} {value}");
            }
        }
    }

    #[test]
    fn a_process_that_ended_without_an_answer_found_nothing_good() {
        let good = Answer::good().encode();
        for bytes in [&b""[..], &good[..LEN - 1], &[good, good].concat(), b"+"] {
            assert_eq!(Answer::decode(bytes).outcome, Outcome::Bad);
        }
    }
}
