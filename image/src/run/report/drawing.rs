//! The boot as a picture: one bar for each thing that took time, in the order of its start.

use std::fmt::Write;

use super::{Part, Report};
use crate::svg;

const WIDTH: u32 = 980;
const NAMES: f64 = 170.0;
const RIGHT: f64 = 90.0;
const TOP: f64 = 84.0;
const ROW: f64 = 24.0;

const FIRMWARE: &str = "#8d99ae";
const KERNEL: &str = "#3a6ea5";
const PHASE: &str = "#0f8b8d";
const CONTAINER: &str = "#d98324";
const FAILED: &str = "#c0362c";

struct Bar {
    name: String,
    /// Seconds since power-on.
    start: f64,
    end: f64,
    colour: &'static str,
}

pub(super) fn draw(report: &Report) -> String {
    let bars = bars(report);
    let answers: Vec<(u16, f64)> = report
        .answers
        .iter()
        .map(|(port, after)| (*port, after.as_secs_f64()))
        .collect();
    let end = bars
        .iter()
        .map(|bar| bar.end)
        .chain(answers.iter().map(|(_, after)| *after))
        .fold(0.001, f64::max);
    let bottom = TOP + ROW * bars.len().max(1) as f64;
    let height = (bottom + 62.0) as u32;
    let mut drawing = svg::open(WIDTH, height, &format!("Boot of {}", report.title));
    svg::text(&mut drawing, 24.0, 34.0, "title", &report.title);
    svg::text(&mut drawing, 24.0, 56.0, "dim", &subtitle(report));
    if bars.is_empty() {
        let text = "No line of PID 1 was seen: the machine did not get that far.";
        svg::text(&mut drawing, 24.0, TOP + 16.0, "", text);
    }
    let x = |seconds: f64| NAMES + (f64::from(WIDTH) - NAMES - RIGHT) * seconds / end;
    axis(&mut drawing, end, bottom, x);
    for (index, bar) in bars.iter().enumerate() {
        let y = TOP + ROW * index as f64;
        svg::text(&mut drawing, 24.0, y + 16.0, "", &bar.name);
        let (left, width) = (x(bar.start), (x(bar.end) - x(bar.start)).max(1.5));
        // Writing to a String cannot fail.
        let _ = writeln!(
            drawing,
            "<rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"14\" rx=\"3\" \
             fill=\"{}\"/>",
            y + 5.0,
            bar.colour
        );
        let length = svg::seconds(bar.end - bar.start);
        svg::text(
            &mut drawing,
            left + width + 6.0,
            y + 16.0,
            "dim small",
            &length,
        );
    }
    for (port, after) in answers {
        let at = x(after);
        let _ = writeln!(
            drawing,
            "<path d=\"M{at:.1} {TOP:.1}V{bottom:.1}\" stroke=\"{CONTAINER}\" \
             stroke-width=\"1.5\" stroke-dasharray=\"4 3\"/>"
        );
        let label = format!(":{port} answers, {}", svg::seconds(after));
        let left = (at - 150.0).max(NAMES);
        svg::text(&mut drawing, left, bottom + 46.0, "small", &label);
    }
    drawing.push_str("</svg>\n");
    drawing
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

fn bars(report: &Report) -> Vec<Bar> {
    let Some(kernel_start) = report.kernel_start else {
        return Vec::new();
    };
    let kernel_start = kernel_start.as_secs_f64();
    let at = |us: u64| kernel_start + us as f64 / 1e6;
    let first = report.spans.iter().map(|span| span.start_us).min();
    let mut bars = Vec::new();
    if report.firmware {
        bars.push(Bar {
            name: "firmware".to_owned(),
            start: 0.0,
            end: kernel_start,
            colour: FIRMWARE,
        });
    }
    bars.push(Bar {
        name: "kernel".to_owned(),
        start: kernel_start,
        end: at(first.unwrap_or(0)),
        colour: KERNEL,
    });
    bars.extend(report.spans.iter().map(|span| Bar {
        name: match span.part {
            Part::Phase => span.name.clone(),
            Part::Container => format!("container {}", span.name),
        },
        start: at(span.start_us),
        end: at(span.end_us.unwrap_or(span.start_us)),
        colour: match (span.failed, span.part) {
            (true, _) => FAILED,
            (false, Part::Phase) => PHASE,
            (false, Part::Container) => CONTAINER,
        },
    }));
    bars
}

fn axis(drawing: &mut String, end: f64, bottom: f64, x: impl Fn(f64) -> f64) {
    let step = [
        0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0,
    ]
    .into_iter()
    .find(|step| end / step <= 10.0)
    .unwrap_or(300.0);
    let mut tick = 0.0;
    while tick <= end {
        let at = x(tick);
        // Writing to a String cannot fail.
        let _ = writeln!(
            drawing,
            "<path class=\"line\" d=\"M{at:.1} {TOP:.1}V{:.1}\"/>",
            bottom + 8.0
        );
        let label = if step < 1.0 {
            format!("{tick:.2} s")
        } else {
            format!("{tick:.0} s")
        };
        svg::text(drawing, at - 8.0, bottom + 24.0, "dim small", &label);
        tick += step;
    }
}
