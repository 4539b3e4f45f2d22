//! Where the power goes: chosen before each start, most often where the disk is written.

use std::time::Duration;

use berth_chance::Random;

use crate::{Counts, Moment, News};

/// The next cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// By the disk, after PID 1 has come up.
    Disk(Moment),
    /// So long after QEMU was started: most of these fall into firmware and kernel.
    Early(Duration),
    /// So long after PID 1 has come up.
    Up(Duration),
    /// When the machine restarts by itself. Those before come to that too when what they wait for
    /// does not come: the next start is the trial all the same, and in a QEMU of its own.
    Restart,
    /// So long after there is nothing left to do; the restart on the way is left alone.
    Late(Duration),
}

/// What a machine does from one start to the next while nobody cuts it, as seen so far.
#[derive(Clone, Copy, Debug)]
pub struct Typical {
    /// Of the disk.
    pub counts: Counts,
    /// From QEMU's start to PID 1.
    pub to_up: Duration,
    /// From PID 1 to the end of what there is to do.
    pub to_end: Duration,
}

impl Default for Typical {
    /// A guess, until something was seen.
    fn default() -> Self {
        Self {
            counts: Counts {
                writes: 60,
                table_writes: 8,
                flushes: 24,
            },
            to_up: Duration::from_secs(8),
            to_end: Duration::from_secs(4),
        }
    }
}

impl Typical {
    /// What was seen counts for a quarter.
    pub fn saw(&mut self, counts: Counts, to_end: Duration) {
        let near = |old: u64, new: u64| (3 * old + new).div_ceil(4);
        self.counts = Counts {
            writes: near(self.counts.writes, counts.writes),
            table_writes: near(self.counts.table_writes, counts.table_writes),
            flushes: near(self.counts.flushes, counts.flushes),
        };
        self.to_end = (self.to_end * 3 + to_end) / 4;
    }

    /// The same of the way to PID 1.
    pub fn saw_up(&mut self, to_up: Duration) {
        self.to_up = (self.to_up * 3 + to_up) / 4;
    }
}

impl Cut {
    /// Chooses. `numbers` of the disk's moments are uniform over what is typical.
    #[must_use]
    pub fn choose(random: &mut Random, typical: &Typical) -> Self {
        let mut number = |most: u64| 1 + random.below(usize::try_from(most).unwrap_or(1)) as u64;
        let write = number(typical.counts.writes);
        let table_write = number(typical.counts.table_writes);
        let flush = number(typical.counts.flushes);
        let share = |of: Duration, random: &mut Random| of * random.below(1000) as u32 / 1000;
        match random.below(100) {
            0..30 => Self::Disk(Moment::Write(write)),
            30..50 => Self::Disk(Moment::TableWrite(table_write)),
            50..60 => Self::Disk(Moment::FlushAsked(flush)),
            60..70 => Self::Disk(Moment::FlushDone(flush)),
            70..75 => Self::Early(share(typical.to_up, random)),
            75..85 => Self::Up(share(typical.to_end, random)),
            85..93 => Self::Restart,
            _ => Self::Late(share(Duration::from_secs(2), random)),
        }
    }

    /// The disk's part in it.
    #[must_use]
    pub fn moment(&self) -> Option<Moment> {
        match self {
            Self::Disk(moment) => Some(*moment),
            _ => None,
        }
    }

    /// How long after the news it comes, if this news brings it.
    #[must_use]
    pub fn after(&self, news: News) -> Option<Duration> {
        match (self, news) {
            (Self::Up(delay), News::Up { .. }) => Some(*delay),
            (Self::Restart, News::Restarts) => Some(Duration::ZERO),
            (Self::Late(delay), News::Committed | News::Rejected | News::Current) => Some(*delay),
            (Self::Disk(_) | Self::Up(_), News::Restarts) => Some(Duration::ZERO),
            (_, News::Starved) => Some(Duration::ZERO),
            // Nothing more happens: whatever was waited for does not come.
            (_, News::Committed | News::Rejected | News::Current) => {
                Some(Duration::from_millis(300))
            }
            _ => None,
        }
    }
}
