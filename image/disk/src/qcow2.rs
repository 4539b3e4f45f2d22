//! qcow2 version 3 from a raw image: clusters of zeros are not stored.
//!
//! Follows QEMU's `docs/interop/qcow2.txt`. Header and tables come first, then the data clusters
//! in the order of the disk, so the file is written front to back. No compression, no snapshots;
//! the same raw image gives the same bytes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use crate::stream::{CHUNK, is_zero};

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
const MAGIC: u32 = 0x5146_49fb;
const HEADER_BYTES: u32 = 104;
/// 2⁴ bits for each cluster's count.
const REFCOUNT_ORDER: u32 = 4;
const REFCOUNTS_PER_BLOCK: u64 = CLUSTER / 2;
const ENTRIES_PER_TABLE: u64 = CLUSTER / 8;
/// Set in table entries: the cluster has exactly one user.
const COPIED: u64 = 1 << 63;

/// Writes `raw` as an image of `virtual_bytes`; what is beyond `raw` reads as zeros.
///
/// # Errors
/// When `raw` cannot be read, changes meanwhile, or `out` cannot be written.
pub fn write(raw: &File, virtual_bytes: u64, out: &mut impl Write) -> io::Result<()> {
    let used = used_clusters(raw)?;
    let l1_entries = virtual_bytes.div_ceil(CLUSTER).div_ceil(ENTRIES_PER_TABLE);
    let tables: Vec<&[bool]> = used.chunks(ENTRIES_PER_TABLE as usize).collect();
    let is_used = |table: &&[bool]| table.contains(&true);
    let l1_clusters = (l1_entries * 8).div_ceil(CLUSTER).max(1);
    let l2_clusters = tables
        .iter()
        .copied()
        .filter(|table| is_used(table))
        .count() as u64;
    let data_clusters = used.iter().filter(|used| **used).count() as u64;
    let others = 1 + l1_clusters + l2_clusters + data_clusters;
    let (blocks, block_tables) = refcount_clusters(others);

    // In this order: header, refcount table, refcount blocks, L1, L2, data.
    let block_table_at = CLUSTER;
    let blocks_at = block_table_at + block_tables * CLUSTER;
    let l1_at = blocks_at + blocks * CLUSTER;
    let l2_at = l1_at + l1_clusters * CLUSTER;
    let data_at = l2_at + l2_clusters * CLUSTER;

    let mut header = Vec::with_capacity(HEADER_BYTES as usize);
    header.extend(MAGIC.to_be_bytes());
    header.extend(3_u32.to_be_bytes());
    header.extend([0; 12]); // no backing file
    header.extend(CLUSTER_BITS.to_be_bytes());
    header.extend(virtual_bytes.to_be_bytes());
    header.extend(0_u32.to_be_bytes()); // not encrypted
    header.extend((l1_entries as u32).to_be_bytes());
    header.extend(l1_at.to_be_bytes());
    header.extend(block_table_at.to_be_bytes());
    header.extend((block_tables as u32).to_be_bytes());
    header.extend([0; 12]); // no snapshots
    header.extend([0; 24]); // no features
    header.extend(REFCOUNT_ORDER.to_be_bytes());
    header.extend(HEADER_BYTES.to_be_bytes());
    put(out, &header, 1)?;
    let offsets = (0..blocks).map(|block| blocks_at + block * CLUSTER);
    put(out, &big_endian(offsets), block_tables)?;
    let counts = (0..others + blocks + block_tables).flat_map(|_| 1_u16.to_be_bytes());
    put(out, &counts.collect::<Vec<u8>>(), blocks)?;

    let mut next = l2_at;
    let l1 = tables.iter().map(|table| take(is_used(table), &mut next));
    put(out, &big_endian(l1), l1_clusters)?;
    let mut next = data_at;
    for table in tables.iter().filter(|table| is_used(table)) {
        let entries = table.iter().map(|used| take(*used, &mut next));
        put(out, &big_endian(entries), 1)?;
    }
    copy_data(raw, &used, out)
}

/// The next cluster's entry if there is one to take, else that of zeros.
fn take(used: bool, next: &mut u64) -> u64 {
    if !used {
        return 0;
    }
    let at = *next;
    *next += CLUSTER;
    at | COPIED
}

/// Which clusters of `raw` are not all zeros.
fn used_clusters(raw: &File) -> io::Result<Vec<bool>> {
    let bytes = raw.metadata()?.len();
    let mut used = Vec::with_capacity(bytes.div_ceil(CLUSTER) as usize);
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    while at < bytes {
        let part = &mut buffer[..(bytes - at).min(CHUNK as u64) as usize];
        raw.read_exact_at(part, at)?;
        used.extend(
            part.chunks(CLUSTER as usize)
                .map(|cluster| !is_zero(cluster)),
        );
        at += part.len() as u64;
    }
    Ok(used)
}

fn copy_data(raw: &File, used: &[bool], out: &mut impl Write) -> io::Result<()> {
    let bytes = raw.metadata()?.len();
    let mut buffer = vec![0; CLUSTER as usize];
    for (at, _) in (0..)
        .step_by(CLUSTER as usize)
        .zip(used)
        .filter(|(_, used)| **used)
    {
        let part = bytes.saturating_sub(at).min(CLUSTER) as usize;
        buffer[part..].fill(0);
        raw.read_exact_at(&mut buffer[..part], at)?;
        out.write_all(&buffer)?;
    }
    Ok(())
}

/// How many clusters the refcount blocks and their table take beside `others`: they count
/// themselves.
fn refcount_clusters(others: u64) -> (u64, u64) {
    let (mut blocks, mut tables) = (1, 1);
    loop {
        let wanted_blocks = (others + blocks + tables).div_ceil(REFCOUNTS_PER_BLOCK);
        let wanted_tables = wanted_blocks.div_ceil(ENTRIES_PER_TABLE);
        if (wanted_blocks, wanted_tables) == (blocks, tables) {
            return (blocks, tables);
        }
        (blocks, tables) = (wanted_blocks, wanted_tables);
    }
}

fn big_endian(entries: impl Iterator<Item = u64>) -> Vec<u8> {
    entries.flat_map(u64::to_be_bytes).collect()
}

/// Writes `bytes` and zeros up to `clusters` whole clusters.
fn put(out: &mut impl Write, bytes: &[u8], clusters: u64) -> io::Result<()> {
    out.write_all(bytes)?;
    let padding = clusters * CLUSTER - bytes.len() as u64;
    io::copy(&mut io::repeat(0).take(padding), out).map(|_| ())
}
