//! Every disk that a power cut during two complete updates can leave: it starts, what starts is
//! whole and never older than what was committed, and the update goes on to the same bytes.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Instant;

use berth_cuts::firmware::Partition;
use berth_cuts::life::{self, Grid, Next, Release, Start, act};
use berth_cuts::{
    CrashState, Log, Memory, MemoryRecords, MemoryVariables, Operation, Options, states,
};
use berth_slots::block::Block;
use berth_slots::session::Session;
use sha2::{Digest, Sha256};

/// With so few writes between two flushes every subset of them is made.
const FEW: Grid = Grid {
    chunk: 8 << 10,
    flush_every: 11,
};
/// With so many, a sample.
const MANY: Grid = Grid {
    chunk: 8 << 10,
    flush_every: 64,
};
const OPTIONS: Options = Options {
    exhaustive: 10,
    samples: 64,
    seed: 20_261_124,
};

fn release(number: u64, boot_kib: usize, root_kib: usize) -> Release {
    let sha256 = |bytes: &[u8]| Sha256::digest(bytes).into();
    Release::of_noise(number, boot_kib, root_kib, sha256).expect("a release")
}

/// What a machine has.
#[derive(Clone)]
struct Machine {
    disk: Memory,
    variables: MemoryVariables,
    records: MemoryRecords,
    starts: u64,
}

impl Machine {
    /// Starts it; which version runs.
    fn start(&mut self, releases: &[Release]) -> Result<Start, String> {
        self.starts += 1;
        life::start(&mut self.disk, &mut self.variables, releases)
    }

    fn boot_id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.starts.to_le_bytes());
        id
    }

    /// Lives on until `releases[latest]` is settled, or given up.
    fn settle(&mut self, life: &Life, latest: usize) -> Result<usize, String> {
        let releases = &life.releases;
        for _ in 0..12 {
            let running = self.start(releases)?.release;
            if releases[running].panics {
                continue;
            }
            let booted = releases[running].booted(self.boot_id());
            let (disk, variables) = (&mut self.disk, &mut self.variables);
            let mut session = Session::open(disk, variables, &mut self.records, &booted)
                .map_err(|error| format!("{booted:?}: {error}"))?;
            if session.security_floor() < booted.security_version {
                return Err("the security version went down".to_owned());
            }
            let next = act(&mut session, &releases[latest], life.grid, |_| ())
                .map_err(|error| format!("{booted:?}: {error}"))?;
            if next == Next::Settled {
                return Ok(running);
            }
        }
        Err("twelve starts did not settle it".to_owned())
    }
}

/// A recorded life, and what it is compared with.
struct Life {
    releases: Vec<Release>,
    grid: Grid,
    log: Log,
    settled: Vec<Memory>,
}

/// On a disk of 100 MiB.
fn record(releases: Vec<Release>, grid: Grid) -> Life {
    let before = life::installed(&releases[0], 100 << 11).expect("an installed machine");
    let recorded = life::record(before, &releases, grid).expect("a life");
    Life {
        releases,
        grid,
        log: recorded.log,
        settled: recorded.settled,
    }
}

/// Which update a point of the log is in, and whether it may already have been committed.
fn phase(log: &Log, began: usize) -> (usize, bool) {
    let marks = log.operations.iter().take(began);
    let settled = marks.filter(|one| **one == Operation::Mark("settled"));
    let last = log.mark_before(began);
    (settled.count(), matches!(last, "activate" | "commit"))
}

