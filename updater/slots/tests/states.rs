//! The state machine: every state with every event, and every combination of facts at a start.

use berth_slots::efi::trial::Armed;
use berth_slots::gpt::Guid;
use berth_slots::layout::EMPTY_ROOT_GUID;
use berth_slots::record::{Phase, Record, Trial};
use berth_slots::state::{
    Action, Booted, Event, Facts, Found, News, Refusal, Running, State, found,
};
use berth_slots::target::{Target, Version};
use berth_slots::verity::{self, Geometry, RootHash};

const HERE: [u8; 16] = [1; 16];
const EARLIER: [u8; 16] = [2; 16];
const OLD_ROOT: RootHash = RootHash([0x11; 32]);
const NEW_ROOT: RootHash = RootHash([0x22; 32]);

fn version(text: &str) -> Version {
    Version::new(text).expect("a version")
}

fn target(name: &str, root_hash: RootHash) -> Target {
    Target {
        version: version(name),
        security_version: 5,
        attempt: 0,
        manifest: [9; 32],
        boot_bytes: 1 << 20,
        boot_sha256: [8; 32],
        root_bytes: 4 << 20,
        root_hash,
    }
}

fn new() -> Target {
    target("2", NEW_ROOT)
}

fn booted(root: RootHash) -> Booted {
    Booted {
        root,
        boot_id: HERE,
        version: version(if root == NEW_ROOT { "2" } else { "1" }),
        security_version: 5,
    }
}

fn rejected_record() -> Record {
    let mut record = Record {
        target: Some(new()),
        ..Record::default()
    };
    record.reject(version("2"), NEW_ROOT, "it panicked");
    record
}

fn name(state: &State) -> &'static str {
    match state {
        State::Empty => "empty",
        State::Staging(_) => "staging",
        State::Staged(_) => "staged",
        State::Armed(_) => "armed",
        State::Trying(_) => "trying",
        State::Committed => "committed",
        State::Rejected(_) => "rejected",
    }
}

fn actions(actions: &[Action]) -> Vec<&'static str> {
    let name = |action: &Action| match action {
        Action::Save(_) => "save",
        Action::Clear(_) => "clear",
        Action::Name(_) => "name",
        Action::Commit => "commit",
        Action::Arm(_) => "arm",
        Action::Disarm => "disarm",
    };
    actions.iter().map(name).collect()
}

/// Each state with the record that belongs to it.
fn states() -> [(State, Record, Running); 7] {
    let with_target = Record {
        target: Some(new()),
        ..Record::default()
    };
    let with_trial = |phase| Record {
        trial: Some(Trial {
            root_hash: NEW_ROOT,
            boot_id: HERE,
            phase,
        }),
        ..with_target.clone()
    };
    let rejection = rejected_record().rejected.remove(0);
    use Running::{Committed, Other};
    [
        (State::Empty, Record::default(), Committed),
        (State::Staging(new()), with_target.clone(), Committed),
        (State::Staged(new()), with_target.clone(), Committed),
        (
            State::Armed(new()),
            with_trial(Phase::Armed { again: false }),
            Committed,
        ),
        (State::Trying(Some(new())), with_trial(Phase::CameUp), Other),
        (State::Committed, Record::default(), Committed),
        (State::Rejected(rejection), rejected_record(), Committed),
    ]
}

/// What each event leads to; `-` where it is refused.
const TABLE: &str = "
            stage    stage-newer whole   abandon activate disarm  confirm   untried   reject   forgive
empty       staging  staging     -       empty   -        -       -         -         -        -
staging     staging  staging     staged  empty   -        -       -         -         -        -
staged      -        staging     -       empty   armed    staged  -         committed -        -
armed       -        staging     -       -       -        staged  -         -         -        -
trying      -        -           -       -       -        -       committed -         rejected -
committed   staging  staging     -       -       -        -       -         -         -        -
rejected    -        staging     -       empty   -        -       -         -         -        staging
";

