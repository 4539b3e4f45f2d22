//! The records of a pax extended header: `LENGTH KEY=VALUE\n`.

use super::TarError;

/// Records in file order: GNU's first sparse format repeats keys.
#[derive(Debug, Default)]
pub(super) struct Records(Vec<(Vec<u8>, Vec<u8>)>);

impl Records {
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Self, TarError> {
        const BAD: TarError = TarError::Malformed("a pax record is broken");
        let mut records = Vec::new();
        while !bytes.is_empty() {
            let space = bytes.iter().take(21).position(|b| *b == b' ').ok_or(BAD)?;
            let (digits, _) = bytes.split_at_checked(space).ok_or(BAD)?;
            let len = decimal(digits)
                .and_then(|v| usize::try_from(v).ok())
                .ok_or(BAD)?;
            if len > bytes.len() {
                return Err(BAD);
            }
            let (record, rest) = bytes.split_at(len);
            let body = record
                .get(space + 1..)
                .and_then(|b| b.strip_suffix(b"\n"))
                .ok_or(BAD)?;
            let equals = body.iter().position(|b| *b == b'=').ok_or(BAD)?;
            let (key, value) = body.split_at(equals);
            let value = value.get(1..).unwrap_or_default();
            if key.is_empty() {
                return Err(BAD);
            }
            records.push((key.to_vec(), value.to_vec()));
            bytes = rest;
        }
        Ok(Self(records))
    }

    /// The last value of `key`; an empty value means "as in the header".
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        let found = self.0.iter().rev().find(|(k, _)| k == key.as_bytes());
        found
            .map(|(_, value)| value.as_slice())
            .filter(|v| !v.is_empty())
    }

    /// A path or link target.
    pub(super) fn text(&self, key: &str) -> Result<Option<Vec<u8>>, TarError> {
        match self.get(key) {
            Some(value) if value.contains(&0) => {
                Err(TarError::Malformed("a pax record's name contains NUL"))
            }
            value => Ok(value.map(<[u8]>::to_vec)),
        }
    }

    /// A whole number.
    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, TarError> {
        const BAD: TarError = TarError::Malformed("a pax record's number is not one");
        self.get(key)
            .map(|value| decimal(value).ok_or(BAD))
            .transpose()
    }

    /// A time: seconds and nanoseconds, the latter always counted forwards.
    pub(super) fn time(&self, key: &str) -> Result<Option<(i64, u32)>, TarError> {
        const BAD: TarError = TarError::Malformed("a pax record's time is not one");
        self.get(key)
            .map(|value| time(value).ok_or(BAD))
            .transpose()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(k, v)| (k.as_slice(), v.as_slice()))
    }
}

/// Decimal digits and nothing else.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn time(value: &[u8]) -> Option<(i64, u32)> {
    let (negative, digits) = match value.split_first()? {
        (b'-', rest) => (true, rest),
        _ => (false, value),
    };
    let mut parts = digits.splitn(2, |byte| *byte == b'.');
    let whole = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanos = fraction
        .iter()
        .chain(std::iter::repeat(&b'0'))
        .take(9)
        .fold(0u32, |nanos, digit| nanos * 10 + u32::from(digit - b'0'));
    Some(match (negative, nanos) {
        (false, nanos) => (whole, nanos),
        (true, 0) => (-whole, 0),
        (true, nanos) => (-whole - 1, 1_000_000_000 - nanos),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_split_by_their_lengths() {
        let records = Records::parse(b"12 path=a=b\n20 mtime=-1.2500000\n5 a=\n").expect("ok");
        assert_eq!(records.text("path").expect("text"), Some(b"a=b".to_vec()));
        assert_eq!(
            records.time("mtime").expect("time"),
            Some((-2, 750_000_000))
        );
        assert_eq!(records.get("a"), None);
    }

    #[test]
    fn broken_records_are_refused() {
        for bad in [
            &b"x"[..],
            b"5 a=b",
            b"99 a=b\n",
            b"0 \n",
            b"3 a\n",
            b"5 =b\n",
            b"18446744073709551616 a=b\n",
            b"6 a=bc",
        ] {
            assert!(Records::parse(bad).is_err(), "{bad:?}");
        }
    }
}
