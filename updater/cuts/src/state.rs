//! From a log to the disks that a cut can leave.
//!
//! At each point of the log the writes before the last flush are on the medium. Of those after
//! it any subset may be: all subsets are made while they are at most [`Options::exhaustive`], and
//! a seeded sample above. Writes may in addition be torn: any of their sectors may be old or new.
//! The newest is cut before each sector, behind each sector, and at random, each time with a few
//! subsets of the others, whole and torn.

use std::fmt;
use std::io;

use berth_chance::Random;
use berth_slots::SECTOR;
use berth_slots::block::Block;

use crate::log::{Log, Operation};
use crate::memory::{MemoryRecords, MemoryVariables};

/// How many states are made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Up to so many unflushed writes, every subset of them.
    pub exhaustive: usize,
    /// So many subsets of more of them.
    pub samples: usize,
    /// Chooses the samples.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            exhaustive: 10,
            samples: 64,
            seed: 1,
        }
    }
}

/// What is on the medium of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sectors {
    All,
    /// The first ones.
    First(usize),
    /// From one on.
    From(usize),
    /// Those whose bit is set in numbers that this seed gives.
    Some(u64),
}

/// The disk, the variables and the record after a cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashState {
    /// Operations that had begun; the last may be under way.
    pub began: usize,
    /// Writes below this number are on the medium.
    pub flushed: usize,
    /// What else is: operations and their parts, in order.
    survivors: Vec<(usize, Sectors)>,
    /// How much of a record's copy that was being written is there.
    torn_record: Option<usize>,
}

impl CrashState {
    /// Does to a disk what the writes below [`CrashState::flushed`] did, from `from` on.
    ///
    /// # Errors
    /// What the disk says.
    pub fn apply_flushed(&self, log: &Log, from: usize, disk: &mut impl Block) -> io::Result<()> {
        let flushed = log.operations.get(from..self.flushed);
        for operation in flushed.unwrap_or_default() {
            if let Operation::Write { offset, bytes } = operation {
                disk.write_at(*offset, bytes)?;
            }
        }
        Ok(())
    }

    /// Does to a disk that has all flushed writes what survived of the others.
    ///
    /// # Errors
    /// What the disk says.
    pub fn apply_unflushed(&self, log: &Log, disk: &mut impl Block) -> io::Result<()> {
        for (operation, sectors) in &self.survivors {
            if let Some(Operation::Write { offset, bytes }) = log.operations.get(*operation) {
                sectors.write(*offset, bytes, disk)?;
            }
        }
        Ok(())
    }

    /// Makes a disk as it was before the log into the one that the cut left.
    ///
    /// # Errors
    /// What the disk says.
    pub fn apply(&self, log: &Log, disk: &mut impl Block) -> io::Result<()> {
        self.apply_flushed(log, 0, disk)?;
        self.apply_unflushed(log, disk)
    }

    /// The variables and the record that the cut left.
    #[must_use]
    pub fn beside(&self, log: &Log) -> (MemoryVariables, MemoryRecords) {
        let (mut variables, mut records) = (log.variables.clone(), log.records.clone());
        for (number, operation) in log.operations.iter().enumerate().take(self.began) {
            match operation {
                Operation::Variable { name, data } => match data {
                    Some(data) => drop(variables.0.insert(name.clone(), data.clone())),
                    None => drop(variables.0.remove(name)),
                },
                Operation::Record { copy, bytes } => {
                    let copy = &mut records.0[(*copy).min(1)];
                    let under_way = number + 1 == self.began;
                    match self.torn_record.filter(|_| under_way) {
                        Some(sectors) => tear(copy, bytes, sectors),
                        None => *copy = Some(bytes.to_vec()),
                    }
                }
                _ => {}
            }
        }
        (variables, records)
    }

    /// The smaller, the more would be lost if it went wrong: torn tables while a commit is
    /// written, then other tables, records and variables, then content.
    fn risk(&self, log: &Log) -> usize {
        let last = self.began.saturating_sub(1);
        let table = log.is_table(last) || self.survivors.iter().any(|(at, _)| log.is_table(*at));
        let commit = log.mark_before(last) == "commit";
        match (table, commit, log.operations.get(last)) {
            (true, true, _) => 0,
            (true, false, _) => 1,
            (false, true, _) => 2,
            (_, _, Some(Operation::Record { .. } | Operation::Variable { .. })) => 3,
            _ => 4,
        }
    }

    fn is_torn(&self) -> bool {
        let torn = |(_, sectors): &(usize, Sectors)| *sectors != Sectors::All;
        self.torn_record.is_some() || self.survivors.iter().any(torn)
    }
}

impl fmt::Display for CrashState {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "cut in operation {}, flushed up to {}, and of the rest",
            self.began, self.flushed
        )?;
        for (operation, sectors) in &self.survivors {
            write!(out, " {operation}:{sectors:?}")?;
        }
        match self.torn_record {
            Some(sectors) => write!(out, ", {sectors} sectors of the record"),
            None => Ok(()),
        }
    }
}

/// The first sectors of a new copy over the old one.
fn tear(copy: &mut Option<Vec<u8>>, bytes: &[u8], sectors: usize) {
    let mut torn = copy.take().unwrap_or_default();
    torn.resize(bytes.len(), 0);
    let new = (sectors * SECTOR as usize).min(bytes.len());
    torn[..new].copy_from_slice(&bytes[..new]);
    *copy = Some(torn);
}

