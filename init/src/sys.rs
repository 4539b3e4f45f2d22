//! The system calls that need `unsafe`; everything else in this crate goes through `nix` or `std`.
//!
//! Nothing here decides anything. Each block says why it is sound.

mod device;
mod process;

pub(crate) use device::{
    PartitionNews, credit_entropy, grow_ext4, is_power_button, raise_loopback,
    set_watchdog_timeout, tell_partition, watchdog_keep_alive, zero_range,
};
pub(crate) use process::{
    Ended, FIRST_PASSED, How, Spawn, has_children, restrict_bounding_set, spawn, wait_any,
};
