//! What a disk of Berth holds: GPT, slots, dm-verity

pub mod state_template;
