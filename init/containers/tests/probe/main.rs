//! The real prober against real servers and inside real containers, on this computer's kernel.

mod inside;
mod lab;
mod network;