fn event(name: &str) -> Event {
    match name {
        "stage" => Event::Stage(new()),
        "stage-newer" => Event::Stage(target("3", RootHash([0x33; 32]))),
        "whole" => Event::Whole,
        "abandon" => Event::Abandon,
        "activate" => Event::Activate,
        "disarm" => Event::Disarm,
        "confirm" => Event::Confirm,
        "untried" => Event::CommitUntried,
        "reject" => Event::Reject("it never became healthy".to_owned()),
        "forgive" => Event::Forgive(version("2")),
        other => panic!("no event {other}"),
    }
}

#[test]
fn every_state_with_every_event_leads_where_the_table_says() {
    let mut lines = TABLE.lines().filter(|line| !line.is_empty());
    let events: Vec<&str> = lines.next().expect("events").split_whitespace().collect();
    let mut checked = 0;
    for (line, (state, record, running)) in lines.zip(states()) {
        let mut words = line.split_whitespace();
        assert_eq!(words.next(), Some(name(&state)));
        for (event_name, expected) in events.iter().zip(words) {
            let runs = match running {
                Running::Committed => booted(OLD_ROOT),
                Running::Other => booted(NEW_ROOT),
            };
            let step = state.next(event(event_name), &runs, running, &record);
            let got = step.as_ref().map_or("-", |step| name(&step.state));
            assert_eq!(got, expected, "{} + {event_name}: {step:?}", name(&state));
            checked += 1;
        }
    }
    assert_eq!(checked, 70);
}

#[test]
fn actions_come_in_the_order_that_survives_a_cut() {
    let step = |at: usize, event_name: &str| {
        let (state, record, running) = &states()[at];
        let runs = match running {
            Running::Committed => booted(OLD_ROOT),
            Running::Other => booted(NEW_ROOT),
        };
        let step = state.next(event(event_name), &runs, *running, record);
        actions(&step.expect("allowed").actions)
    };
    assert_eq!(step(0, "stage"), ["disarm", "save", "clear"]);
    assert_eq!(step(1, "stage"), ["disarm", "clear"]);
    assert_eq!(step(1, "whole"), ["name"]);
    assert_eq!(step(2, "abandon"), ["save", "clear"]);
    assert_eq!(step(2, "activate"), ["save", "arm"]);
    assert_eq!(step(3, "disarm"), ["disarm", "save"]);
    assert_eq!(step(3, "stage-newer"), ["disarm", "save", "clear"]);
    assert_eq!(step(4, "confirm"), ["commit", "save", "disarm"]);
    assert_eq!(step(4, "reject"), ["save", "disarm"]);
    assert_eq!(step(2, "untried"), ["save", "commit"]);
}

#[test]
fn nothing_is_staged_while_the_machine_runs_from_the_slot() {
    for (state, record, _) in states() {
        for name in ["stage", "stage-newer", "abandon", "forgive"] {
            let step = state.next(event(name), &booted(NEW_ROOT), Running::Other, &record);
            assert!(step.is_err(), "{state:?} + {name}: {step:?}");
        }
    }
}

#[test]
fn a_version_that_is_older_the_same_or_impossible_is_refused() {
    let runs = booted(OLD_ROOT);
    let stage = |target: Target, record: &Record| {
        let event = Event::Stage(target);
        State::Empty.next(event, &runs, Running::Committed, record)
    };
    let older = Target {
        security_version: 4,
        ..new()
    };
    let refusal = stage(older, &Record::default()).expect_err("older");
    assert!(
        matches!(refusal, Refusal::TooOld { floor: 5, .. }),
        "{refusal}"
    );
    let seen = Record {
        security_version: 6,
        ..Record::default()
    };
    let refusal = stage(new(), &seen).expect_err("older than seen");
    assert!(
        matches!(refusal, Refusal::TooOld { floor: 6, .. }),
        "{refusal}"
    );
    let same = stage(target("2", OLD_ROOT), &Record::default());
    assert!(matches!(same, Err(Refusal::SameRoot(_))));
    for root_bytes in [0, 4095, 4097, u64::MAX] {
        let odd = Target {
            root_bytes,
            ..new()
        };
        assert!(matches!(
            stage(odd, &Record::default()),
            Err(Refusal::RootSize(_))
        ));
    }
    // Under a new name, the failed root; and with a new root, the failed name.
    for failed in [target("2.1", NEW_ROOT), target("2", RootHash([0x44; 32]))] {
        let refusal = stage(failed, &rejected_record()).expect_err("rejected");
        assert!(refusal.to_string().contains("it panicked"), "{refusal}");
    }
}

