//! What the `berth` command is made of: the configuration, the build, the run.
//!
//! A library so that tests and tools can use the parts; the command itself is `main.rs`.

// `say` is for that: it does not panic when nobody listens.
#![cfg_attr(not(test), deny(clippy::print_stderr))]

pub mod assets;
pub mod build;
mod capabilities;
mod command_line;
pub mod config;
pub mod delta;
pub mod diff;
mod exclusive;
pub mod faults;
pub mod inspect;
pub mod keys;
mod lines;
pub mod lock;
pub mod manifest;
mod privileges;
pub mod publish;
pub mod resolve;
pub mod run;
mod say;
mod signals;
mod svg;
pub mod treemap;

pub use say::say;
