//! One file of both images: its copy map, and the mode of each of its blocks.

use std::ops::Range;

use crate::addresses::Addresses;
use crate::decode::{blocks, runs};
use crate::encode::hints::{References, absolute_list};
use crate::encode::{elf, find_tables, matching};
use crate::extents::Extents;
use crate::limits::Limits;
use crate::map::{Hint, List, Map, Moves, Segment};
use crate::predict::{BEFORE, BLOCK, Mode, Predictor, RUN_MAX, Run};
use crate::tables::{source_differences, target_differences};

/// A file that gets a copy map.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) old: Extents,
    pub(crate) new: Extents,
    pub(crate) map: Map,
    moves: Moves,
    absolute: Vec<u32>,
    /// The old bytes, tables as differences.
    old_view: Vec<u8>,
    /// The new bytes, tables as differences within each part.
    pub(crate) new_view: Vec<u8>,
    /// Of the whole file, block by block.
    pub(crate) modes: Vec<Mode>,
    /// Bytes of the map as it is written, before it is packed.
    pub(crate) map_bytes: usize,
}

impl File {
    /// `parts` are those that chunks hold: what tables may not cross.
    pub(crate) fn new(
        old_image: &[u8],
        new_image: &[u8],
        old: Extents,
        new: Extents,
        parts: &[Range<u32>],
    ) -> Self {
        let mut old_view = gather(old_image, &old);
        let mut new_view = gather(new_image, &new);
        let addresses = elf::addresses(&old_view).zip(elf::addresses(&new_view));
        let (old_addresses, new_addresses) = addresses.unwrap_or_default();
        let (old_tables, new_tables) = match old_addresses.rows.is_empty() {
            true => (Vec::new(), Vec::new()),
            false => (find_tables::find(&old_view), find_tables::find(&new_view)),
        };
        let list = absolute_list(&old_view, &old_addresses);
        let range = list.range();
        let words = old_view
            .get(range.start as usize..range.end as usize)
            .map(List::parse);
        let absolute = words.and_then(Result::ok).unwrap_or_default();
        source_differences(&old_tables, 0, &mut old_view);
        for part in parts {
            let view = &mut new_view[part.start as usize..part.end as usize];
            target_differences(&new_tables, part.start, view);
        }
        let segments = matching::segments(&old_view, &new_view);
        let map = Map {
            old_addresses,
            new_addresses,
            old_tables,
            new_tables,
            segments,
            hints: Vec::new(),
            absolute: list,
        };
        let mut file = Self {
            old,
            new,
            moves: Moves::new(&map),
            absolute,
            map,
            old_view,
            new_view,
            modes: Vec::new(),
            map_bytes: 0,
        };
        file.modes = file.choose_modes();
        file.map.hints = file.hints();
        if !file.map.hints.is_empty() {
            file.moves = Moves::new(&file.map);
            file.modes = file.choose_modes();
        }
        file.map_bytes = write_map(&file.map).len();
        file
    }

