//! Where the bytes went, as a picture: a squarified treemap (Bruls, Huizing, van Wijk, 2000), so
//! that areas are sizes and shapes stay near squares.

use std::fmt::Write;

use crate::inspect::describe;
use crate::manifest::{Group, Manifest, Part};
use crate::svg;

const WIDTH: f64 = 980.0;
const HEIGHT: f64 = 620.0;
const TOP: f64 = 72.0;
const MARGIN: f64 = 16.0;

/// A rectangle.
#[derive(Clone, Copy, Debug)]
struct Area {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

/// Draws the parts of a build.
#[must_use]
pub fn draw(manifest: &Manifest) -> String {
    let title = format!("{} {}", manifest.name, manifest.version);
    let mut drawing = svg::open(WIDTH as u32, HEIGHT as u32, &format!("Bytes of {title}"));
    svg::text(&mut drawing, MARGIN, 34.0, "title", &title);
    let total: u64 = manifest.parts.iter().map(|part| part.bytes).sum();
    let subtitle = format!("{} in the first slot of the disk", svg::bytes(total));
    svg::text(&mut drawing, MARGIN, 56.0, "dim", &subtitle);
    let mut parts: Vec<&Part> = manifest
        .parts
        .iter()
        .filter(|part| part.bytes > 0)
        .collect();
    parts.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    let sizes: Vec<f64> = parts.iter().map(|part| part.bytes as f64).collect();
    let whole = Area {
        x: MARGIN,
        y: TOP,
        width: WIDTH - 2.0 * MARGIN,
        height: HEIGHT - TOP - MARGIN,
    };
    for (part, area) in parts.iter().zip(squarify(&sizes, whole)) {
        rectangle(&mut drawing, manifest, part, area);
    }
    drawing.push_str("</svg>\n");
    drawing
}

fn rectangle(drawing: &mut String, manifest: &Manifest, part: &Part, area: Area) {
    let name = describe(manifest, part);
    let size = svg::bytes(part.bytes);
    // Writing to a String cannot fail.
    let _ = writeln!(
        drawing,
        "<g><title>{}: {size}</title><rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" \
         height=\"{:.1}\" rx=\"3\" fill=\"{}\"/>",
        svg::escape(&name),
        area.x + 1.0,
        area.y + 1.0,
        (area.width - 2.0).max(0.5),
        (area.height - 2.0).max(0.5),
        colour(manifest, &part.group)
    );
    // About seven pixels for a letter of 13.
    let fits = ((area.width - 14.0) / 7.0).max(0.0) as usize;
    if fits >= 4 && area.height > 24.0 {
        let label = shortened(&name, fits);
        svg::text(drawing, area.x + 8.0, area.y + 20.0, "on", &label);
    }
    if fits >= size.len() && area.height > 42.0 {
        svg::text(drawing, area.x + 8.0, area.y + 37.0, "on small", &size);
    }
    drawing.push_str("</g>\n");
}

/// A name in at most so many letters: without what kind of part it is, which its colour says,
/// or cut.
fn shortened(name: &str, letters: usize) -> String {
    if name.chars().count() <= letters {
        return name.to_owned();
    }
    let name = ["userland: ", "container ", "boot: "]
        .into_iter()
        .find_map(|kind| name.strip_prefix(kind))
        .unwrap_or(name);
    if name.chars().count() <= letters {
        return name.to_owned();
    }
    let mut cut: String = name.chars().take(letters.saturating_sub(1)).collect();
    cut.truncate(cut.trim_end_matches([' ', ':', '(']).len());
    cut.push('…');
    cut
}

fn colour(manifest: &Manifest, group: &Group) -> &'static str {
    const IMAGES: [&str; 5] = ["#c8712b", "#a8483f", "#8d6a9f", "#5f7f3a", "#b08a2e"];
    match group {
        Group::Kernel => "#2f5d8a",
        Group::Boot => "#66788f",
        Group::Userland => "#0f7f80",
        Group::Verity => "#8d99ae",
        Group::Image(digest) => {
            let mut digests: Vec<&str> = Vec::new();
            for container in &manifest.containers {
                if !digests.contains(&container.digest.as_str()) {
                    digests.push(&container.digest);
                }
            }
            let index = digests.iter().position(|known| known == digest);
            IMAGES[index.unwrap_or(0) % IMAGES.len()]
        }
    }
}

