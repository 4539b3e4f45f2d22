//! The date of a build: never the clock's, so that the same inputs give the same bytes.

use super::error::BuildError;
use super::images::Loaded;

/// When this version of the tool was made, seconds since 1970 (2026-11-24). No machine that it
/// builds is older, so none starts with a clock before it.
const TOOL: u64 = 1_795_478_400;

/// `SOURCE_DATE_EPOCH` when it is set (reproducible-builds.org), else the newest date of the
/// tool and the images.
pub(super) fn of(loaded: &[Loaded]) -> Result<u64, BuildError> {
    if let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH") {
        let text = text.to_string_lossy().into_owned();
        return text.parse().map_err(|_| BuildError::SourceDate(text));
    }
    let created = loaded
        .iter()
        .filter_map(|image| rfc3339(image.image.config.created.as_deref()?));
    Ok(created.fold(TOOL, u64::max))
}

/// Seconds since 1970 of a date like `2024-05-01T12:30:00.123Z` or `…+02:00` (RFC 3339).
fn rfc3339(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    let bytes = text.as_bytes();
    if separators.iter().any(|(at, separator)| {
        bytes
            .get(*at)
            .is_none_or(|byte| !byte.eq_ignore_ascii_case(separator))
    }) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 {
        return None;
    }
    let zone = text
        .get(19..)?
        .trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset_minutes = match zone {
        "Z" | "z" => 0,
        _ => {
            let sign = match zone.get(..1)? {
                "+" => 1,
                "-" => -1,
                _ => return None,
            };
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            sign * (hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?)
        }
    };
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second
        - offset_minutes * 60;
    u64::try_from(seconds).ok()
}

/// Days of the proleptic Gregorian calendar; years counted from March, so that the leap day is
/// the last of its year.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days_before_month = (153 * month + 2) / 5;
    365 * year + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + days_before_month
        + day
        - 719_469
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn dates_of_images_are_read() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2024-02-29T12:30:00.123456789Z", 1_709_209_800),
            ("2024-05-01T02:00:00+02:00", 1_714_521_600),
            ("2026-11-24T00:00:00Z", super::TOOL),
        ] {
            assert_eq!(rfc3339(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "2024-13-01T00:00:00Z",
            "2024-05-01",
            "2024-05-01T00:00:00",
            "ä",
        ] {
            assert_eq!(rfc3339(text), None, "{text}");
        }
    }
}