    /// What the references in code say of places that have moved. Where only such places are
    /// led to, no mode is better than none yet.
    fn hints(&self) -> Vec<Hint> {
        let bytes = self.new_view.len() as u32;
        let may_be_code = |mode: &Mode| matches!(mode, Mode::Code | Mode::Plain);
        let mut code: Vec<Range<u32>> = Vec::new();
        for (block, _) in (0..).zip(&self.modes).filter(|(_, mode)| may_be_code(mode)) {
            let (start, end) = (block * BLOCK, (block * BLOCK + BLOCK).min(bytes));
            match code.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => code.push(start..end),
            }
        }
        References {
            map: &self.map,
            old: &self.old_view,
            new: &self.new_view,
            absolute: &self.absolute,
        }
        .hints(&code, &self.moves)
    }

    /// Whether a decoder can load the map.
    pub(crate) fn fits(&self, limits: &Limits) -> bool {
        self.map_bytes <= limits.map_bytes
            && self.map.segments.len() <= limits.segments
            && self.map.old_tables.len().max(self.map.new_tables.len()) <= limits.tables
    }

    /// The modes of the blocks that `part` touches.
    pub(crate) fn modes_of(&self, part: &Range<u32>) -> &[Mode] {
        let first = (part.start / BLOCK) as usize;
        self.modes
            .get(first..first + blocks(part))
            .unwrap_or_default()
    }

    /// For each segment in `part`: the bytes in front of it that are not in the source, and its
    /// own in the target, with what is predicted for them.
    pub(crate) fn predicted(&self, part: &Range<u32>) -> Vec<u8> {
        let mut out = self.new_view[part.start as usize..part.end as usize].to_vec();
        for segment in self.map.touched(part) {
            let copied = segment.new.max(part.start)..(segment.new + segment.bytes).min(part.end);
            for (run, mode) in runs(copied, part, self.modes_of(part)) {
                let at = (run.start - part.start) as usize..(run.end - part.start) as usize;
                self.predict_run(segment, &run, mode, &mut out[at]);
            }
        }
        out
    }

    fn predict_run(&self, segment: &Segment, run: &Range<u32>, mode: Mode, out: &mut [u8]) {
        let old = segment.old + (run.start - segment.new);
        let start = old as usize;
        let mut window = vec![0; BEFORE.saturating_sub(start)];
        window.extend(&self.old_view[start.saturating_sub(BEFORE)..start + out.len()]);
        out.copy_from_slice(&window[BEFORE..]);
        let Map {
            old_addresses,
            new_addresses,
            ..
        } = &self.map;
        let predictor = Predictor {
            old: old_addresses,
            new: new_addresses,
            moves: &self.moves,
            absolute: &self.absolute,
        };
        predictor.predict(
            mode,
            Run {
                window: &window,
                old,
                new: run.start,
            },
            out,
        );
    }

    /// For each block the mode with the fewest bytes that differ.
    fn choose_modes(&self) -> Vec<Mode> {
        let bytes = self.new_view.len() as u32;
        let mut modes = vec![Mode::Plain; blocks(&(0..bytes))];
        if !self.map.predicts() {
            return modes;
        }
        let mut last = Mode::Plain;
        let mut start = 0;
        while start < bytes {
            let end = (start + RUN_MAX).min(bytes);
            self.choose_in(&(start..end), &mut last, &mut modes);
            start = end;
        }
        modes
    }

    fn choose_in(&self, part: &Range<u32>, last: &mut Mode, modes: &mut [Mode]) {
        let plain = self.wrong_bytes(part, Mode::Plain);
        if plain.iter().all(|wrong| *wrong == 0) {
            return;
        }
        let wrong: Vec<_> = Mode::PREDICTING
            .into_iter()
            .map(|mode| (mode, self.wrong_bytes(part, mode)))
            .collect();
        let first = (part.start / BLOCK) as usize;
        for (block, plain) in plain.iter().enumerate() {
            // A change of mode costs about a byte.
            let cost = |mode: Mode, wrong: u32| wrong + u32::from(mode != *last);
            let best = wrong
                .iter()
                .map(|(mode, wrong)| (cost(*mode, wrong[block]), *mode))
                .chain([(cost(Mode::Plain, *plain), Mode::Plain)])
                .min_by_key(|(cost, mode)| (*cost, *mode != *last));
            if let Some((_, mode)) = best {
                modes[first + block] = mode;
                *last = mode;
            }
        }
    }

    /// Bytes that differ in each block of `part`, which starts with a block, under one mode.
    fn wrong_bytes(&self, part: &Range<u32>, mode: Mode) -> Vec<u32> {
        let mut wrong = vec![0; blocks(part)];
        let all = vec![mode; blocks(part)];
        let mut out = vec![0; (part.end - part.start) as usize];
        for segment in self.map.touched(part) {
            let copied = segment.new.max(part.start)..(segment.new + segment.bytes).min(part.end);
            for (run, mode) in runs(copied, part, &all) {
                let out = &mut out[..(run.end - run.start) as usize];
                self.predict_run(segment, &run, mode, out);
                let new = &self.new_view[run.start as usize..run.end as usize];
                for (at, _) in out.iter().zip(new).enumerate().filter(|(_, (a, b))| a != b) {
                    wrong[((run.start - part.start) as usize + at) / BLOCK as usize] += 1;
                }
            }
        }
        wrong
    }
}

/// The bytes of a file.
pub(crate) fn gather(image: &[u8], extents: &Extents) -> Vec<u8> {
    let mut file = Vec::with_capacity(extents.bytes() as usize);
    for (_, at, bytes) in extents.pieces() {
        file.extend(&image[at as usize..at as usize + bytes as usize]);
    }
    file
}

/// Writes a map as [`Map::read`] reads it.
pub(crate) fn write_map(map: &Map) -> Vec<u8> {
    use crate::encode::numbers::{put, put_signed};
    let mut out = Vec::new();
    let addresses = |out: &mut Vec<u8>, addresses: &Addresses| {
        put(out, addresses.rows.len() as u64);
        put(out, addresses.base);
        for row in &addresses.rows {
            put(out, u64::from(row.offset));
            put(out, row.address);
            put(out, u64::from(row.bytes));
        }
    };
    addresses(&mut out, &map.old_addresses);
    addresses(&mut out, &map.new_addresses);
    for tables in [&map.old_tables, &map.new_tables] {
        put(&mut out, tables.len() as u64);
        let mut end = 0;
        for table in tables {
            put(&mut out, u64::from(table.offset - end));
            put(&mut out, u64::from(table.entries));
            put(&mut out, u64::from(table.stride));
            put(&mut out, u64::from(table.words));
            end = table.end();
        }
    }
    put(&mut out, map.segments.len() as u64);
    let mut end = 0;
    for segment in &map.segments {
        put(&mut out, u64::from(segment.new - end));
        end = segment.new + segment.bytes;
    }
    for segment in &map.segments {
        put(&mut out, u64::from(segment.bytes));
    }
    let (mut old, mut new) = (0_i64, 0_i64);
    for segment in &map.segments {
        let gap = i64::from(segment.new) - new;
        put_signed(&mut out, i64::from(segment.old) - old - gap);
        old = i64::from(segment.old) + i64::from(segment.bytes);
        new = i64::from(segment.new) + i64::from(segment.bytes);
    }
    put(&mut out, map.hints.len() as u64);
    let (mut end, mut shift) = (0_u32, 0_u32);
    for hint in &map.hints {
        put(&mut out, u64::from(hint.old - end));
        put(&mut out, u64::from(hint.bytes));
        put_signed(&mut out, i64::from(hint.shift.wrapping_sub(shift) as i32));
        end = hint.old + hint.bytes;
        shift = hint.shift;
    }
    put(&mut out, u64::from(map.absolute.words));
    put(&mut out, u64::from(map.absolute.offset));
    out
}