/// Everything that a start can find.
fn all_facts() -> Vec<(Record, Armed, Guid, Running)> {
    let mut all = Vec::new();
    let phases = [
        Phase::Armed { again: false },
        Phase::Armed { again: true },
        Phase::CameUp,
        Phase::Lost,
        Phase::Ignored,
        Phase::Untried,
    ];
    let mut trials = vec![None];
    for phase in phases {
        for root_hash in [OLD_ROOT, NEW_ROOT, RootHash([0x55; 32])] {
            for boot_id in [HERE, EARLIER] {
                trials.push(Some(Trial {
                    root_hash,
                    boot_id,
                    phase,
                }));
            }
        }
    }
    for trial in trials {
        for target in [None, Some(new()), Some(target("1", OLD_ROOT))] {
            for rejected in [Vec::new(), rejected_record().rejected] {
                let record = Record {
                    security_version: 3,
                    target: target.clone(),
                    trial,
                    rejected,
                };
                for armed in [Armed::Yes, Armed::Spent, Armed::No] {
                    for other in [
                        EMPTY_ROOT_GUID,
                        NEW_ROOT.partition_guid(),
                        Guid::from_number(7),
                    ] {
                        for running in [Running::Committed, Running::Other] {
                            all.push((record.clone(), armed, other, running));
                        }
                    }
                }
            }
        }
    }
    all
}

fn look(record: &Record, armed: Armed, other_root: Guid, running: Running) -> Found {
    // The root that runs from the other slot is the one that its entry names.
    let root = match running {
        Running::Committed => OLD_ROOT,
        Running::Other => NEW_ROOT,
    };
    found(&Facts {
        booted: &booted(root),
        running,
        other_root,
        record,
        armed,
    })
}

#[test]
fn whatever_a_start_finds_it_keeps_the_promises_and_settles() {
    let all = all_facts();
    for (record, armed, other, running) in &all {
        let context = format!("{record:?} {armed:?} {other} {running:?}");
        let first = look(record, *armed, *other, *running);
        let mut after = record.clone();
        let mut armed_after = *armed;
        for action in &first.actions {
            match action {
                Action::Save(record) => after = (**record).clone(),
                Action::Disarm => armed_after = Armed::No,
                other => panic!("a start does {other:?}: {context}"),
            }
        }
        // A failed version is neither ready nor tried.
        let failed = after.rejection(&version("2"), &NEW_ROOT).is_some();
        let of_new = match &first.state {
            State::Staged(target) | State::Armed(target) => target.root_hash == NEW_ROOT,
            State::Trying(_) => true,
            _ => false,
        };
        assert!(!(failed && of_new), "{context}: {first:?}");
        // What runs from the other slot never lets it be written.
        if *running == Running::Other {
            let harmless = ["trying", "rejected", "committed"];
            assert!(harmless.contains(&name(&first.state)), "{context}");
        }
        if let State::Staged(target) | State::Armed(target) = &first.state {
            assert_eq!(target.root_hash.partition_guid(), *other, "{context}");
        }
        if let State::Armed(_) = first.state {
            assert_eq!(*armed, Armed::Yes, "{context}");
        }
        let grew = after.rejected.len() > record.rejected.len();
        assert!(
            !grew || matches!(first.news, Some(News::Failed(_))),
            "{context}"
        );
        assert!(after.security_version >= record.security_version);
        // Looking again finds the same and has nothing to do.
        let second = look(&after, armed_after, *other, *running);
        assert_eq!(second.state, first.state, "{context}");
        assert!(second.actions.is_empty(), "{context}: {second:?}");
    }
    println!("{} combinations of facts at a start", all.len());
    assert!(all.len() > 3000);
}

fn with_trial(phase: Phase, boot_id: [u8; 16]) -> Record {
    Record {
        target: Some(new()),
        trial: Some(Trial {
            root_hash: NEW_ROOT,
            boot_id,
            phase,
        }),
        ..Record::default()
    }
}

