//! Containers: what one is ([`spec`]), how it is started, held to its limits, watched and stopped.
//!
//! The builder writes [`spec::Container`] into the verified root; PID 1 reads it, makes a
//! [`plan::Plan`] of it, and launches that as often as its supervision ([`supervise`]) says.
//! Decisions are pure; system calls sit in `sys`. Nothing here waits for a child, but a prober for its own.

pub mod capabilities;
pub mod health;
pub mod launch;
pub mod log;
pub mod plan;
pub mod probe;
pub mod report;
pub mod spec;
pub mod supervise;

mod child;
mod devices;
mod mounts;
mod namespaces;
mod process;
mod rlimits;
mod rootfs;
mod seccomp;
mod sys;

pub use sys::Errno;