impl Sectors {
    fn write(&self, offset: u64, bytes: &[u8], disk: &mut impl Block) -> io::Result<()> {
        let sector = SECTOR as usize;
        let at = |number: usize| (number * sector).min(bytes.len());
        match self {
            Self::All => disk.write_at(offset, bytes),
            Self::First(count) => disk.write_at(offset, &bytes[..at(*count)]),
            Self::From(first) => disk.write_at(offset + at(*first) as u64, &bytes[at(*first)..]),
            Self::Some(seed) => {
                let mut random = Random::from_seed(*seed);
                for (number, part) in bytes.chunks(sector).enumerate() {
                    if random.coin() {
                        disk.write_at(offset + at(number) as u64, part)?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// Every state that a cut during the log can leave.
pub fn states(log: &Log, options: Options) -> impl Iterator<Item = CrashState> + '_ {
    (0..=log.operations.len()).flat_map(move |began| at(log, began, options))
}

/// The states of a cut when `began` operations had begun.
fn at(log: &Log, began: usize, options: Options) -> Vec<CrashState> {
    let before = log.operations.get(..began).unwrap_or_default();
    let flush = before.iter().rposition(|one| *one == Operation::Flush);
    let flushed = flush.map_or(0, |flush| flush + 1);
    let state = |survivors| CrashState {
        began,
        flushed,
        survivors,
        torn_record: None,
    };
    let mut pending: Vec<usize> = (flushed..began)
        .filter(|at| matches!(before.get(*at), Some(Operation::Write { .. })))
        .collect();
    let mut random = Random::from_seed(options.seed.wrapping_add(began as u64));
    match before.last() {
        Some(Operation::Write { bytes, .. }) => {
            let newest = pending.pop().unwrap_or_default();
            let with = |mut rest: Vec<(usize, Sectors)>, part| {
                rest.push((newest, part));
                state(rest)
            };
            let subsets = subsets(&pending, options, &mut random);
            let few = few(&pending, &mut random);
            let mut all: Vec<CrashState> = subsets
                .into_iter()
                .map(|rest| with(rest, Sectors::All))
                .collect();
            for part in tears(bytes.len() / SECTOR as usize, &mut random) {
                all.extend(few.iter().map(|rest| with(rest.clone(), part.clone())));
            }
            all
        }
        Some(Operation::Record { bytes, .. }) => {
            let mut all = Vec::new();
            for rest in subsets(&pending, options, &mut random) {
                all.push(state(rest.clone()));
                for sectors in 0..bytes.len() / SECTOR as usize {
                    all.push(CrashState {
                        torn_record: Some(sectors),
                        ..state(rest.clone())
                    });
                }
            }
            all
        }
        Some(Operation::Mark(_)) => Vec::new(),
        Some(Operation::Variable { .. }) => subsets(&pending, options, &mut random)
            .into_iter()
            .map(state)
            .collect(),
        Some(Operation::Flush) | None => vec![state(Vec::new())],
    }
}

/// Subsets of writes, each of them whole, but for some torn ones in samples.
fn subsets(pending: &[usize], options: Options, random: &mut Random) -> Vec<Vec<(usize, Sectors)>> {
    let whole = |kept: &dyn Fn(usize) -> bool| -> Vec<(usize, Sectors)> {
        let numbered = pending.iter().enumerate();
        numbered
            .filter(|(number, _)| kept(*number))
            .map(|(_, at)| (*at, Sectors::All))
            .collect()
    };
    if pending.len() <= options.exhaustive {
        return (0..1_usize << pending.len())
            .map(|mask| whole(&|number| mask >> number & 1 == 1))
            .collect();
    }
    let mut sampled = few(pending, random);
    for number in 0..pending.len() {
        sampled.push(whole(&|other| other != number));
        sampled.push(whole(&|other| other == number));
    }
    for _ in 0..options.samples {
        let torn: Vec<(usize, Sectors)> = pending
            .iter()
            .filter_map(|at| match random.below(8) {
                0..4 => Some((*at, Sectors::All)),
                4 => Some((*at, Sectors::Some(random.next_u64()))),
                _ => None,
            })
            .collect();
        sampled.push(torn);
    }
    sampled
}

/// None, all, and a few in between, whole and torn.
fn few(pending: &[usize], random: &mut Random) -> Vec<Vec<(usize, Sectors)>> {
    let all: Vec<(usize, Sectors)> = pending.iter().map(|at| (*at, Sectors::All)).collect();
    if all.is_empty() {
        return vec![all];
    }
    let mut few = vec![Vec::new(), all.clone()];
    for _ in 0..3 {
        let some = all.iter().filter(|_| random.coin()).cloned();
        few.push(some.collect());
        let torn = all
            .iter()
            .map(|(at, _)| (*at, Sectors::Some(random.next_u64())));
        few.push(torn.collect());
    }
    few
}

/// Ways to tear a write of some sectors.
fn tears(sectors: usize, random: &mut Random) -> Vec<Sectors> {
    let mut tears = Vec::new();
    for number in 1..sectors {
        tears.push(Sectors::First(number));
        tears.push(Sectors::From(number));
    }
    if sectors > 2 {
        tears.extend((0..8).map(|_| Sectors::Some(random.next_u64())));
    }
    tears
}

/// So many different states, those first that would lose most if they went wrong. States of the
/// same operation take turns, so that each kind is among the first.
#[must_use]
pub fn riskiest(log: &Log, options: Options, count: usize) -> Vec<CrashState> {
    let mut random = Random::from_seed(options.seed);
    let mut groups = std::collections::BTreeMap::<_, Vec<CrashState>>::new();
    for state in states(log, options) {
        let key = (state.risk(log), !state.is_torn(), state.began);
        groups.entry(key).or_default().push(state);
    }
    let mut chosen = Vec::new();
    while chosen.len() < count && !groups.is_empty() {
        for group in groups.values_mut() {
            if chosen.len() < count && !group.is_empty() {
                let at = random.below(group.len());
                chosen.push(group.swap_remove(at));
            }
        }
        groups.retain(|_, group| !group.is_empty());
    }
    chosen
}
