//! What many cuts came to.

use std::collections::BTreeMap;
use std::fmt;

use crate::Loss;

/// Sums.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Power cuts: QEMU killed.
    pub cuts: u64,
    /// Of these, cuts after which PID 1 came up from the disk that was left.
    pub came_back: u64,
    /// Starts whose PID 1 came up.
    pub starts: u64,
    /// Of these, trials.
    pub trials: u64,
    /// Versions that were committed.
    pub committed: u64,
    /// Versions that were given up because a cut fell into their trial.
    pub rejected: u64,
    /// Pages that were fetched from a machine whose update was complete.
    pub pages: u64,
    /// Disks, each new at first.
    pub disks: u64,
    /// Partition tables that had to be repaired.
    pub repaired: u64,
    /// Times that the firmware had lost its variables.
    pub erased: u64,
    /// Versions that were tried before, which nobody could know after such a loss.
    pub unknown: u64,
    /// Machines that the computer had no time for.
    pub starved: u64,
    /// Cuts that left unflushed writes.
    pub with_unflushed: u64,
    /// Cuts that left unflushed writes to the partition table.
    pub within_table: u64,
    /// Unflushed writes, dropped and torn ones.
    pub loss: Loss,
    /// Cuts by the phase in which they fell.
    pub phases: BTreeMap<String, u64>,
}

impl Totals {
    /// A cut in this phase, with this loss.
    pub fn cut(&mut self, phase: String, loss: Loss) {
        self.cuts += 1;
        *self.phases.entry(phase).or_default() += 1;
        self.with_unflushed += u64::from(loss.unflushed > 0);
        self.within_table += u64::from(loss.table_writes > 0);
        self.loss.unflushed += loss.unflushed;
        self.loss.dropped += loss.dropped;
        self.loss.torn += loss.torn;
        self.loss.table_writes += loss.table_writes;
    }

    /// Both together.
    pub fn add(&mut self, other: &Self) {
        self.cuts += other.cuts;
        self.came_back += other.came_back;
        self.starts += other.starts;
        self.trials += other.trials;
        self.committed += other.committed;
        self.rejected += other.rejected;
        self.pages += other.pages;
        self.disks += other.disks;
        self.repaired += other.repaired;
        self.erased += other.erased;
        self.unknown += other.unknown;
        self.starved += other.starved;
        self.with_unflushed += other.with_unflushed;
        self.within_table += other.within_table;
        self.loss.unflushed += other.loss.unflushed;
        self.loss.dropped += other.loss.dropped;
        self.loss.torn += other.loss.torn;
        self.loss.table_writes += other.loss.table_writes;
        for (phase, count) in &other.phases {
            *self.phases.entry(phase.clone()).or_default() += count;
        }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "{} power cuts on {} disks, {} came back; {} starts, {} of them trials",
            self.cuts, self.disks, self.came_back, self.starts, self.trials
        )?;
        write!(out, "{} updates completed", self.committed)?;
        // `berth test` asks for none: it does not know what the containers serve.
        if self.pages > 0 {
            write!(out, ", {} pages fetched", self.pages)?;
        }
        writeln!(
            out,
            "; {} versions given up for a cut in their trial",
            self.rejected
        )?;
        writeln!(
            out,
            "{} cuts with unflushed writes, {} of them in the partition table: {} writes, {} \
             dropped, {} torn",
            self.with_unflushed,
            self.within_table,
            self.loss.unflushed,
            self.loss.dropped,
            self.loss.torn
        )?;
        writeln!(
            out,
            "{} tables repaired; variables erased {} times, {} times with all that told of a trial; \
             {} machines starved",
            self.repaired, self.erased, self.unknown, self.starved
        )?;
        write!(out, "cuts by phase:")?;
        for (phase, count) in &self.phases {
            write!(out, " {phase} {count},")?;
        }
        Ok(())
    }
}
