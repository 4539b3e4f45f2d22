//! When PID 1 cannot go on: one clear sentence on the console, then the machine's own policy.
//! It never ends PID 1 and never hangs silently.

use std::io::Write;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use berth_provision::OnFailure;
use nix::sys::reboot::{RebootMode, reboot};

use crate::kernel_log::{KernelLog, Urgency};
use crate::signals::Signals;
use crate::watchdog::{self, FEED_EVERY_US};

/// Time to read the sentence.
const PAUSE: Duration = Duration::from_secs(5);

/// The policy, known once machine.json is read; until then restart, which is the default.
static HALT: AtomicBool = AtomicBool::new(false);

/// Remembers the machine's policy.
pub(crate) fn follow(policy: OnFailure) {
    HALT.store(policy == OnFailure::Halt, Ordering::Relaxed);
}

/// Makes every panic of PID 1 end here.
pub(crate) fn catch_panics() {
    std::panic::set_hook(Box::new(|panic| give_up(&in_words(panic))));
}

/// Makes a panic of a role one line in the kernel log; PID 1 sees the role end.
pub(crate) fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        KernelLog::direct().line(Urgency::Error, &in_words(panic));
    }));
}

/// Says why and follows the policy.
pub(crate) fn give_up(why: &str) -> ! {
    let halt = HALT.load(Ordering::Relaxed);
    let then = if halt {
        "the machine stays halted"
    } else {
        "the machine restarts in 5 seconds"
    };
    KernelLog::direct().line(Urgency::Error, &format!("last-resort : {why}; {then}"));
    if halt {
        stay();
    }
    sleep(PAUSE);
    restart()
}

/// Halted for a person to see why; ctrl-alt-del still restarts.
fn stay() -> ! {
    let signals = Signals::block_all();
    loop {
        let _ = watchdog::feed();
        while crate::sys::wait_any().is_some() {}
        sleep(Duration::from_secs(1).min(Duration::from_micros(FEED_EVERY_US)));
        let asked = signals.as_ref().ok().and_then(|signals| {
            std::iter::from_fn(|| signals.next())
                .find(|request| matches!(request, crate::signals::Request::End(_)))
        });
        if asked.is_some() {
            restart()
        }
    }
}

fn restart() -> ! {
    loop {
        // Returns only when it failed: the watchdog is then what is left.
        let _ = reboot(RebootMode::RB_AUTOBOOT);
        let _ = writeln!(
            std::io::stderr(),
            "berth: the machine cannot restart itself"
        );
        sleep(PAUSE);
    }
}

fn in_words(panic: &PanicHookInfo<'_>) -> String {
    let payload = panic.payload();
    let what = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("for an unknown reason");
    let place = panic.location().map_or_else(String::new, |location| {
        format!(" ({}:{})", location.file(), location.line())
    });
    format!("the program on this machine failed: {what}{place}")
}
