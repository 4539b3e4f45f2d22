//! What is wrong with a `berth.toml`: every mistake of the file at once, each with its place.

use std::fmt;
use std::ops::Range;

/// A place in the file, counted from 1; columns are characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Character in the line.
    pub column: usize,
}

impl Place {
    /// The place of byte `offset` of `text`.
    pub(super) fn of(text: &str, offset: usize) -> Self {
        let mut end = offset.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &text[..end];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where it is.
    pub place: Place,
    /// What is wrong there and what was expected.
    pub message: String,
}

/// All mistakes of one file, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes {
    /// The file's name as the user gave it.
    pub file: String,
    /// At least one.
    pub list: Vec<Mistake>,
}

impl Mistakes {
    /// A single mistake, found after the file was read (in an image, for example).
    #[must_use]
    pub fn one(file: &str, place: Place, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            list: vec![Mistake {
                place,
                message: message.into(),
            }],
        }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let Place { line, column } = mistake.place;
            write!(f, "{}:{line}:{column}: {}", self.file, mistake.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// Collects mistakes while a file is read.
#[derive(Debug)]
pub(super) struct Collector {
    text: String,
    list: Vec<(usize, String)>,
}

impl Collector {
    pub(super) fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            list: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, at: &Range<usize>, message: impl Into<String>) {
        self.list.push((at.start, message.into()));
    }

    pub(super) fn place(&self, at: &Range<usize>) -> Place {
        Place::of(&self.text, at.start)
    }

    /// The mistakes in the order of the file, if there were any.
    pub(super) fn finish(mut self, file: &str) -> Result<(), Mistakes> {
        if self.list.is_empty() {
            return Ok(());
        }
        self.list.sort();
        self.list.dedup();
        Err(Mistakes {
            file: file.to_owned(),
            list: self
                .list
                .into_iter()
                .map(|(offset, message)| Mistake {
                    place: Place::of(&self.text, offset),
                    message,
                })
                .collect(),
        })
    }
}
