//! The system calls that need `unsafe`; everything else in this crate goes through `nix` or `std`.
//!
//! Nothing here decides anything. Each block says why it is sound.

mod device;
mod process;

pub(crate) use device::{
    credit_entropy, grow_ext4, is_power_button, raise_loopback, set_watchdog_timeout,
    watchdog_keep_alive,
};
pub(crate) use process::{Ended, How, Spawn, has_children, spawn, wait_any};
