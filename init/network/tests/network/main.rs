//! What the network agent promises: its parts on their own, and the whole of it against real
//! servers in network namespaces.

mod agent;
mod client;
mod lab;
mod messages;
mod server;
