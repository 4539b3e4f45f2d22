//! Signal names and numbers on x86-64 (signal(7)).

/// SIGTERM.
pub(crate) const TERM: i32 = 15;

const NAMES: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// First and last real-time signal as the C library counts them.
const REALTIME: std::ops::RangeInclusive<i32> = 34..=64;

/// The number of `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3` or `RTMAX-1`.
///
/// # Errors
/// A clause that says what was expected.
pub(crate) fn number(text: &str) -> Result<i32, String> {
    let wrong = || format!("expected a signal like \"SIGTERM\" or \"15\", found {text:?}");
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Ok(number) = name.parse::<i32>() {
        let known = (1..=31).contains(&number) || REALTIME.contains(&number);
        return known.then_some(number).ok_or_else(wrong);
    }
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    let offset = |rest: &str, sign: char| -> Option<i32> {
        match rest.strip_prefix(sign) {
            Some(digits) => digits.parse().ok(),
            None if rest.is_empty() => Some(0),
            None => None,
        }
    };
    let realtime = if let Some(rest) = name.strip_prefix("RTMIN") {
        offset(rest, '+').and_then(|offset| REALTIME.start().checked_add(offset))
    } else if let Some(rest) = name.strip_prefix("RTMAX") {
        offset(rest, '-').and_then(|offset| REALTIME.end().checked_sub(offset))
    } else {
        None
    };
    realtime
        .filter(|number| REALTIME.contains(number))
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn every_spelling_of_a_signal_is_understood() {
        for (text, expected) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("15", 15),
            ("SIGQUIT", 3),
            ("SIGRTMIN+3", 37),
            ("RTMAX", 64),
        ] {
            assert_eq!(number(text), Ok(expected), "{text}");
        }
        for text in ["", "0", "32", "65", "SIGFOO", "RTMIN+31", "RTMIN3", "-1"] {
            assert!(number(text).is_err(), "{text}");
        }
    }
}
