//! What the updater tells PID 1: records of one length, without a byte that came from the network
//! but names and sentences whose characters were checked.

use std::fmt;

/// Bytes of a record: less than a pipe takes in one piece.
pub const LEN: usize = 1024;

const VERSION_BYTES: usize = 64;
const SENTENCE_BYTES: usize = 768;
const MAGIC: [u8; 4] = *b"upd1";

/// What a record is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Nothing is known yet.
    #[default]
    Unknown,
    /// The machine looks for nothing by itself.
    Off,
    /// No newer version is offered.
    Current,
    /// There is one that is not taken, now or at all.
    Waiting,
    /// It is being downloaded.
    Staging,
    /// It is in the other slot.
    Staged,
    /// This is its trial.
    Trying,
    /// Its trial went well.
    Committed,
    /// Its trial went wrong, or it cannot be tried.
    Rejected,
    /// Something keeps the machine from updating.
    Trouble,
}

impl State {
    const ALL: [Self; 10] = [
        Self::Unknown,
        Self::Off,
        Self::Current,
        Self::Waiting,
        Self::Staging,
        Self::Staged,
        Self::Trying,
        Self::Committed,
        Self::Rejected,
        Self::Trouble,
    ];

    /// As it stands in the log and in the status.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Off => "off",
            Self::Current => "current",
            Self::Waiting => "waiting",
            Self::Staging => "staging",
            Self::Staged => "staged",
            Self::Trying => "trying",
            Self::Committed => "committed",
            Self::Rejected => "rejected",
            Self::Trouble => "trouble",
        }
    }
}

/// What PID 1 is asked to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Request {
    /// Show this.
    #[default]
    Show,
    /// Show this and restart the machine.
    Restart,
    /// Add this version and reason to those that are not tried again.
    List,
}

/// One record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// What PID 1 is to do.
    pub request: Request,
    /// How things stand.
    pub state: State,
    /// The version that it is about, or empty.
    pub version: String,
    /// The same for a person.
    pub sentence: String,
    /// When the server last answered, seconds since 1970; 0 for never.
    pub checked: u64,
}

impl Record {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; LEN] {
        let request = match self.request {
            Request::Show => 0,
            Request::Restart => 1,
            Request::List => 2,
        };
        let state = State::ALL.iter().position(|state| *state == self.state);
        let version = plain(&self.version, VERSION_BYTES);
        let sentence = plain(&self.sentence, SENTENCE_BYTES);
        let mut fields = Vec::with_capacity(LEN);
        fields.extend_from_slice(&MAGIC);
        fields.push(request);
        fields.push(u8::try_from(state.unwrap_or_default()).unwrap_or_default());
        fields.push(u8::try_from(version.len()).unwrap_or_default());
        fields.push(0);
        let length = u16::try_from(sentence.len()).unwrap_or_default();
        fields.extend_from_slice(&length.to_le_bytes());
        fields.extend_from_slice(&self.checked.to_le_bytes());
        fields.extend_from_slice(version.as_bytes());
        fields.extend_from_slice(sentence.as_bytes());
        let mut bytes = [0; LEN];
        for (to, from) in bytes.iter_mut().zip(fields) {
            *to = from;
        }
        bytes
    }

    /// Reads one; `None` when it is none.
    #[must_use]
    pub fn decode(bytes: &[u8; LEN]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<18>()?;
        let [
            m0,
            m1,
            m2,
            m3,
            request,
            state,
            version,
            _,
            s0,
            s1,
            checked @ ..,
        ] = *head;
        if [m0, m1, m2, m3] != MAGIC {
            return None;
        }
        let (version, rest) = rest.split_at_checked(usize::from(version))?;
        let sentence = rest.get(..usize::from(u16::from_le_bytes([s0, s1])))?;
        let text = |bytes: &[u8], most| {
            let text = std::str::from_utf8(bytes).ok()?;
            (plain(text, most) == text).then(|| text.to_owned())
        };
        Some(Self {
            request: match request {
                0 => Request::Show,
                1 => Request::Restart,
                2 => Request::List,
                _ => return None,
            },
            state: *State::ALL.get(usize::from(state))?,
            version: text(version, VERSION_BYTES)?,
            sentence: text(sentence, SENTENCE_BYTES)?,
            checked: u64::from_le_bytes(checked),
        })
    }
}

/// Printable ASCII, at most `most` bytes: what goes to a console.
fn plain(text: &str, most: usize) -> String {
    let printable = |letter: char| match letter {
        ' '..='~' => letter,
        _ => '?',
    };
    text.chars().take(most).map(printable).collect()
}

impl fmt::Display for Record {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "update={}", self.state.name())?;
        if !self.version.is_empty() {
            write!(out, " version={}", self.version)?;
        }
        write!(out, " : {}", self.sentence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_understood() {
        for state in State::ALL {
            let record = Record {
                request: Request::Restart,
                state,
                version: "1.4.0".into(),
                sentence: "the container web is unhealthy".into(),
                checked: 1_700_000_000,
            };
            assert_eq!(Record::decode(&record.encode()), Some(record));
        }
    }

    #[test]
    fn nothing_reaches_a_console_but_plain_text() {
        let record = Record {
            sentence: format!("\u{1b}[2J{}", "x".repeat(4096)),
            ..Record::default()
        };
        let read = Record::decode(&record.encode()).expect("a record");
        assert!(read.sentence.starts_with("?[2Jxxx") && read.sentence.len() == SENTENCE_BYTES);
    }

    #[test]
    fn bytes_that_are_no_record_are_refused() {
        assert_eq!(Record::decode(&[0; LEN]), None);
        let good = Record::default().encode();
        for (index, value) in [(4, 9), (5, 10), (6, 255), (9, 255)] {
            let mut bytes = good;
            bytes[index] = value;
            // A longer version is still inside the record, and then it is not plain text.
            assert_eq!(Record::decode(&bytes), None, "byte {index}");
        }
    }
}
