//! The role against servers, bundles, clocks and disks that do not do what they should. Each ends
//! in a state and a sentence that names what is wrong, and leaves the running version alone.

mod blocks;
mod faults;
mod flips;
mod memory;
mod offline;
mod publisher;
mod resume;
mod server;
mod world;
