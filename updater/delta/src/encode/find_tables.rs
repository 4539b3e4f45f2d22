//! Finds tables of sorted numbers by their look: a long run of entries in which the same words
//! never fall and rise by little.

use crate::tables::Table;

/// Shorter tables are not worth their description.
const ENTRIES_MIN: u32 = 64;
/// A step up to this is a neighbour's. Places relative to themselves fall by up to an entry.
const STEP_MAX: u32 = 1 << 17;
/// Entries that may be out of order in a row.
const MISSES_MAX: u32 = 3;
/// Entries that may repeat the one before in a row.
const SAME_MAX: u32 = 8;
/// Entries among the first that may repeat the one before: fewer than half.
const SAME_IN_MIN: u32 = ENTRIES_MIN / 2 - 2;
/// Smaller numbers are counts or text, not places.
const PLACE_MIN: u32 = 0x1_0000;
/// Entry lengths that compilers and the kernel make tables of; those that come first may not be
/// taken for parts of longer ones.
const STRIDES: [u32; 6] = [4, 8, 12, 16, 24, 14];
/// The longest of them, in bytes: a word may begin at each.
const COLUMNS_MAX: usize = 24;

/// The tables of a file, in its order.
pub(crate) fn find(file: &[u8]) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    for stride in STRIDES {
        let mut found = Vec::new();
        let mut start = 0;
        for table in &tables {
            find_in(
                file.get(..table.offset as usize).unwrap_or_default(),
                start,
                stride,
                &mut found,
            );
            start = table.end() as usize;
        }
        find_in(file, start, stride, &mut found);
        tables.extend(found);
        tables.sort_unstable_by_key(|table| table.offset);
    }
    tables
}

/// Adds the tables with entries of `stride` bytes in `file` from `start` on.
fn find_in(file: &[u8], start: usize, stride: u32, tables: &mut Vec<Table>) {
    let alignment = if stride.is_multiple_of(4) { 4 } else { 2 };
    let mut at = start.next_multiple_of(alignment);
    let mut columns = [0; COLUMNS_MAX];
    while at + stride as usize <= file.len() {
        match with_stride(file, at, stride, &mut columns) {
            Some(table) => {
                at = table.end() as usize;
                tables.push(table);
            }
            None => at += alignment,
        }
    }
}

/// `columns`: of the words that are a multiple of `stride` apart, none that begins before this
/// rises. A step that is none is looked at once, and not from each of the entries in front of it.
fn with_stride(file: &[u8], at: usize, stride: u32, columns: &mut [usize]) -> Option<Table> {
    let mut words = 0;
    for word in 0..stride / 4 {
        let word_at = at + word as usize * 4;
        let Some(column) = columns.get_mut(word_at % stride as usize) else {
            continue;
        };
        if word_at < *column {
            continue;
        }
        match rises(file, word_at, stride as usize) {
            Ok(()) => words |= 1 << word,
            Err(next) => *column = next,
        }
    }
    if words == 0 {
        return None;
    }
    let mut entries = ENTRIES_MIN;
    let first = at + 4 * (words as u32).trailing_zeros() as usize;
    let (mut misses, mut same) = (0, 0);
    let mut good = entries;
    while let Some(step) = step(file, first + (entries * stride) as usize, stride as usize) {
        entries += 1;
        match step {
            Step::Up => (misses, same) = (0, 0),
            Step::None => same += 1,
            Step::Far => misses += 1,
        }
        if misses > MISSES_MAX || same > SAME_MAX {
            break;
        }
        if misses == 0 && same == 0 {
            good = entries;
        }
    }
    let room = (file.len() - at) as u32 / stride;
    Some(Table {
        offset: at as u32,
        entries: good.min(room),
        stride,
        words,
    })
}

/// Whether the word at `at` and those of the next entries are sorted; if not, the first place from
/// which that may be so.
fn rises(file: &[u8], at: usize, stride: usize) -> Result<(), usize> {
    let mut same = 0;
    for entry in 1..ENTRIES_MIN as usize {
        let here = at + entry * stride;
        match step(file, here, stride) {
            Some(Step::Up) => {}
            Some(Step::None) if same < SAME_IN_MIN => same += 1,
            Some(Step::None) => return Err(at + stride),
            Some(Step::Far) => return Err(here),
            None => return Err(file.len()),
        }
    }
    Ok(())
}

/// How a word follows the one before it.
enum Step {
    Up,
    None,
    Far,
}

/// How the word at `at` follows its neighbour; nothing behind the end.
fn step(file: &[u8], at: usize, stride: usize) -> Option<Step> {
    let word = |at: usize| Some(u32::from_le_bytes(*file.get(at..)?.first_chunk()?));
    let (here, before) = (word(at)?, word(at.checked_sub(stride)?)?);
    let far = here.wrapping_sub(before).wrapping_add(stride as u32);
    Some(match here == before {
        true => Step::None,
        false if far <= STEP_MAX && here >= PLACE_MIN => Step::Up,
        false => Step::Far,
    })
}
