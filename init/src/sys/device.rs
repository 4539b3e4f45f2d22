//! Requests to devices and file systems that only exist as ioctls.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Numbers from linux/watchdog.h.
const WDIOC_KEEPALIVE: libc::Ioctl = 0x8004_5705_u32 as libc::Ioctl;
const WDIOC_SETTIMEOUT: libc::Ioctl = 0xc004_5706_u32 as libc::Ioctl;
/// From linux/blkpg.h.
const BLKPG: libc::Ioctl = 0x1269;
const BLKPG_ADD_PARTITION: libc::c_int = 1;
const BLKPG_RESIZE_PARTITION: libc::c_int = 3;
/// From linux/fs.h.
const BLKZEROOUT: libc::Ioctl = 0x127f;
/// From fs/ext4/ext4.h.
const EXT4_IOC_RESIZE_FS: libc::Ioctl = 0x4008_6610;
/// From linux/random.h.
const RNDADDENTROPY: libc::Ioctl = 0x4008_5203;
/// `EVIOCGBIT(EV_KEY, KEY_BYTES)` of linux/input.h.
const KEY_BYTES: usize = 96;
const EVIOCGBIT_KEY: libc::Ioctl = (0x8000_4521_u32 | (KEY_BYTES as u32) << 16) as libc::Ioctl;
const KEY_POWER: usize = 116;

fn checked(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Tells the watchdog that the main loop is alive.
pub(crate) fn watchdog_keep_alive(watchdog: BorrowedFd<'_>) -> io::Result<()> {
    let mut unused: libc::c_int = 0;
    // SAFETY: the request writes at most one int, which outlives the call.
    checked(unsafe { libc::ioctl(watchdog.as_raw_fd(), WDIOC_KEEPALIVE, &mut unused) })
}

/// Sets the watchdog's timeout; gives the one that the device chose.
pub(crate) fn set_watchdog_timeout(watchdog: BorrowedFd<'_>, seconds: i32) -> io::Result<i32> {
    let mut timeout: libc::c_int = seconds;
    // SAFETY: the request reads and writes one int, which outlives the call.
    checked(unsafe { libc::ioctl(watchdog.as_raw_fd(), WDIOC_SETTIMEOUT, &mut timeout) })?;
    Ok(timeout)
}

/// What the kernel is told about a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PartitionNews {
    /// It is new.
    Added,
    /// It has another length.
    Resized,
}

/// Tells the kernel about a partition: its number, and its place on the disk in bytes.
pub(crate) fn tell_partition(
    disk: BorrowedFd<'_>,
    news: PartitionNews,
    number: u32,
    start_bytes: u64,
    length_bytes: u64,
) -> io::Result<()> {
    #[repr(C)]
    struct Partition {
        start: i64,
        length: i64,
        number: libc::c_int,
        name: [u8; 64],
        volume: [u8; 64],
    }
    #[repr(C)]
    struct Argument {
        operation: libc::c_int,
        flags: libc::c_int,
        length: libc::c_int,
        data: *const Partition,
    }
    let too_far = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let partition = Partition {
        start: i64::try_from(start_bytes).map_err(too_far)?,
        length: i64::try_from(length_bytes).map_err(too_far)?,
        number: libc::c_int::try_from(number).map_err(too_far)?,
        name: [0; 64],
        volume: [0; 64],
    };
    let argument = Argument {
        operation: match news {
            PartitionNews::Added => BLKPG_ADD_PARTITION,
            PartitionNews::Resized => BLKPG_RESIZE_PARTITION,
        },
        flags: 0,
        length: size_of::<Partition>() as libc::c_int,
        data: &partition,
    };
    // SAFETY: both structures are laid out as linux/blkpg.h says and outlive the call, which
    // only reads them.
    checked(unsafe { libc::ioctl(disk.as_raw_fd(), BLKPG, &argument) })
}

/// Makes a byte range of a block device read as zeroes, by discarding where the device can.
pub(crate) fn zero_range(
    device: BorrowedFd<'_>,
    start_bytes: u64,
    length_bytes: u64,
) -> io::Result<()> {
    let range = [start_bytes, length_bytes];
    // SAFETY: the request reads two 64-bit values, which outlive the call.
    checked(unsafe { libc::ioctl(device.as_raw_fd(), BLKZEROOUT, range.as_ptr()) })
}

/// Grows a mounted ext4 file system to this many of its blocks.
pub(crate) fn grow_ext4(root: BorrowedFd<'_>, blocks: u64) -> io::Result<()> {
    // SAFETY: the request reads one 64-bit value, which outlives the call.
    checked(unsafe { libc::ioctl(root.as_raw_fd(), EXT4_IOC_RESIZE_FS, &blocks) })
}

/// Most bytes of seed that are credited at once.
const SEED_BYTES: usize = 512;

/// Mixes a seed into the kernel's pool and counts its bits as unknown to anyone else.
pub(crate) fn credit_entropy(random: BorrowedFd<'_>, seed: &[u8]) -> io::Result<()> {
    #[repr(C)]
    struct Pool {
        bits: libc::c_int,
        bytes: libc::c_int,
        seed: [u8; SEED_BYTES],
    }
    let mut pool = Pool {
        bits: 0,
        bytes: 0,
        seed: [0; SEED_BYTES],
    };
    let mut length = 0;
    for (to, from) in pool.seed.iter_mut().zip(seed) {
        *to = *from;
        length += 1;
    }
    pool.bytes = length;
    pool.bits = length * 8;
    // SAFETY: laid out as linux/random.h's rand_pool_info with its buffer; only read.
    checked(unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY, &pool) })
}

/// Whether an input device has a power button.
pub(crate) fn is_power_button(input: BorrowedFd<'_>) -> bool {
    let mut keys = [0_u8; KEY_BYTES];
    // SAFETY: the request writes at most KEY_BYTES bytes, the length encoded in it.
    let filled = unsafe { libc::ioctl(input.as_raw_fd(), EVIOCGBIT_KEY, keys.as_mut_ptr()) };
    let byte = keys.get(KEY_POWER / 8).copied().unwrap_or(0);
    filled > 0 && byte >> (KEY_POWER % 8) & 1 == 1
}

/// Switches the loopback interface on; the kernel then gives it its addresses.
pub(crate) fn raise_loopback() -> io::Result<()> {
    // SAFETY: socket(2) with constants.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    checked(socket)?;
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: ifreq is plain data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: `request` is a filled ifreq that outlives the call.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) })
}
