//! The few things that both drawings need: text that cannot break out, colours for light and
//! dark viewers, and lengths as people read them.

use std::fmt::Write;

/// Font of all text.
const FONT: &str = "font: 13px system-ui, sans-serif";

/// The start of a drawing of `width` × `height` pixels with its own colours.
pub(crate) fn open(width: u32, height: u32, title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" role=\"img\">\n<title>{}</title>\n<style>\n\
         text {{ {FONT}; fill: #1d2433; }} .dim {{ fill: #667085; }} .title {{ font-size: 18px; \
         font-weight: 600; }} .small {{ font-size: 11px; }} .back {{ fill: #fbfaf7; }} \
         .line {{ stroke: #d9d6cc; }} .on {{ fill: #fff; }} .strong {{ font-weight: 600; }} \
         .middle {{ text-anchor: middle; }} .end {{ text-anchor: end; }} \
         .halo {{ paint-order: stroke; stroke: #fbfaf7; stroke-width: 3px; }}\n\
         @media (prefers-color-scheme: dark) {{ text {{ fill: #e8ecf4; }} .dim {{ fill: #93a0b5; \
         }} .back {{ fill: #0e1420; }} .line {{ stroke: #2b3750; }} .halo {{ stroke: #0e1420; }} }}\n</style>\n\
         <rect class=\"back\" width=\"{width}\" height=\"{height}\"/>\n",
        escape(title)
    )
}

/// One piece of text at `x`, `y` with a class of [`open`]'s style.
pub(crate) fn text(svg: &mut String, x: f64, y: f64, class: &str, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{}</text>",
        escape(text)
    );
}

/// Text as XML holds it; control characters, which XML cannot hold, become U+FFFD.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            char if char.is_control() => escaped.push('\u{fffd}'),
            char => escaped.push(char),
        }
    }
    escaped
}

/// Bytes in the largest unit that leaves at least one before the point.
pub(crate) fn bytes(count: u64) -> String {
    let units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    let value = count as f64;
    for (unit, size) in units {
        if value >= size {
            return format!("{:.1} {unit}", value / size);
        }
    }
    format!("{count} B")
}

/// Seconds in the unit that people use for that length.
pub(crate) fn seconds(value: f64) -> String {
    if value >= 1.0 {
        format!("{value:.2} s")
    } else if value >= 1e-3 {
        format!("{:.1} ms", value * 1e3)
    } else {
        format!("{:.0} µs", value * 1e6)
    }
}
