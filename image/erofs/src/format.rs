//! The structures of the disk format: constants, little-endian encoders, the checksum.
//!
//! Names are those of Linux's `fs/erofs/erofs_fs.h`. Nothing here decides anything.

/// Bytes in a block: the only size every kernel with 4 KiB pages reads.
pub const BLOCK_SIZE: u64 = 4096;
pub(crate) const BLOCK: usize = 4096;
pub(crate) const BLOCK_SIZE_BITS: u8 = 12;

/// Where the superblock is in block 0; what is before it belongs to boot code.
pub(crate) const SUPER_OFFSET: usize = 1024;
pub(crate) const VOLUME_NAME_LEN: usize = 16;
pub(crate) const SUPER_MAGIC_V1: u32 = 0xe0f5_e1e2;
const FEATURE_COMPAT_SB_CHKSUM: u32 = 0x1;
const FEATURE_COMPAT_MTIME: u32 = 0x2;

/// Inodes are addressed by 32-byte slots from the start of the metadata area.
pub(crate) const SLOT: u64 = 32;
/// An extended inode: 64-bit size, 32-bit owners, its own time.
pub(crate) const INODE_SIZE: u64 = 64;
pub(crate) const INODE_LAYOUT_EXTENDED: u16 = 1;
const DATALAYOUT_BIT: u32 = 1;

pub(crate) const DIRENT_SIZE: usize = 12;
pub(crate) const XATTR_HEADER_SIZE: usize = 12;
pub(crate) const XATTR_ENTRY_SIZE: usize = 4;

/// How an inode's data is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DataLayout {
    /// All of it in consecutive blocks.
    FlatPlain,
    /// Whole blocks in consecutive blocks, the rest right behind the inode and its attributes.
    FlatInline,
}

/// `struct erofs_inode_extended`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inode {
    pub(crate) layout: DataLayout,
    /// Bytes of the attribute body behind the inode: 0, or the header and more.
    pub(crate) xattr_bytes: usize,
    /// File type and permissions.
    pub(crate) mode: u16,
    pub(crate) size: u64,
    /// The first data block, or the device number.
    pub(crate) union: u32,
    pub(crate) serial: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: i64,
    pub(crate) mtime_nsec: u32,
    pub(crate) nlink: u32,
}

impl Inode {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let layout: u16 = match self.layout {
            DataLayout::FlatPlain => 0,
            DataLayout::FlatInline => 2,
        };
        out.extend((INODE_LAYOUT_EXTENDED | layout << DATALAYOUT_BIT).to_le_bytes());
        out.extend(xattr_icount(self.xattr_bytes).to_le_bytes());
        out.extend(self.mode.to_le_bytes());
        out.extend([0; 2]);
        out.extend(self.size.to_le_bytes());
        out.extend(self.union.to_le_bytes());
        out.extend(self.serial.to_le_bytes());
        out.extend(self.uid.to_le_bytes());
        out.extend(self.gid.to_le_bytes());
        out.extend(self.mtime.to_le_bytes());
        out.extend(self.mtime_nsec.to_le_bytes());
        out.extend(self.nlink.to_le_bytes());
        out.extend([0; 16]);
    }
}

/// `i_xattr_icount`: 0, or 1 for the header and 1 for each four bytes behind it.
fn xattr_icount(bytes: usize) -> u16 {
    match bytes.checked_sub(XATTR_HEADER_SIZE) {
        None => 0,
        Some(rest) => u16::try_from(rest / XATTR_ENTRY_SIZE + 1).unwrap_or(u16::MAX),
    }
}

/// The largest attribute body that `i_xattr_icount` can describe.
pub(crate) const XATTR_BODY_MAX: usize =
    XATTR_HEADER_SIZE + (u16::MAX as usize - 1) * XATTR_ENTRY_SIZE;

/// `struct erofs_super_block`, the fields an uncompressed image uses.
#[derive(Clone, Debug)]
pub(crate) struct Superblock {
    pub(crate) root_nid: u16,
    pub(crate) inodes: u64,
    pub(crate) build_time: u64,
    pub(crate) blocks: u32,
    pub(crate) meta_block: u32,
    pub(crate) xattr_block: u32,
    pub(crate) uuid: [u8; 16],
    pub(crate) volume_name: String,
}

impl Superblock {
    /// Block 0 with the superblock in its place and its checksum in it.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut block = vec![0; SUPER_OFFSET];
        block.extend(SUPER_MAGIC_V1.to_le_bytes());
        block.extend([0; 4]);
        block.extend((FEATURE_COMPAT_SB_CHKSUM | FEATURE_COMPAT_MTIME).to_le_bytes());
        block.extend([BLOCK_SIZE_BITS, 0]);
        block.extend(self.root_nid.to_le_bytes());
        block.extend(self.inodes.to_le_bytes());
        block.extend(self.build_time.to_le_bytes());
        block.extend([0; 4]);
        block.extend(self.blocks.to_le_bytes());
        block.extend(self.meta_block.to_le_bytes());
        block.extend(self.xattr_block.to_le_bytes());
        block.extend(self.uuid);
        let mut name = self.volume_name.as_bytes().to_vec();
        name.resize(VOLUME_NAME_LEN, 0);
        block.extend(name);
        block.resize(BLOCK, 0);
        let checksum = crc32c(&block[SUPER_OFFSET..]);
        block[SUPER_OFFSET + 4..SUPER_OFFSET + 8].copy_from_slice(&checksum.to_le_bytes());
        block
    }
}

/// CRC-32C as EROFS uses it: from all ones, not inverted at the end. One block per image, so the
/// bitwise form is fast enough.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    })
}

/// The kernel's `new_encode_dev`.
pub(crate) fn device_number(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc32c_without_the_final_inversion() {
        // RFC 3720, B.4: 32 bytes of zeros.
        assert_eq!(!crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(!crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn large_device_numbers_survive() {
        assert_eq!(device_number(8, 1), 0x801);
        assert_eq!(device_number(0xfff, 0xf_ffff), 0xffff_ffff);
    }
}
