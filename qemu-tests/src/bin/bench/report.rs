//! What was measured, against what was promised, as tables.

use std::fmt::{self, Display};

/// How good a figure must be.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
}

/// A figure against its target.
#[derive(Clone, Copy)]
pub(crate) struct Verdict {
    /// The figure.
    pub(crate) value: f64,
    /// What it is, after the number ("of crun's").
    pub(crate) what: &'static str,
    /// How good it must be.
    pub(crate) target: Target,
}

/// Tables that are printed as figures come, and whether every promise was kept.
#[derive(Default)]
pub(crate) struct Report {
    missed: bool,
}

impl Report {
    /// Starts a table.
    pub(crate) fn heading(&mut self, title: &str, columns: &[&str]) {
        println!("\n{}", line(title, columns));
    }

    /// A line of the table: what was measured, a figure for each column.
    pub(crate) fn row(&mut self, subject: &str, cells: &[&str], verdict: Option<Verdict>) {
        let mut text = line(&format!("  {subject}"), cells);
        if let Some(verdict) = verdict {
            self.missed |= !verdict.target.kept_by(verdict.value);
            text.push_str(&format!("   {verdict}"));
        }
        println!("{text}");
    }

    /// A sentence below the table.
    pub(crate) fn note(&mut self, text: &str) {
        println!("  {text}");
    }

    /// Whether every promise was kept.
    pub(crate) fn kept(&self) -> bool {
        !self.missed
    }
}

fn line(subject: &str, cells: &[&str]) -> String {
    let mut text = format!("{subject:<60}");
    for cell in cells {
        text.push_str(&format!(" {cell:>14}"));
    }
    text
}

impl Target {
    fn kept_by(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = if self.target.kept_by(self.value) {
            "PASS"
        } else {
            "FAIL"
        };
        let Self { value, what, .. } = self;
        write!(out, "{kept}: {value:.2} {what} ({})", self.target)
    }
}

impl Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(out, "at most {most}"),
            Self::AtLeast(least) => write!(out, "at least {least}"),
        }
    }
}

/// Millions, for people.
pub(crate) fn millions(count: u64) -> String {
    format!("{:.2} million", count as f64 / 1e6)
}

/// Seconds, for people.
pub(crate) fn seconds(ns: u64) -> String {
    format!("{:.3} s", ns as f64 / 1e9)
}