/// Areas for `sizes`, which are sorted from large to small, that fill `whole`.
fn squarify(sizes: &[f64], whole: Area) -> Vec<Area> {
    let total: f64 = sizes.iter().sum();
    let scale = whole.width * whole.height / total.max(1.0);
    let scaled: Vec<f64> = sizes.iter().map(|size| size * scale).collect();
    let mut areas = Vec::with_capacity(scaled.len());
    let mut rest = whole;
    let mut start = 0;
    while start < scaled.len() {
        let side = rest.width.min(rest.height);
        let mut end = start + 1;
        while end < scaled.len()
            && worst(&scaled[start..=end], side) <= worst(&scaled[start..end], side)
        {
            end += 1;
        }
        rest = place(&scaled[start..end], rest, &mut areas);
        start = end;
    }
    areas
}

/// The worst ratio of sides in a row of these areas along `side`.
fn worst(row: &[f64], side: f64) -> f64 {
    let sum: f64 = row.iter().sum();
    let largest = row.iter().copied().fold(f64::MIN, f64::max);
    let smallest = row.iter().copied().fold(f64::MAX, f64::min);
    let square = side * side;
    (square * largest / (sum * sum)).max(sum * sum / (square * smallest))
}

/// Puts one row at the shorter side of `rest` and returns what is left.
fn place(row: &[f64], rest: Area, areas: &mut Vec<Area>) -> Area {
    let sum: f64 = row.iter().sum();
    let upright = rest.width >= rest.height;
    let side = if upright { rest.height } else { rest.width }.max(f64::EPSILON);
    let depth = sum / side;
    let mut along = 0.0;
    for area in row {
        let length = area / depth.max(f64::EPSILON);
        areas.push(if upright {
            Area {
                x: rest.x,
                y: rest.y + along,
                width: depth,
                height: length,
            }
        } else {
            Area {
                x: rest.x + along,
                y: rest.y,
                width: length,
                height: depth,
            }
        });
        along += length;
    }
    if upright {
        Area {
            x: rest.x + depth,
            width: rest.width - depth,
            ..rest
        }
    } else {
        Area {
            y: rest.y + depth,
            height: rest.height - depth,
            ..rest
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_sizes_and_stay_inside() {
        let sizes = [600.0, 300.0, 60.0, 30.0, 9.0, 1.0];
        let whole = Area {
            x: 10.0,
            y: 20.0,
            width: 400.0,
            height: 250.0,
        };
        let areas = squarify(&sizes, whole);
        assert_eq!(areas.len(), sizes.len());
        for (size, area) in sizes.iter().zip(&areas) {
            let expected = size / 1000.0 * 100_000.0;
            assert!((area.width * area.height - expected).abs() < 1e-6);
            assert!(area.x >= 10.0 - 1e-9 && area.x + area.width <= 410.0 + 1e-9);
            assert!(area.y >= 20.0 - 1e-9 && area.y + area.height <= 270.0 + 1e-9);
        }
    }

    #[test]
    fn a_name_that_does_not_fit_loses_its_kind_and_then_its_end() {
        assert_eq!(shortened("userland: /init", 15), "userland: /init");
        assert_eq!(shortened("userland: /init", 9), "/init");
        assert_eq!(shortened("container web: layer sha256", 6), "web…");
        assert_eq!(shortened("kernel", 4), "ker…");
    }

    #[test]
    fn no_parts_make_no_areas() {
        let whole = Area {
            x: 0.0,
            y: 0.0,
            width: 1.0,
            height: 1.0,
        };
        assert!(squarify(&[], whole).is_empty());
    }
}
