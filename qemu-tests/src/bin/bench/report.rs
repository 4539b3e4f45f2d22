//! What was measured, against what was promised, as a table.

use std::fmt::Write;

/// How good a figure must be.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
}

/// One line of the table.
struct Row {
    subject: String,
    figure: String,
    verdict: Option<(f64, Target)>,
}

/// The table, filled as figures come.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// A heading.
    pub(crate) fn heading(&mut self, text: &str) {
        self.print(Row {
            subject: format!("\n{text}"),
            figure: String::new(),
            verdict: None,
        });
    }

    /// A figure to compare with.
    pub(crate) fn figure(&mut self, subject: &str, figure: String) {
        self.print(Row {
            subject: format!("  {subject}"),
            figure,
            verdict: None,
        });
    }

    /// A figure that was promised.
    pub(crate) fn judged(&mut self, subject: &str, figure: String, value: f64, target: Target) {
        self.print(Row {
            subject: format!("  {subject}"),
            figure,
            verdict: Some((value, target)),
        });
    }

    /// Whether every promise was kept.
    pub(crate) fn kept(&self) -> bool {
        self.rows
            .iter()
            .filter_map(|row| row.verdict)
            .all(|(value, target)| target.kept_by(value))
    }

    fn print(&mut self, row: Row) {
        println!("{}", row.text());
        self.rows.push(row);
    }
}

impl Row {
    fn text(&self) -> String {
        let mut text = format!("{:<52} {:>14}", self.subject, self.figure);
        if let Some((value, target)) = self.verdict {
            let verdict = if target.kept_by(value) {
                "PASS"
            } else {
                "FAIL"
            };
            // Writing to a string does not fail.
            let _ = write!(text, "   {value:.2} (target {target}) {verdict}");
        }
        text.trim_end().to_owned()
    }
}

impl Target {
    fn kept_by(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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
