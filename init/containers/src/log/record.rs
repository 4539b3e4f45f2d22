//! One record of a log: `TIME STREAM TAG CONTENT`, a line each, as in Kubernetes' container
//! runtime interface, which log shippers read.
//!
//! TIME is RFC 3339 in UTC with nanoseconds; STREAM is `stdout` or `stderr`; TAG is `F` when
//! CONTENT ends a line of the container's and `P` when more of that line follows in the next
//! record of the stream. CONTENT is the container's bytes, whatever they are, without the newline.

use std::io::Write;
use std::time::Duration;

/// Where a container wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// One record, read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// When it was read from the container.
    pub time: &'a str,
    /// Where the container wrote it.
    pub stream: Stream,
    /// Whether it ends a line.
    pub full: bool,
    /// What the container wrote.
    pub content: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads one line of a log, without its newline.
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let record = Self {
            time: std::str::from_utf8(fields.next()?).ok()?,
            stream: match fields.next()? {
                b"stdout" => Stream::Stdout,
                b"stderr" => Stream::Stderr,
                _ => return None,
            },
            full: match fields.next()? {
                b"F" => true,
                b"P" => false,
                _ => return None,
            },
            content: fields.next()?,
        };
        Some(record)
    }
}

/// Makes records of what was read at once, and hands each to `take`.
pub(super) fn split(
    since_1970: Duration,
    stream: Stream,
    read: &[u8],
    mut take: impl FnMut(&[u8]),
) {
    let time = rfc3339(since_1970);
    let mut record = Vec::new();
    for line in read.split_inclusive(|byte| *byte == b'\n') {
        let (content, tag) = match line.strip_suffix(b"\n") {
            Some(content) => (content, 'F'),
            None => (line, 'P'),
        };
        record.clear();
        // Writing to a vector cannot fail.
        let _ = write!(record, "{time} {} {tag} ", stream.name());
        record.extend_from_slice(content);
        record.push(b'\n');
        take(&record);
    }
}

/// A time as RFC 3339 has it. Days to dates after Howard Hinnant, "chrono-Compatible Low-Level
/// Date Algorithms", `civil_from_days`, for days from 1970 on.
fn rfc3339(since_1970: Duration) -> String {
    const DAY: u64 = 86_400;
    let seconds = since_1970.as_secs();
    let (days, second) = (seconds / DAY, seconds % DAY);
    // Years begin in March here, so that a leap day is the last of its year; eras are 400 years.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:09}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since_1970.subsec_nanos()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_date_1() {
        // `date -u -d @N +%FT%T` of coreutils.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_799, "2000-02-29T23:59:59"),
            (1_582_934_400, "2020-02-29T00:00:00"),
            (1_583_020_800, "2020-03-01T00:00:00"),
            (1_795_491_714, "2026-11-24T03:41:54"),
            (4_107_542_400, "2100-03-01T00:00:00"),
            (4_133_980_799, "2100-12-31T23:59:59"),
        ] {
            let time = rfc3339(Duration::new(seconds, 7));
            assert_eq!(time, format!("{text}.000000007Z"));
        }
    }

    #[test]
    fn what_a_container_wrote_can_be_put_together_again() {
        let written: [&[u8]; 6] = [
            b"one\ntwo",
            b"",
            b" more\n\n",
            b"\xff\0 F \n",
            b"\n",
            b"end",
        ];
        let mut log = Vec::new();
        for chunk in written {
            split(Duration::ZERO, Stream::Stderr, chunk, |record| {
                log.extend_from_slice(record);
            });
        }
        let mut back = Vec::new();
        for line in log
            .strip_suffix(b"\n")
            .expect("ends")
            .split(|b| *b == b'\n')
        {
            let record = Record::parse(line).expect("a record");
            assert_eq!(record.stream, Stream::Stderr);
            back.extend_from_slice(record.content);
            if record.full {
                back.push(b'\n');
            }
        }
        assert_eq!(back, written.concat());
    }

    #[test]
    fn what_is_no_record_is_not_taken_for_one() {
        for line in [
            "",
            "t",
            "t stdout",
            "t stdout F",
            "t stdin F x",
            "t stdout X x",
        ] {
            assert_eq!(Record::parse(line.as_bytes()), None, "{line}");
        }
        let empty = Record::parse(b"t stdout F ").expect("an empty line is one");
        assert_eq!(empty.content, b"");
    }
}
