//! Which parts of the new file are like which parts of the old: by a suffix array, with the
//! scores of bsdiff (Colin Percival, "Naive differences of executable code", 2003).
//!
//! A match is left only for one that is longer by a margin than what going on as before would
//! match, and then grown both ways as long as more than half of its bytes agree. So a changed
//! function stays one segment with differences in it.

use crate::map::Segment;

/// A new match must be this much better than going on with the last one.
const MARGIN: usize = 8;
/// Behind the start of a match longer than this, the rest of it is taken for the longest match:
/// where old and new repeat themselves, each byte of one would be compared with all of the others.
const CARRIED_MIN: usize = 1 << 10;
/// Matches are looked for up to this length, then simply extended.
const SEARCH_MAX: usize = 1 << 16;

/// Segments in the new file's order, without overlap. Files are shorter than 2 GiB.
pub(crate) fn segments(old: &[u8], new: &[u8]) -> Vec<Segment> {
    if old.is_empty() || new.is_empty() {
        return Vec::new();
    }
    let (_, suffixes) = divsufsort::sort(old).into_parts();
    let mut scan = Scan {
        old,
        new,
        segments: Vec::new(),
        last_new: 0,
        last_old: 0,
    };
    scan.run(&suffixes);
    scan.segments
}

struct Scan<'a> {
    old: &'a [u8],
    new: &'a [u8],
    segments: Vec<Segment>,
    /// Where the current segment starts.
    last_new: usize,
    last_old: usize,
}

impl Scan<'_> {
    fn run(&mut self, suffixes: &[i32]) {
        let (old, new) = (self.old, self.new);
        let (mut scan, mut length, mut position) = (0_usize, 0_usize, 0_usize);
        while scan < new.len() {
            // How many bytes agree from `scan` on if the last segment goes on.
            let mut going_on = 0_usize;
            scan += length;
            length = 0;
            let mut counted = scan;
            while scan < new.len() {
                (position, length) = match length > CARRIED_MIN {
                    true => (position + 1, length - 1),
                    false => longest(suffixes, old, &new[scan..]),
                };
                while counted < scan + length {
                    going_on += usize::from(self.agrees(counted));
                    counted += 1;
                }
                if length == going_on && length != 0 || length > going_on + MARGIN {
                    break;
                }
                going_on -= usize::from(self.agrees(scan));
                scan += 1;
            }
            if length != going_on || scan >= new.len() {
                self.close(scan.min(new.len()), position);
            }
        }
    }

    /// Whether the last segment, going on, has the right byte at `at`.
    fn agrees(&self, at: usize) -> bool {
        let old = (at + self.last_old).checked_sub(self.last_new);
        old.and_then(|old| self.old.get(old)) == self.new.get(at)
    }

    /// Ends the segment that began at `last_new`; the next one has its match at `scan`.
    fn close(&mut self, scan: usize, position: usize) {
        let forward = grow((0..).map_while(|at| {
            (self.last_new + at < scan)
                .then(|| Some(self.old.get(self.last_old + at)? == &self.new[self.last_new + at]))?
        }));
        let backward = match scan < self.new.len() {
            false => 0,
            true => grow((1..).map_while(|back| {
                (scan >= self.last_new + back && position >= back)
                    .then(|| self.old[position - back] == self.new[scan - back])
            })),
        };
        let overlap = (self.last_new + forward + backward).saturating_sub(scan);
        let (mut ours, mut theirs) = (forward, backward);
        if overlap > 0 {
            let keep = self.split(scan, position, forward, backward, overlap);
            ours = forward + keep - overlap;
            theirs = backward - keep;
        }
        if ours > 0 {
            self.segments.push(Segment {
                old: self.last_old as u32,
                new: self.last_new as u32,
                bytes: ours as u32,
            });
        }
        self.last_new = scan - theirs;
        self.last_old = position.wrapping_sub(theirs);
    }

    /// How many of the bytes that two segments both claim are better in the first.
    fn split(
        &self,
        scan: usize,
        position: usize,
        forward: usize,
        backward: usize,
        overlap: usize,
    ) -> usize {
        let (mut score, mut best, mut keep) = (0_i64, 0_i64, 0);
        for at in 0..overlap {
            let ours = forward - overlap + at;
            if self.new[self.last_new + ours] == self.old[self.last_old + ours] {
                score += 1;
            }
            if self.new[scan - backward + at] == self.old[position - backward + at] {
                score -= 1;
            }
            if score > best {
                (best, keep) = (score, at + 1);
            }
        }
        keep
    }
}

/// The length at which agreeing bytes exceed half of all by the most.
fn grow(agree: impl Iterator<Item = bool>) -> usize {
    let (mut score, mut best, mut length) = (0_i64, 0_i64, 0);
    for (at, agrees) in agree.enumerate() {
        score += if agrees { 1 } else { -1 };
        if score > best {
            (best, length) = (score, at + 1);
        }
    }
    length
}

/// The longest match of the start of `wanted` in `old`: where, and how long.
fn longest(suffixes: &[i32], old: &[u8], wanted: &[u8]) -> (usize, usize) {
    let near = &wanted[..wanted.len().min(SEARCH_MAX)];
    let (mut low, mut high) = (0, suffixes.len());
    // Bytes that the bounds have in common with what is wanted.
    let (mut low_length, mut high_length) = (0, 0);
    let mut best = (0, 0);
    while low < high {
        let middle = low + (high - low) / 2;
        let start = suffixes[middle] as usize;
        let known = low_length.min(high_length);
        let length = known + common(&old[start + known..], &near[known..]);
        if length > best.1 {
            best = (start, length);
        }
        if length == near.len() {
            break;
        }
        match old.get(start + length) {
            Some(byte) if *byte > near[length] => (high, high_length) = (middle, length),
            _ => (low, low_length) = (middle + 1, length),
        }
    }
    if best.1 == near.len() {
        best.1 = common(&old[best.0..], wanted);
    }
    best
}

/// Bytes that two slices have in common at their starts.
pub(crate) fn common(one: &[u8], other: &[u8]) -> usize {
    let words = one
        .chunks_exact(8)
        .zip(other.chunks_exact(8))
        .take_while(|(one, other)| one == other)
        .count();
    let at = words * 8;
    let rest = one[at..].iter().zip(&other[at..]);
    at + rest.take_while(|(one, other)| one == other).count()
}
