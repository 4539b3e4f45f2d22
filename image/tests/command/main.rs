//! The command as its user meets it: exit codes, messages, files.

mod builds;
mod bundles;
mod diffs;
mod exit_codes;
mod fixture;
mod keys;
mod publishing;
