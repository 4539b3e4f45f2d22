//! What the console said about the boot, on one time axis that starts at power-on.
//!
//! PID 1 writes each phase with the kernel's clock in microseconds; when a line arrived here is
//! known too. The smallest difference of both is when the kernel started; before that was the
//! firmware.

mod drawing;

use std::time::Duration;

use super::{Accelerator, Boot};

/// What comes before PID 1's words in every line of the contract.
const MARK: &str = "berth: ";

/// Most spans that are kept; a machine that restarts a container for ever says many lines.
const MAX_SPANS: usize = 400;

/// What part of a boot a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Phase,
    Container,
}

/// Something that took time. Microseconds of the kernel's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    part: Part,
    name: String,
    start_us: u64,
    end_us: Option<u64>,
    failed: bool,
}

/// The first boot of a run.
#[derive(Clone, Debug)]
pub struct Report {
    title: String,
    subtitle: String,
    firmware: bool,
    spans: Vec<Span>,
    /// Power-on to the kernel's start, once a line of PID 1 was seen.
    kernel_start: Option<Duration>,
    ready_us: Option<u64>,
    /// Ports and when they first answered.
    answers: Vec<(u16, Duration)>,
}

impl Report {
    pub(super) fn new(title: &str, accelerator: Accelerator, boot: &Boot) -> Self {
        let (firmware, way) = match boot {
            Boot::Firmware => (true, "UEFI firmware"),
            Boot::Direct { .. } => (false, "direct kernel boot"),
        };
        let runs = match accelerator {
            Accelerator::Kvm => "KVM",
            Accelerator::Tcg => "emulation",
        };
        Self {
            title: title.to_owned(),
            subtitle: format!("QEMU, {runs}, {way}"),
            firmware,
            spans: Vec::new(),
            kernel_start: None,
            ready_us: None,
            answers: Vec::new(),
        }
    }

    /// When every container had started, since power-on.
    #[must_use]
    pub fn ready(&self) -> Option<Duration> {
        Some(self.kernel_start? + Duration::from_micros(self.ready_us?))
    }

    /// Notes that a port answered.
    pub(super) fn answered(&mut self, port: u16, after: Duration) {
        self.answers.push((port, after));
    }

    /// Takes one line of the console that arrived `after` power-on.
    pub(super) fn line(&mut self, line: &str, after: Duration) {
        let Some(words) = Words::of(line) else {
            return;
        };
        let Some(t_us) = words.get("t").and_then(|t| t.parse::<u64>().ok()) else {
            return;
        };
        // A second boot of the same run would fold back onto the first.
        let before = self.spans.iter().map(|span| span.start_us).max();
        if self.ready_us.is_some() && before.is_some_and(|last| t_us < last) {
            return;
        }
        if let Some(start) = after.checked_sub(Duration::from_micros(t_us)) {
            self.kernel_start = Some(self.kernel_start.map_or(start, |known| known.min(start)));
        }
        if let Some(phase) = words.get("phase") {
            if words.has("start") {
                self.open(Part::Phase, phase, t_us);
            } else if words.has("end") {
                let failed = words.get("result").is_some_and(|result| result != "ok");
                self.close(Part::Phase, phase, t_us, failed);
            }
        } else if let Some(container) = words.get("container") {
            if words.has("started") {
                self.open(Part::Container, container, t_us);
            } else if words.has("exec") {
                self.close(Part::Container, container, t_us, false);
            } else if words.has("exited") {
                self.close(Part::Container, container, t_us, true);
            }
        } else if words.has("ready") {
            self.ready_us.get_or_insert(t_us);
        }
    }

    fn open(&mut self, part: Part, name: &str, start_us: u64) {
        if self.spans.len() < MAX_SPANS {
            self.spans.push(Span {
                part,
                name: name.to_owned(),
                start_us,
                end_us: None,
                failed: false,
            });
        }
    }

    fn close(&mut self, part: Part, name: &str, end_us: u64, failed: bool) {
        let open = self
            .spans
            .iter_mut()
            .rev()
            .find(|span| span.part == part && span.name == name && span.end_us.is_none());
        if let Some(span) = open {
            span.end_us = Some(end_us);
            span.failed = failed;
        }
    }

    /// The drawing.
    #[must_use]
    pub fn to_svg(&self) -> String {
        drawing::draw(self)
    }
}

/// The words and `key=value` pairs of a line, up to the sentence for people.
struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let (_, words) = line.split_once(MARK)?;
        let facts = words.split_once(" : ").map_or(words, |(facts, _)| facts);
        Some(Self(facts.split_whitespace().collect()))
    }

    fn has(&self, word: &str) -> bool {
        self.0.contains(&word)
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.0
            .iter()
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
            .map(|value| value.trim_matches('"'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::new("demo 1 <x>", Accelerator::Tcg, &Boot::Firmware);
        for (line, after_ms) in [
            ("BdsDxe: starting Boot0001", 3_000),
            ("[    1.5] berth: phase=mounts start t=1500000", 6_510),
            (
                "[    1.6] berth: phase=mounts end t=1600000 result=ok",
                6_600,
            ),
            ("berth: phase=network start t=1600000", 6_640),
            ("berth: container=web started pid=12 t=1650000", 6_660),
            ("berth: container=web exec t=1700000", 6_750),
            (
                "berth: phase=network end t=1700000 result=failed : no cable",
                6_800,
            ),
            ("berth: ready t=1710000", 6_720),
        ] {
            report.line(line, Duration::from_millis(after_ms));
        }
        report.answered(8080, Duration::from_millis(7_000));
        report
    }

    #[test]
    fn the_kernels_start_is_the_line_that_came_fastest() {
        let report = report();
        assert_eq!(report.kernel_start, Some(Duration::from_millis(5_000)));
        assert_eq!(report.ready(), Some(Duration::from_millis(6_710)));
        assert_eq!(report.spans.len(), 3);
        assert!(report.spans[1].failed && !report.spans[0].failed);
        assert_eq!(report.spans[2].end_us, Some(1_700_000));
    }

    #[test]
    fn a_drawing_names_firmware_kernel_phases_and_containers() {
        let svg = report().to_svg();
        for word in [
            "firmware",
            "kernel",
            "mounts",
            "network",
            "web",
            "port 8080",
        ] {
            assert!(svg.contains(word), "{word} is missing");
        }
        assert!(svg.contains("demo 1 &lt;x&gt;") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn a_machine_that_said_nothing_still_gives_a_drawing() {
        let report = Report::new("demo", Accelerator::Kvm, &Boot::Firmware);
        assert!(report.to_svg().contains("No line of PID 1"));
        assert_eq!(report.ready(), None);
    }
}
