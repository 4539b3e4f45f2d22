//! What an update did, in order: writes and flushes of the disk, the firmware's variables, the
//! durable record.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use berth_slots::block::Block;
use berth_slots::efi::Variables;
use berth_slots::record::Records;

use crate::memory::{MemoryRecords, MemoryVariables};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Bytes handed to the disk.
    Write {
        /// Where, in bytes.
        offset: u64,
        /// Whole sectors.
        bytes: Arc<[u8]>,
    },
    /// The disk says that all writes before are on the medium.
    Flush,
    /// The firmware took a variable, or its removal: at once, and whole.
    Variable {
        /// Its name.
        name: String,
        /// Its data; `None` when it was removed.
        data: Option<Vec<u8>>,
    },
    /// A copy of the record was written and made durable; a cut meanwhile tears that copy.
    Record {
        /// Copy 0 or 1.
        copy: usize,
        /// Its bytes.
        bytes: Arc<[u8]>,
    },
    /// Whoever drives the update says what begins here.
    Mark(&'static str),
}

/// What happened, from the first to the last.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// In order.
    pub operations: Vec<Operation>,
    /// The variables before the first operation.
    pub variables: MemoryVariables,
    /// The record before the first operation.
    pub records: MemoryRecords,
    /// Sectors of the disk.
    pub disk_sectors: u64,
}

impl Log {
    /// The last mark before an operation.
    #[must_use]
    pub fn mark_before(&self, operation: usize) -> &'static str {
        let before = self.operations.iter().take(operation).rev();
        let mut marks = before.filter_map(|operation| match operation {
            Operation::Mark(mark) => Some(*mark),
            _ => None,
        });
        marks.next().unwrap_or("start")
    }

    /// Whether a write touches one of the partition table's copies.
    #[must_use]
    pub fn is_table(&self, operation: usize) -> bool {
        match self.operations.get(operation) {
            Some(Operation::Write { offset, .. }) => {
                let sector = offset / berth_slots::SECTOR;
                sector < 34 || sector + 33 >= self.disk_sectors
            }
            _ => false,
        }
    }
}

/// Writes down what happens to the disk, the variables and the record that it wraps.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Rc<RefCell<Log>>);

impl Recorder {
    /// A recorder of an update that begins with these.
    #[must_use]
    pub fn starting_with(variables: &MemoryVariables, records: &MemoryRecords) -> Self {
        Self(Rc::new(RefCell::new(Log {
            variables: variables.clone(),
            records: records.clone(),
            ..Log::default()
        })))
    }

    /// A disk whose writes and flushes are recorded.
    pub fn disk<D: Block>(&self, mut disk: D) -> RecordedDisk<D> {
        if let Ok(sectors) = disk.sectors() {
            self.0.borrow_mut().disk_sectors = sectors;
        }
        RecordedDisk {
            disk,
            recorder: self.clone(),
        }
    }

    /// Variables whose changes are recorded.
    pub fn variables<V: Variables>(&self, variables: V) -> RecordedVariables<V> {
        RecordedVariables {
            variables,
            recorder: self.clone(),
        }
    }

    /// A record whose changes are recorded.
    pub fn records<R: Records>(&self, records: R) -> RecordedRecords<R> {
        RecordedRecords {
            records,
            recorder: self.clone(),
        }
    }

    /// Says what begins here.
    pub fn mark(&self, mark: &'static str) {
        self.add(Operation::Mark(mark));
    }

    /// The log as it is now.
    #[must_use]
    pub fn log(&self) -> Log {
        self.0.borrow().clone()
    }

    fn add(&self, operation: Operation) {
        self.0.borrow_mut().operations.push(operation);
    }
}

/// See [`Recorder::disk`].
#[derive(Debug)]
pub struct RecordedDisk<D> {
    disk: D,
    recorder: Recorder,
}

impl<D: Block> Block for RecordedDisk<D> {
    fn sectors(&mut self) -> io::Result<u64> {
        self.disk.sectors()
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.disk.read_at(offset, buffer)
    }

    /// Writes that are not whole sectors are recorded as the sectors that the kernel writes.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let sector = berth_slots::SECTOR;
        self.disk.write_at(offset, bytes)?;
        let first = offset / sector * sector;
        let end = (offset + bytes.len() as u64).next_multiple_of(sector);
        let mut sectors = vec![0; (end - first) as usize];
        self.disk.read_at(first, &mut sectors)?;
        self.recorder.add(Operation::Write {
            offset: first,
            bytes: sectors.into(),
        });
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.disk.flush()?;
        self.recorder.add(Operation::Flush);
        Ok(())
    }
}

/// See [`Recorder::variables`].
#[derive(Debug)]
pub struct RecordedVariables<V> {
    variables: V,
    recorder: Recorder,
}

impl<V: Variables> Variables for RecordedVariables<V> {
    fn list(&mut self) -> io::Result<Vec<String>> {
        self.variables.list()
    }

    fn get(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.variables.get(name)
    }

    fn set(&mut self, name: &str, data: &[u8]) -> io::Result<()> {
        self.variables.set(name, data)?;
        self.recorder.add(Operation::Variable {
            name: name.to_owned(),
            data: Some(data.to_vec()),
        });
        Ok(())
    }

    fn delete(&mut self, name: &str) -> io::Result<()> {
        self.variables.delete(name)?;
        self.recorder.add(Operation::Variable {
            name: name.to_owned(),
            data: None,
        });
        Ok(())
    }
}

/// See [`Recorder::records`].
#[derive(Debug)]
pub struct RecordedRecords<R> {
    records: R,
    recorder: Recorder,
}

impl<R: Records> Records for RecordedRecords<R> {
    fn load(&mut self) -> io::Result<[Option<Vec<u8>>; 2]> {
        self.records.load()
    }

    fn save(&mut self, copy: usize, bytes: &[u8]) -> io::Result<()> {
        self.records.save(copy, bytes)?;
        self.recorder.add(Operation::Record {
            copy,
            bytes: bytes.into(),
        });
        Ok(())
    }
}
