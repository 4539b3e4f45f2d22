//! Points in time as metadata writes them, and the clock of a check.

use std::fmt;

const DAY_S: i64 = 86_400;

/// A point in time, in seconds since 1970 (UTC).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub i64);

/// What a check takes for the present, fixed when it starts (specification, 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock(Time);

impl Clock {
    /// `now` as the machine believes it, but never before `floor`: the time at which the running
    /// image was built, which cannot be later than the present. A clock that was set back, or that
    /// starts in 1970, therefore brings back no metadata that had expired by then.
    #[must_use]
    pub fn new(now: Time, floor: Time) -> Self {
        Self(now.max(floor))
    }

    /// The present.
    #[must_use]
    pub fn now(self) -> Time {
        self.0
    }
}

impl Time {
    /// Reads `YYYY-MM-DDThh:mm:ssZ` (specification, 4.2.1).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: &[u8; 20] = text.as_bytes().try_into().ok()?;
        let marks = [
            (4, b'-'),
            (7, b'-'),
            (10, b'T'),
            (13, b':'),
            (16, b':'),
            (19, b'Z'),
        ];
        if marks.iter().any(|&(at, mark)| bytes.get(at) != Some(&mark)) {
            return None;
        }
        let number = |from: usize, to: usize| -> Option<i64> {
            let digits = text.get(from..to)?;
            let plain = digits.bytes().all(|digit| digit.is_ascii_digit());
            plain.then(|| digits.parse().ok())?
        };
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        let known = (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
        if !known || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let seconds = (hour * 60 + minute) * 60 + second;
        Some(Self(days_since_1970(year, month, day) * DAY_S + seconds))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0.div_euclid(DAY_S), self.0.rem_euclid(DAY_S));
        let (year, month, day) = date(days);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    }
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the Gregorian calendar. A year is counted from March, so that the
/// leap day is its last one.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_since_1970`].
fn date(days: i64) -> (i64, i64, i64) {
    let days = days.saturating_add(719_468);
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_are_read_and_written() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59Z", -1),
            ("2000-02-29T12:30:45Z", 951_827_445),
            ("2026-11-24T15:30:28Z", 1_795_534_228),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(Time::parse(text), Some(Time(seconds)), "{text}");
            assert_eq!(Time(seconds).to_string(), text);
        }
    }

    #[test]
    fn every_day_of_400_years_survives_the_round_trip() {
        for day in -146_097..146_097 {
            let time = Time(day * DAY_S + 1);
            assert_eq!(Time::parse(&time.to_string()), Some(time));
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for wrong in [
            "",
            "2026-11-24",
            "2026-11-24T15:30:28",
            "2026-11-24T15:30:28+00:00",
            "2026-11-24 15:30:28Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2026-11-24T24:00:00Z",
            "2026-11-24T23:60:00Z",
            "2026-11-24T23:59:60Z",
            "+026-11-24T15:30:28Z",
            "2026-11-24T15:30:2éZ",
        ] {
            assert_eq!(Time::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_clock_never_runs_before_its_floor() {
        assert_eq!(Clock::new(Time(0), Time(7)).now(), Time(7));
        assert_eq!(Clock::new(Time(9), Time(7)).now(), Time(9));
    }
}
