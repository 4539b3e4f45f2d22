//! A disk, a firmware's variables and a record in memory. Copies of the disk share their blocks.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use berth_slots::SECTOR;
use berth_slots::block::Block;
use berth_slots::efi::Variables;
use berth_slots::record::Records;

const BLOCK: usize = 4096;

/// A disk in memory: the blocks that were written; all others are zero.
#[derive(Clone, Debug)]
pub struct Memory {
    sectors: u64,
    blocks: HashMap<u64, Arc<[u8; BLOCK]>>,
}

impl Memory {
    /// An empty disk.
    #[must_use]
    pub fn new(sectors: u64) -> Self {
        Self {
            sectors,
            blocks: HashMap::new(),
        }
    }

    /// Where the two disks differ, in blocks of 4096 bytes; the first of them.
    #[must_use]
    pub fn first_difference(&self, other: &Self) -> Option<u64> {
        let zero = Arc::new([0; BLOCK]);
        let of = |disk: &Self, number: &u64| {
            let block = disk.blocks.get(number).unwrap_or(&zero);
            Arc::clone(block)
        };
        let numbers = self.blocks.keys().chain(other.blocks.keys());
        let differ = numbers.filter(|number| {
            let (one, two) = (of(self, number), of(other, number));
            !Arc::ptr_eq(&one, &two) && one != two
        });
        differ.min().copied()
    }

    /// What is not zero: offsets in bytes, and blocks.
    pub fn written(&self) -> impl Iterator<Item = (u64, &[u8; BLOCK])> {
        let blocks = self.blocks.iter();
        blocks.map(|(number, block)| (number * BLOCK as u64, &**block))
    }

    /// Calls `part` for each block that a range touches: its number, the range inside it, and
    /// the range's part.
    fn parts(
        &self,
        offset: u64,
        length: usize,
        mut part: impl FnMut(u64, std::ops::Range<usize>, std::ops::Range<usize>),
    ) -> io::Result<()> {
        let end = offset.checked_add(length as u64);
        if end.is_none_or(|end| end > self.sectors * SECTOR) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut done = 0;
        while done < length {
            let at = offset + done as u64;
            let inside = (at % BLOCK as u64) as usize;
            let count = (BLOCK - inside).min(length - done);
            part(
                at / BLOCK as u64,
                inside..inside + count,
                done..done + count,
            );
            done += count;
        }
        Ok(())
    }
}

impl Block for Memory {
    fn sectors(&mut self) -> io::Result<u64> {
        Ok(self.sectors)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.parts(offset, buffer.len(), |number, inside, part| {
            match self.blocks.get(&number) {
                Some(block) => buffer[part].copy_from_slice(&block[inside]),
                None => buffer[part].fill(0),
            }
        })
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut writes = Vec::new();
        self.parts(offset, bytes.len(), |number, inside, part| {
            writes.push((number, inside, part));
        })?;
        for (number, inside, part) in writes {
            let block = self
                .blocks
                .entry(number)
                .or_insert_with(|| Arc::new([0; BLOCK]));
            Arc::make_mut(block)[inside].copy_from_slice(&bytes[part]);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Variables in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MemoryVariables(
    /// By name.
    pub BTreeMap<String, Vec<u8>>,
);

impl Variables for MemoryVariables {
    fn list(&mut self) -> io::Result<Vec<String>> {
        Ok(self.0.keys().cloned().collect())
    }

    fn get(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.get(name).cloned())
    }

    fn set(&mut self, name: &str, data: &[u8]) -> io::Result<()> {
        self.0.insert(name.to_owned(), data.to_vec());
        Ok(())
    }

    fn delete(&mut self, name: &str) -> io::Result<()> {
        self.0.remove(name);
        Ok(())
    }
}

/// A record in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MemoryRecords(
    /// Its copies.
    pub [Option<Vec<u8>>; 2],
);

impl Records for MemoryRecords {
    fn load(&mut self) -> io::Result<[Option<Vec<u8>>; 2]> {
        Ok(self.0.clone())
    }

    fn save(&mut self, copy: usize, bytes: &[u8]) -> io::Result<()> {
        self.0[copy.min(1)] = Some(bytes.to_vec());
        Ok(())
    }
}
