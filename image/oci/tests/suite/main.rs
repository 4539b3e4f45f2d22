//! What the crate promises, tested from outside: against other people's tools and registries,
//! and with images made byte by byte.

mod by_hand;
mod flips;
mod hostile;
mod layers;
mod listing;
mod real;
mod registries;
mod selection;
mod server;
mod tools;
mod written;
