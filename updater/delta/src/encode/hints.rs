//! Where things have moved that no segment tells of: memory without bytes in the file, and what
//! matching put elsewhere. The references themselves say it: what many of them lead to in the
//! old file, and what the same ones lead to in the new.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::addresses::Addresses;
use crate::map::{Hint, List, Map, Moves};
use crate::predict::{BEFORE, is_relative};

/// What a hint costs, in references that it must make right.
const WORTH: i32 = 3;
/// Lists of absolute addresses shorter than this are not worth their search.
const LIST_MIN: usize = 64;
const WORD: usize = 4;

/// What references to one place of the old file say: where it is now, and how many say so.
type Votes = BTreeMap<u32, BTreeMap<u32, i32>>;

/// References in code, of which both versions are known.
pub(crate) struct References<'a> {
    pub(crate) map: &'a Map,
    /// Both files, tables as differences.
    pub(crate) old: &'a [u8],
    pub(crate) new: &'a [u8],
    /// The words of [`Map::absolute`].
    pub(crate) absolute: &'a [u32],
}

impl References<'_> {
    /// Hints for what the references in the target's `code` say and `moves` does not.
    pub(crate) fn hints(&self, code: &[Range<u32>], moves: &Moves) -> Vec<Hint> {
        let mut votes = Votes::new();
        for part in code {
            for segment in self.map.touched(part) {
                let start = segment.new.max(part.start);
                let end = (segment.new + segment.bytes).min(part.end);
                self.count(segment.old + (start - segment.new), start, end, &mut votes);
            }
        }
        let file_bytes = self.old.len() as u32;
        let in_file = votes.range(..file_bytes);
        let mut hints = corrections(in_file, moves);
        hints.extend(memory(votes.range(file_bytes..)));
        hints
    }

    /// Counts the references of the copied bytes at `old`, which go to `start..end`.
    fn count(&self, old: u32, start: u32, end: u32, votes: &mut Votes) {
        let Map {
            old_addresses,
            new_addresses,
            ..
        } = self.map;
        let (Some(old_address), Some(new_address)) =
            (old_addresses.of(old), new_addresses.of(start))
        else {
            return;
        };
        let word = |file: &[u8], at: u32| {
            Some(i32::from_le_bytes(*file.get(at as usize..)?.first_chunk()?))
        };
        let mut at = 0;
        while start + at + WORD as u32 <= end {
            let (from, to) = (old + at, start + at);
            let (Some(far), Some(new_far)) = (word(self.old, from), word(self.new, to)) else {
                return;
            };
            let place = old_address.wrapping_add(at.into());
            let is_absolute = self.absolute.binary_search(&(place as u32)).is_ok();
            let before = (from as usize)
                .checked_sub(BEFORE)
                .and_then(|from| self.old.get(from..from + BEFORE));
            let base = match before {
                _ if is_absolute => Some((0, 0)),
                Some([first, second]) if is_relative(*first, *second) => Some((
                    place.wrapping_add(4),
                    new_address.wrapping_add(u64::from(at) + 4),
                )),
                _ => None,
            };
            let ends = base.and_then(|(base, new_base)| {
                let offset = |addresses: &Addresses, base: u64, far: i32| {
                    addresses.offset(base.wrapping_add(far as u64))
                };
                Some((
                    offset(old_addresses, base, far)?,
                    offset(new_addresses, new_base, new_far)?,
                ))
            });
            if let Some((target, new_target)) = ends {
                *votes
                    .entry(target)
                    .or_default()
                    .entry(new_target)
                    .or_default() += 1;
                at += WORD as u32;
            } else {
                at += 1;
            }
        }
    }
}

/// The place that most references lead to, and how many.
fn winner(votes: &BTreeMap<u32, i32>) -> Option<(u32, i32)> {
    let (place, count) = votes.iter().max_by_key(|(_, count)| **count)?;
    Some((*place, *count))
}

/// Hints where segments mislead more references than a hint costs.
fn corrections<'a>(
    votes: impl Iterator<Item = (&'a u32, &'a BTreeMap<u32, i32>)>,
    moves: &Moves,
) -> Vec<Hint> {
    let mut hints = Vec::new();
    // The hint that grows, and what it gains.
    let mut open: Option<(Hint, i32)> = None;
    for (old, places) in votes {
        let predicted = moves.new_offset(*old);
        let gain = |place: u32| {
            let count = |place| places.get(&place).copied().unwrap_or(0);
            count(place) - predicted.map_or(0, count)
        };
        if let Some((hint, gained)) = &mut open {
            let here = gain(old.wrapping_add(hint.shift));
            if here > 0 || here == 0 && predicted == Some(old.wrapping_add(hint.shift)) {
                hint.bytes = old - hint.old + 1;
                *gained += here;
                continue;
            }
        }
        hints.extend(open.take().filter(|(_, gained)| *gained >= WORTH));
        if let Some((place, _)) = winner(places)
            && gain(place) > 0
        {
            let hint = Hint {
                old: *old,
                bytes: 1,
                shift: place.wrapping_sub(*old),
            };
            open = Some((hint, gain(place)));
        }
    }
    hints.extend(open.filter(|(_, gained)| *gained >= WORTH));
    hints.into_iter().map(|(hint, _)| hint).collect()
}

/// Hints for memory that has no bytes in the file: each goes on until the next.
fn memory<'a>(votes: impl Iterator<Item = (&'a u32, &'a BTreeMap<u32, i32>)>) -> Vec<Hint> {
    let mut runs: Vec<(Hint, i32)> = Vec::new();
    for (old, places) in votes {
        let last = runs.last().map(|(hint, _)| hint.shift);
        let agree = last.and_then(|shift| places.get(&old.wrapping_add(shift)));
        let Some((place, count)) = winner(places) else {
            continue;
        };
        match (agree, runs.last_mut()) {
            (Some(agree), Some((_, gained))) if count - agree < WORTH => *gained += agree,
            _ => runs.push((
                Hint {
                    old: *old,
                    bytes: 0,
                    shift: place.wrapping_sub(*old),
                },
                count,
            )),
        }
    }
    // A single voice against what goes on before and behind it is noise.
    let mut hints: Vec<Hint> = Vec::new();
    for (hint, gained) in runs {
        if hints.is_empty() || gained > 1 {
            match hints.last_mut() {
                Some(last) if last.shift == hint.shift => {}
                _ => hints.push(hint),
            }
        }
    }
    let ends: Vec<u32> = hints.iter().skip(1).map(|hint| hint.old).collect();
    for (hint, end) in hints.iter_mut().zip(ends) {
        hint.bytes = end - hint.old;
    }
    hints
}

/// The list of the places of absolute addresses that a kernel has at its end, to move itself.
pub(crate) fn absolute_list(file: &[u8], addresses: &Addresses) -> List {
    let words = file.rchunks_exact(WORD).map_while(|word| {
        let word = i32::from_le_bytes(*word.first_chunk()?);
        addresses.offset(word as u64).map(|_| word as u32)
    });
    let mut next = u32::MAX;
    let count = words
        .take_while(|word| {
            let falls = *word < next;
            next = *word;
            falls
        })
        .count();
    match count < LIST_MIN || addresses.rows.is_empty() {
        true => List::default(),
        false => List {
            offset: (file.len() - count * WORD) as u32,
            words: count as u32,
        },
    }
}
