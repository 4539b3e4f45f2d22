//! The boot as a picture: one bar for each thing that took time, in the order of its start.
//!
//! Firmware and kernel take so much longer than PID 1's phases that these have a chart of their
//! own, with a scale of their own.

use std::fmt::Write;

use super::{Part, Report};
use crate::svg;

const WIDTH: u32 = 980;
const NAMES: f64 = 170.0;
const RIGHT: f64 = 90.0;
const TOP: f64 = 98.0;
const ROW: f64 = 24.0;
/// Below a chart: its axis, and what answered when.
const AXIS: f64 = 62.0;

const FIRMWARE: &str = "#8d99ae";
const KERNEL: &str = "#3a6ea5";
const PHASE: &str = "#0f8b8d";
const CONTAINER: &str = "#d98324";
const FAILED: &str = "#c0362c";

struct Bar {
    name: String,
    /// Seconds since power-on.
    start: f64,
    /// None when it was not over yet when the report was made.
    end: Option<f64>,
    colour: &'static str,
}

/// Bars on one scale.
struct Chart<'a> {
    title: &'a str,
    bars: Vec<Bar>,
    /// Seconds since power-on at its left and right ends.
    from: f64,
    to: f64,
    /// Ports and when they answered.
    answers: &'a [(u16, f64)],
}

pub(super) fn draw(report: &Report) -> String {
    let answers: Vec<(u16, f64)> = report
        .answers
        .iter()
        .map(|(port, after)| (*port, after.as_secs_f64()))
        .collect();
    let charts: Vec<Chart<'_>> = report
        .kernel_start
        .map(|start| charts(report, start.as_secs_f64(), &answers))
        .into_iter()
        .flatten()
        .collect();
    let height = TOP + charts.iter().map(Chart::height).sum::<f64>().max(ROW);
    let title = format!("Boot of {}", report.title);
    let mut drawing = svg::open(WIDTH, height as u32, &title);
    svg::text(&mut drawing, 24.0, 34.0, "title", &report.title);
    svg::text(&mut drawing, 24.0, 56.0, "dim", &subtitle(report));
    if charts.is_empty() {
        let text = "No line of PID 1 was seen: the machine did not get that far.";
        svg::text(&mut drawing, 24.0, TOP + 4.0, "", text);
    }
    let mut top = TOP;
    for chart in &charts {
        chart.draw(&mut drawing, top);
        top += chart.height();
    }
    drawing.push_str("</svg>\n");
    drawing
}

/// The whole boot, then PID 1's part of it.
fn charts<'a>(report: &Report, kernel_start: f64, answers: &'a [(u16, f64)]) -> [Chart<'a>; 2] {
    let phases = phases(report, kernel_start);
    let first = phases.first().map_or(kernel_start, |bar| bar.start);
    let last = phases
        .iter()
        .map(|bar| bar.end.unwrap_or(bar.start))
        .fold(first, f64::max);
    let mut whole = Vec::new();
    if report.firmware {
        whole.push(Bar {
            name: "firmware".to_owned(),
            start: 0.0,
            end: Some(kernel_start),
            colour: FIRMWARE,
        });
    }
    whole.push(Bar {
        name: "kernel".to_owned(),
        start: kernel_start,
        end: Some(first),
        colour: KERNEL,
    });
    whole.push(Bar {
        name: "PID 1".to_owned(),
        start: first,
        end: Some(last),
        colour: PHASE,
    });
    let answered = answers.iter().map(|(_, after)| *after);
    [
        Chart {
            title: "From power-on",
            bars: whole,
            from: 0.0,
            to: answered.fold(last, f64::max).max(0.001),
            answers,
        },
        Chart {
            title: "From PID 1's start",
            bars: phases,
            from: first,
            to: last.max(first + 0.001),
            answers: &[],
        },
    ]
}

