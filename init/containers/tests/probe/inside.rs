//! Probes by a program inside the container.

use std::time::{Duration, Instant};

use berth_containers::probe::Answer;
use berth_containers::spec::Probe;

use crate::lab::{Kind, Lab, assert_bad};

fn sh(script: &str) -> Probe {
    Probe::Exec(["sh", "-c", script].map(str::to_owned).to_vec())
}

/// What a process can see of itself, as text.
const LOOK: &str = "
    grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|SigIgn|SigBlk)' /proc/self/status
    for kind in cgroup ipc mnt net pid pid_for_children user uts; do ls -l /proc/self/ns/$kind | grep -o ' -> .*'; done
    ulimit -a
    cat /proc/self/oom_score_adj
    umask
    pwd
    hostname
    env | sort
    for fd in 0 1 2 3 4 5 6; do test -e /proc/$$/fd/$fd && echo open $fd; done
";

fn kinds() -> [Kind; 3] {
    [
        Kind::default(),
        Kind {
            own_network: true,
            ..Kind::default()
        },
        Kind {
            privileged: true,
            ..Kind::default()
        },
    ]
}

#[test]
fn a_program_that_exits_with_0_is_healthy_and_any_other_end_is_told_with_its_last_words() {
    let Some(mut lab) = Lab::new(Kind::default(), "") else {
        return;
    };
    assert_eq!(lab.ask(sh("exit 0")), Answer::good());
    assert_eq!(lab.ask(Probe::Exec(vec!["true".into()])), Answer::good());
    assert_bad(
        &lab.ask(sh("echo first; echo 'no response' >&2; exit 2")),
        "/bin/sh exited with status 2: no response",
    );
    assert_bad(&lab.ask(Probe::Exec(vec!["false".into()])), "status 1");
    assert_bad(&lab.ask(sh("kill -9 $$")), "ended by signal 9");
    assert_bad(
        &lab.ask(sh("printf '\\033[31mred\\n'; exit 1")),
        "status 1: ?[31mred",
    );
    assert_bad(
        &lab.ask(Probe::Exec(vec!["/bin/pg_isready".into()])),
        "executing /bin/pg_isready failed: No such file or directory",
    );
}

#[test]
fn a_probe_is_confined_exactly_as_the_container_is() {
    for kind in kinds() {
        let Some(mut lab) = Lab::new(kind, &format!("({LOOK}) > /tmp/first")) else {
            return;
        };
        let answer = lab.ask(sh(&format!(
            "({LOOK}) > /tmp/probe; cmp /tmp/first /tmp/probe"
        )));
        let look = |name: &str| std::fs::read_to_string(lab.inner(name)).expect("written");
        let (first, probe) = (look("/tmp/first"), look("/tmp/probe"));
        assert_eq!(probe, first);
        assert_eq!(answer, Answer::good());
        // The comparison compared something.
        assert!(first.contains("MODE=lab") && first.contains("CapBnd:\t0000000000000400"));
        assert!(
            first.contains("\n321\n") && first.contains("Uid:\t101\t101"),
            "{first}"
        );
    }
}

#[test]
fn a_probe_that_hangs_is_killed_with_everything_that_it_started() {
    for kind in kinds() {
        let Some(mut lab) = Lab::new(kind, "") else {
            return;
        };
        let script = "trap '' TERM INT HUP
            (setsid sh -c 'trap \"\" TERM; sleep 1000 & sleep 1000' >/dev/null 2>&1 &) &
            echo going on
            touch /tmp/started
            sleep 1000";
        let answer = lab.ask_within(sh(script), 1_500);
        assert_bad(
            &answer,
            "did not end within 1500 ms and was killed: going on",
        );
        assert!(lab.inner("/tmp/started").exists());
        // Neither alive nor dead: the container's first process reaps nobody.
        assert_eq!(lab.processes(), 1);
        // The container itself goes on.
        assert_eq!(lab.ask(sh("exit 0")), Answer::good());
    }
}

#[test]
fn what_a_good_probe_leaves_in_the_background_does_not_outlive_it() {
    let Some(mut lab) = Lab::new(Kind::default(), "") else {
        return;
    };
    let start = Instant::now();
    assert_eq!(
        lab.ask(sh("(sleep 1000 &) ; (yes &) ; exit 0")),
        Answer::good()
    );
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "it waits for nobody"
    );
    assert_eq!(lab.processes(), 1);
}

#[test]
fn a_flood_of_output_or_none_at_all_changes_nothing() {
    let Some(mut lab) = Lab::new(Kind::default(), "") else {
        return;
    };
    let prober = lab.prober(sh("exec yes"), 1_500);
    let status = format!("/proc/{}/status", prober.pid());
    std::thread::sleep(Duration::from_millis(700));
    let kilobytes = std::fs::read_to_string(status).ok().and_then(|status| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().split(' ').next()?.parse::<u64>().ok()
    });
    assert!(
        kilobytes.is_none_or(|size| size < 16_384),
        "{kilobytes:?} KiB"
    );
    assert_bad(&prober.answer(), "was killed: y");
    // Closed streams, and a program that goes on without them.
    let quiet = lab.ask_within(sh("exec >/dev/null 2>&1; sleep 1000"), 500);
    assert_bad(&quiet, "within 500 ms");
}

#[test]
fn a_program_that_reads_its_own_output_does_not_hold_its_probe_up() {
    let Some(mut lab) = Lab::new(Kind::default(), "") else {
        return;
    };
    // All readers are told of each line, and all but one come too late.
    let script = "for n in 1 2 3 4; do cat /proc/$$/fd/1 >/dev/null 2>&1 & done
        n=0; while [ $n -lt 3000 ]; do echo $n; n=$((n + 1)); done
        exec sleep 20";
    for _ in 0..3 {
        assert_bad(&lab.ask_within(sh(script), 1_500), "within 1500 ms");
    }
}

#[test]
fn a_container_that_ends_under_its_probe_is_not_held_up_by_it() {
    let Some(mut lab) = Lab::new(Kind::default(), "") else {
        return;
    };
    let prober = lab.prober(sh("touch /tmp/probing; sleep 1000"), 20_000);
    lab.wait_until("it probes", |lab| lab.inner("/tmp/probing").exists());
    let start = Instant::now();
    lab.end();
    assert_bad(&prober.answer(), "the container ended while it was asked");
    assert!(start.elapsed() < Duration::from_secs(8));
    assert_bad(&lab.ask(sh("exit 0")), "joining the container's processes");
}
