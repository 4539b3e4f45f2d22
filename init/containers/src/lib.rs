//! Containers: what one is ([`spec`]), how it is started, held to its limits, watched and stopped.
//!
//! The builder writes [`spec::Container`] into the verified root; PID 1 reads it. Decisions are
//! pure; system calls sit in `sys`.

pub mod spec;