/// What a resumed update can depend on: tables, record, variables, and which chunks are right.
fn class(machine: &mut Machine, other: Partition, grid: Grid, latest: &Release) -> u64 {
    let mut hasher = DefaultHasher::new();
    let sectors = machine.disk.sectors().expect("sectors");
    let mut table = [0; 34 * 512];
    for (offset, length) in [(0, 34 * 512), ((sectors - 33) * 512, 33 * 512)] {
        let part = &mut table[..length];
        machine.disk.read_at(offset, part).expect("table");
        part.hash(&mut hasher);
    }
    (&machine.variables, &machine.records).hash(&mut hasher);
    let root = other.offset + other.bytes;
    let mut chunk = vec![0; grid.chunk as usize];
    for (start, image) in [(other.offset, &latest.boot), (root, &latest.root)] {
        for (number, wanted) in image.chunks(grid.chunk as usize).enumerate() {
            let there = &mut chunk[..wanted.len()];
            let at = start + number as u64 * grid.chunk;
            machine.disk.read_at(at, there).expect("chunk");
            (there == wanted).hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// Of the states that differ in which chunks are there, so many are resumed: one in this many,
/// chosen by what they differ in. All others, and with `BERTH_TEST_LONG=1` all, are resumed.
const ONE_IN: u64 = 8;

fn everything() -> bool {
    std::env::var_os("BERTH_TEST_LONG").is_some_and(|value| value == "1")
}

#[derive(Default)]
struct Counts {
    states: usize,
    different: usize,
    resumed: usize,
    went_on: usize,
}

/// Checks every crash state of a life.
fn check(life: &Life) -> Counts {
    let (log, releases) = (&life.log, &life.releases);
    let mut counts = Counts::default();
    let mut seen = HashSet::new();
    let mut flushed = (0, life.settled[0].clone());
    for state in states(log, OPTIONS) {
        counts.states += 1;
        let failed = |what: String| -> ! { panic!("{what}\n{state}\nseed {}", OPTIONS.seed) };
        state
            .apply_flushed(log, flushed.0, &mut flushed.1)
            .expect("flushed writes");
        flushed.0 = state.flushed;
        let mut machine = crashed(log, &flushed.1, &state);

        let (settled, either) = phase(log, state.began);
        let mut started = machine.clone();
        let start = started.start(releases).unwrap_or_else(|what| failed(what));
        let running = start.release;
        let committed = newest_healthy(releases, settled);
        if running != committed && !(either && running == settled + 1) {
            failed(format!(
                "version {running} starts, {committed} is committed"
            ));
        }

        let between = matches!(log.mark_before(state.began), "settled" | "start");
        let goal = if between { settled } else { settled + 1 };
        let other = start
            .other
            .unwrap_or_else(|| failed("no entry 2".to_owned()));
        let class = class(&mut machine, other, life.grid, &releases[goal]);
        if !seen.insert((goal, class)) {
            continue;
        }
        counts.different += 1;
        if !everything() && !class.is_multiple_of(ONE_IN) && is_content(log, state.began) {
            continue;
        }
        counts.resumed += 1;
        settle_and_compare(&mut machine, life, goal).unwrap_or_else(|what| failed(what));
        // And the next update works as if nothing had happened.
        if counts.resumed % 64 == 0 && goal + 1 < releases.len() {
            counts.went_on += 1;
            settle_and_compare(&mut machine, life, goal + 1)
                .unwrap_or_else(|what| failed(format!("the next update: {what}")));
        }
    }
    counts
}

/// Whether the cut came while a slot's content was written.
fn is_content(log: &Log, began: usize) -> bool {
    let last = began.wrapping_sub(1);
    let write = matches!(log.operations.get(last), Some(Operation::Write { .. }));
    write && !log.is_table(last)
}

fn newest_healthy(releases: &[Release], up_to: usize) -> usize {
    (0..=up_to)
        .rev()
        .find(|at| !releases[*at].panics)
        .unwrap_or(0)
}

fn crashed(log: &Log, flushed: &Memory, state: &CrashState) -> Machine {
    let mut disk = flushed.clone();
    state.apply_unflushed(log, &mut disk).expect("survivors");
    let (variables, records) = state.beside(log);
    Machine {
        disk,
        variables,
        records,
        starts: 1 << 32,
    }
}

fn settle_and_compare(machine: &mut Machine, life: &Life, goal: usize) -> Result<(), String> {
    let running = machine.settle(life, goal)?;
    let expected = newest_healthy(&life.releases, goal);
    if running != expected {
        return Err(format!("version {running} runs in the end, not {expected}"));
    }
    match machine.disk.first_difference(&life.settled[goal]) {
        None => Ok(()),
        Some(block) => Err(format!("the disk differs in block {block} in the end")),
    }
}

fn report(name: &str, log: &Log, counts: &Counts, since: Instant) {
    println!(
        "{name}: {} states of {} operations (seed {}) start as they must; of {} different ones {} \
         were resumed, {} of them through the next update; {:.1} s",
        counts.states,
        log.operations.len(),
        OPTIONS.seed,
        counts.different,
        counts.resumed,
        counts.went_on,
        since.elapsed().as_secs_f64()
    );
}

/// The second update is larger than its slot: it moves into the reserve.
#[test]
fn every_cut_of_two_updates_starts_and_converges() {
    let since = Instant::now();
    let releases = vec![
        release(1, 128, 520),
        release(2, 120, 528),
        release(3, 1032, 528),
    ];
    let life = record(releases, FEW);
    let counts = check(&life);
    report("two updates", &life.log, &counts, since);
    assert!(counts.states >= 100_000, "{} states", counts.states);
}

/// A version that panics is given up, whatever is cut, and the one after it comes.
#[test]
fn every_cut_around_a_version_that_panics_starts_and_converges() {
    let since = Instant::now();
    let mut releases = vec![
        release(1, 64, 128),
        release(2, 64, 128),
        release(3, 60, 600),
    ];
    releases[1].panics = true;
    let life = record(releases, MANY);
    let counts = check(&life);
    report("a version that panics", &life.log, &counts, since);
}