#[test]
fn a_version_that_did_not_come_up_is_rejected_with_the_reason() {
    let record = with_trial(Phase::Armed { again: false }, EARLIER);
    let found = look(
        &record,
        Armed::Spent,
        NEW_ROOT.partition_guid(),
        Running::Committed,
    );
    let Some(News::Failed(one)) = &found.news else {
        panic!("{found:?}");
    };
    assert!(one.reason.contains("did not come up"), "{}", one.reason);
    assert!(matches!(found.state, State::Rejected(_)));

    let record = with_trial(Phase::CameUp, EARLIER);
    let found = look(
        &record,
        Armed::Spent,
        NEW_ROOT.partition_guid(),
        Running::Committed,
    );
    let said = found.news.expect("news").to_string();
    assert!(
        said.contains("restarted before the version was confirmed"),
        "{said}"
    );
}

#[test]
fn firmware_that_ignores_or_forgets_the_trial_is_recognised() {
    let slot = NEW_ROOT.partition_guid();
    let record = with_trial(Phase::Armed { again: false }, EARLIER);
    let ignored = look(&record, Armed::Yes, slot, Running::Committed);
    let said = ignored.news.clone().expect("news").to_string();
    assert!(
        said.contains("BootNext") && said.contains("policy"),
        "{said}"
    );
    assert_eq!(name(&ignored.state), "staged");
    let Some(Action::Save(after)) = ignored.actions.first() else {
        panic!("{ignored:?}");
    };
    let again = ignored.state.next(
        Event::Activate,
        &booted(OLD_ROOT),
        Running::Committed,
        after,
    );
    assert!(matches!(again, Err(Refusal::FirmwareIgnores(_))));

    // Lost once, it is tried again; lost twice, it is given up.
    let lost = look(&record, Armed::No, slot, Running::Committed);
    assert!(matches!(lost.news, Some(News::Lost(_))));
    let Some(Action::Save(after)) = lost.actions.first() else {
        panic!("{lost:?}");
    };
    let step = lost
        .state
        .next(
            Event::Activate,
            &booted(OLD_ROOT),
            Running::Committed,
            after,
        )
        .expect("once more");
    let Some(Action::Save(again)) = step.actions.first() else {
        panic!("{step:?}");
    };
    let mut again = (**again).clone();
    if let Some(trial) = &mut again.trial {
        trial.boot_id = EARLIER;
    }
    let twice = look(&again, Armed::No, slot, Running::Committed);
    assert!(matches!(twice.news, Some(News::Failed(_))), "{twice:?}");
}

#[test]
fn a_slot_that_the_firmware_chose_by_itself_can_be_confirmed() {
    let found = look(
        &Record::default(),
        Armed::No,
        NEW_ROOT.partition_guid(),
        Running::Other,
    );
    assert_eq!(found.state, State::Trying(None));
    let step = found.state.next(
        Event::Confirm,
        &booted(NEW_ROOT),
        Running::Other,
        &Record::default(),
    );
    assert_eq!(
        actions(&step.expect("confirmed").actions),
        ["commit", "save", "disarm"]
    );
    let seen = Record {
        security_version: 6,
        ..Record::default()
    };
    let step = found
        .state
        .next(Event::Confirm, &booted(NEW_ROOT), Running::Other, &seen);
    assert!(matches!(step, Err(Refusal::TooOld { .. })));
}

#[test]
fn the_running_root_is_read_from_the_command_line() {
    let geometry = Geometry::new(1000).expect("geometry");
    let line = format!(
        "console=ttyS0 {} panic=1",
        verity::kernel_parameters(&geometry, &NEW_ROOT)
    );
    assert_eq!(Booted::root_of_command_line(&line), Some(NEW_ROOT));
    for cut in 0..line.find(" fa73bf").expect("salt") {
        assert_eq!(Booted::root_of_command_line(&line[..cut]), None, "{cut}");
    }
    assert_eq!(Booted::root_of_command_line("root=/dev/vda1 ro"), None);
}
