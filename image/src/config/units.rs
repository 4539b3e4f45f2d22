//! Durations and sizes as people write them: `10s`, `500ms`, `64M`.

/// Milliseconds of `500ms`, `10s`, `3m`, `2h`.
///
/// # Errors
/// A clause that says what was expected.
pub(crate) fn duration_ms(text: &str) -> Result<u64, String> {
    let wrong =
        || format!("expected a duration like \"500ms\", \"10s\", \"3m\" or \"2h\", found {text:?}");
    let (digits, unit) = split_digits(text);
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number
        .checked_mul(factor)
        .filter(|ms| *ms <= MOST_MS)
        .ok_or_else(|| format!("{text:?} is longer than a year"))
}

/// Bytes of `4096`, `64K`, `256M`, `2G` (multiples of 1024).
///
/// # Errors
/// A clause that says what was expected.
pub(super) fn size_bytes(text: &str) -> Result<u64, String> {
    let wrong = || {
        format!("expected a size like \"64K\", \"256M\" or \"2G\" (of 1024 each), found {text:?}")
    };
    let (digits, unit) = split_digits(text);
    let shift = match unit {
        "" => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number
        .checked_mul(1 << shift)
        .filter(|bytes| *bytes <= MOST_BYTES)
        .ok_or_else(|| format!("{text:?} is larger than 1024G"))
}

/// The shortest exact way to write `bytes`, for messages and tables.
#[must_use]
pub fn write_size(bytes: u64) -> String {
    for (shift, unit) in [(30, "G"), (20, "M"), (10, "K")] {
        if bytes >= 1 << shift && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

const MOST_MS: u64 = 366 * 24 * 3_600_000;
const MOST_BYTES: u64 = 1 << 40;

fn split_digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_exact() {
        assert_eq!(duration_ms("500ms"), Ok(500));
        assert_eq!(duration_ms("10s"), Ok(10_000));
        assert_eq!(duration_ms("3m"), Ok(180_000));
        assert_eq!(size_bytes("64K"), Ok(65_536));
        assert_eq!(size_bytes("2G"), Ok(2 << 30));
        assert_eq!(size_bytes("4096"), Ok(4096));
        assert_eq!(write_size(256 << 20), "256M");
        assert_eq!(write_size(1025), "1025");
    }

    #[test]
    fn what_is_not_a_unit_or_too_large_is_refused() {
        for text in ["", "10", "s", "-1s", "1.5s", "10 s", "99999999999999999h"] {
            assert!(duration_ms(text).is_err(), "{text:?}");
        }
        for text in ["", "M", "-1M", "1.5G", "64 M", "64MB", "99999999999G"] {
            assert!(size_bytes(text).is_err(), "{text:?}");
        }
    }
}
