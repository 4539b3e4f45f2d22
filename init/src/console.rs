//! The status page on every console, serial and screen: what the machine is and how it does,
//! without a login.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;

use berth_provision::status::{HealthState, HealthStatus, Slot, Status};

/// The page, in plain ASCII lines, without anything that changes by itself.
pub(crate) fn page(status: &Status) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        page,
        "---- {} {} ---- {} ----",
        status.name, status.version, status.hostname
    );
    let root = match (&status.slot, &status.root_hash) {
        (Some(Slot::A), _) => "slot A",
        (Some(Slot::B), _) => "slot B",
        (None, _) => "no slot",
    };
    let hash = status.root_hash.as_deref().and_then(|hash| hash.get(..16));
    let _ = writeln!(
        page,
        "  system     {root}, root {}, kernel {}",
        hash.unwrap_or("not verified"),
        status.kernel
    );
    for network in &status.networks {
        let _ = writeln!(
            page,
            "  network    {} {} {} {}",
            network.name,
            network.interface.as_deref().unwrap_or("-"),
            network.state,
            network.addresses.join(" ")
        );
    }
    for container in &status.containers {
        let restarts = match container.restarts {
            0 => String::new(),
            count => format!(", restarted {count} times"),
        };
        let ended = container
            .last_exit
            .as_ref()
            .map_or_else(String::new, |exit| format!(", last ended with {exit}"));
        let _ = writeln!(
            page,
            "  container  {} {}{}{restarts}{ended}",
            container.name,
            container.state,
            health(container.health.as_ref())
        );
    }
    if let Some(update) = &status.update
        && !update.sentence.is_empty()
    {
        let _ = writeln!(page, "  update     {}", update.sentence);
    }
    if let Some(trouble) = &status.trouble {
        let _ = writeln!(page, "  trouble    {trouble}");
    }
    page
}

/// How a container that runs is; one that does not is not asked.
fn health(health: Option<&HealthStatus>) -> String {
    let Some(health) = health.filter(|health| health.state != HealthState::Down) else {
        return String::new();
    };
    let why = match (health.state, &health.sentence) {
        (HealthState::Unhealthy, Some(why)) => format!(" ({why})"),
        _ => String::new(),
    };
    // It runs already; what starts is its health.
    let word = match health.state {
        HealthState::Starting => "not healthy yet",
        state => state.name(),
    };
    format!(", {word}{why}")
}

/// Writes the page to every console of the kernel. A console that takes no more (a serial line
/// held by flow control) loses the rest instead of stopping PID 1.
pub(crate) fn show(page: &str, now_us: u64) {
    let text = format!(
        "\n{page}  up         {}.{:01} s\n\n",
        now_us / 1_000_000,
        now_us / 100_000 % 10
    );
    let consoles = fs::read_to_string("/proc/consoles").unwrap_or_default();
    for name in writable(&consoles) {
        let opened = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
            .open(format!("/dev/{name}"));
        if let Ok(mut console) = opened {
            let _ = console.write_all(text.as_bytes());
        }
    }
}

/// Names in /proc/consoles (`ttyS0   -W- (EC p a)  4:64`).
fn writable(consoles: &str) -> impl Iterator<Item = &str> {
    consoles.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let name = fields.next()?;
        fields.next()?.contains('W').then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_on_every_console_that_can_be_written() {
        let text = "tty0   -WU (EC  )  4:1\nttyS0   -W- (EC p a)  4:64\nnetcon0  --- (E )\n";
        assert_eq!(writable(text).collect::<Vec<_>>(), ["tty0", "ttyS0"]);
    }

    #[test]
    fn the_page_says_how_containers_are_and_why() {
        let shown = |state, sentence: Option<&str>| {
            health(Some(&HealthStatus {
                state,
                since_us: 1,
                fails: 0,
                sentence: sentence.map(str::to_owned),
            }))
        };
        assert_eq!(shown(HealthState::Healthy, None), ", healthy");
        assert_eq!(
            shown(HealthState::Unhealthy, Some("it answers with status 500")),
            ", unhealthy (it answers with status 500)"
        );
        assert_eq!(
            shown(HealthState::Starting, Some("nothing listens on port 80")),
            ", not healthy yet"
        );
        assert_eq!(shown(HealthState::Down, None), "");
        assert_eq!(health(None), "");
    }

    #[test]
    fn the_page_names_the_last_trouble() {
        let status = Status {
            name: "edge".into(),
            version: "1.4.0".into(),
            hostname: "edge-7".into(),
            trouble: Some("state: the disk is gone".into()),
            ..Status::default()
        };
        let page = page(&status);
        assert!(page.starts_with("---- edge 1.4.0 ---- edge-7 ----\n"));
        assert!(page.contains("  trouble    state: the disk is gone\n"));
    }
}