impl Chart<'_> {
    fn height(&self) -> f64 {
        ROW * (self.bars.len() + 1) as f64 + AXIS
    }

    fn x(&self, seconds: f64) -> f64 {
        let width = f64::from(WIDTH) - NAMES - RIGHT;
        NAMES + width * (seconds - self.from) / (self.to - self.from)
    }

    fn draw(&self, drawing: &mut String, top: f64) {
        svg::text(drawing, 24.0, top - 4.0, "strong", self.title);
        let bottom = top + ROW * self.bars.len() as f64;
        self.axis(drawing, top, bottom);
        for (port, after) in self.answers {
            self.answer(drawing, *port, *after, (top, bottom));
        }
        for (index, bar) in self.bars.iter().enumerate() {
            self.bar(drawing, bar, top + ROW * index as f64);
        }
    }

    fn bar(&self, drawing: &mut String, bar: &Bar, y: f64) {
        svg::text(drawing, 24.0, y + 16.0, "", &bar.name);
        let left = self.x(bar.start);
        let width = (self.x(bar.end.unwrap_or(self.to)) - left).max(1.5);
        let faint = if bar.end.is_none() {
            " opacity=\"0.4\""
        } else {
            ""
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            drawing,
            "<rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"14\" rx=\"3\" \
             fill=\"{}\"{faint}/>",
            y + 5.0,
            bar.colour
        );
        let length = match bar.end {
            Some(end) => svg::seconds(end - bar.start),
            None => "not over yet".to_owned(),
        };
        let x = left + width + 6.0;
        svg::text(drawing, x, y + 16.0, "dim small halo", &length);
    }

    fn answer(&self, drawing: &mut String, port: u16, after: f64, (top, bottom): (f64, f64)) {
        let at = self.x(after);
        // Writing to a String cannot fail.
        let _ = writeln!(
            drawing,
            "<path d=\"M{at:.1} {top:.1}V{:.1}\" stroke=\"{CONTAINER}\" \
             stroke-width=\"1.5\" stroke-dasharray=\"4 3\"/>",
            bottom + 34.0
        );
        let label = format!("port {port} answers: {}", svg::seconds(after));
        let class = if at > NAMES + 200.0 {
            "small end"
        } else {
            "small"
        };
        svg::text(drawing, at, bottom + 46.0, class, &label);
    }

    fn axis(&self, drawing: &mut String, top: f64, bottom: f64) {
        let length = self.to - self.from;
        let step = [
            0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0,
            5.0, 10.0, 20.0, 60.0,
        ]
        .into_iter()
        .find(|step| length / step <= 10.0)
        .unwrap_or(300.0);
        let mut tick = 0.0;
        while tick <= length {
            let at = self.x(self.from + tick);
            // Writing to a String cannot fail.
            let _ = writeln!(
                drawing,
                "<path class=\"line\" d=\"M{at:.1} {top:.1}V{:.1}\"/>",
                bottom + 8.0
            );
            let label = if length < 1.0 {
                format!("{:.0} ms", tick * 1e3)
            } else if step < 1.0 {
                format!("{tick:.1} s")
            } else {
                format!("{tick:.0} s")
            };
            svg::text(drawing, at, bottom + 24.0, "dim small middle", &label);
            tick += step;
        }
    }
}

fn subtitle(report: &Report) -> String {
    match report.ready() {
        Some(ready) => format!(
            "{}; every container started {} after power-on",
            report.subtitle,
            svg::seconds(ready.as_secs_f64())
        ),
        None => report.subtitle.clone(),
    }
}

/// PID 1's phases and the containers' starts.
fn phases(report: &Report, kernel_start: f64) -> Vec<Bar> {
    let at = |us: u64| kernel_start + us as f64 / 1e6;
    let spans = report.spans.iter().map(|span| Bar {
        name: match span.part {
            Part::Phase => span.name.clone(),
            Part::Container => format!("container {}", span.name),
        },
        start: at(span.start_us),
        end: span.end_us.map(at),
        colour: match (span.failed, span.part) {
            (true, _) => FAILED,
            (false, Part::Phase) => PHASE,
            (false, Part::Container) => CONTAINER,
        },
    });
    let mut bars: Vec<Bar> = spans.collect();
    bars.sort_by(|a, b| a.start.total_cmp(&b.start));
    bars
}
