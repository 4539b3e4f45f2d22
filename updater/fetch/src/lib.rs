//! Gets files from a web server: whole or by range, through a proxy, at a bounded speed, and never
//! waiting for ever.
//!
//! This is the part of an HTTP/1.1 client (RFC 9112) that an updater needs, small because every
//! byte of it is on every machine: GET and Range, one connection that is kept, redirects, a
//! resolver of its own (a static program has no name service). What comes back is bytes that
//! nobody may trust before their hash was checked; here they only have bounds.

mod answer;
mod client;
mod head;
mod names;
mod pace;
mod tls;
mod url;

pub use answer::Answer;
pub use client::{Client, Connection, Settings, Tls};
pub use names::{NameError, Resolver};
pub use tls::Authorities;
pub use url::{Url, UrlError};

use std::io;
use std::time::Duration;

/// Why there is no answer, or no whole one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host has no address.
    #[error("cannot find {host}: {source}")]
    Name {
        /// The host.
        host: String,
        /// Why.
        source: NameError,
    },
    /// Nobody is there.
    #[error("cannot connect to {authority}: {source}")]
    Connect {
        /// Host and port.
        authority: String,
        /// Why.
        source: io::Error,
    },
    /// The certificate does not fit, or the other side speaks something else.
    #[error("no secure connection to {authority}: {reason}")]
    Tls {
        /// Host and port.
        authority: String,
        /// Why.
        reason: String,
    },
    /// The proxy does not let us through.
    #[error("the proxy {proxy} refuses a connection to {authority} (status {status})")]
    Proxy {
        /// The proxy.
        proxy: String,
        /// Where to.
        authority: String,
        /// Its answer.
        status: u16,
    },
    /// The connection broke.
    #[error("the connection to {authority} broke: {source}")]
    Broken {
        /// Host and port.
        authority: String,
        /// Why.
        source: io::Error,
    },
    /// Nothing came for too long.
    #[error("{authority} said nothing for {} s", waited.as_secs())]
    Silent {
        /// Host and port.
        authority: String,
        /// How long.
        waited: Duration,
    },
    /// It comes too slowly.
    #[error("{authority} sends fewer than {least} bytes per second")]
    Slow {
        /// Host and port.
        authority: String,
        /// What it must send at least.
        least: u64,
    },
    /// The connection ended before the body did.
    #[error("{authority} ended the connection after {received} of {expected} bytes of {path}")]
    Truncated {
        /// Host and port.
        authority: String,
        /// What.
        path: String,
        /// Bytes that came.
        received: u64,
        /// Bytes that were announced.
        expected: u64,
    },
    /// What came is not HTTP/1.1 as we understand it.
    #[error("{authority} does not answer in HTTP that this machine understands: {what}")]
    Protocol {
        /// Host and port.
        authority: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The server has no such file, or does not give it.
    #[error("{authority} answers {status} to {path}")]
    Status {
        /// Host and port.
        authority: String,
        /// What was asked for.
        path: String,
        /// The status.
        status: u16,
    },
    /// Another range than the one that was asked for.
    #[error("{authority} answers {path} with other bytes than the range that was asked for")]
    Range {
        /// Host and port.
        authority: String,
        /// What was asked for.
        path: String,
    },
    /// A redirect that is not followed.
    #[error("{authority} sends {path} elsewhere ({to:?}), which is not followed: {reason}")]
    Redirect {
        /// Host and port.
        authority: String,
        /// What was asked for.
        path: String,
        /// Where to.
        to: String,
        /// Why not.
        reason: &'static str,
    },
}

impl Error {
    /// The status, when the server answered and said no.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// Every bound on what a server may send besides the body, whose length the caller bounds.
pub mod limits {
    /// Bytes of a response's head.
    pub const HEAD_BYTES: usize = 16 << 10;
    /// Header fields of a response.
    pub const FIELDS: usize = 100;
    /// Answers before the answer (RFC 9110, 15.2) that are passed over.
    pub const INTERIM: usize = 8;
    /// Redirects that are followed.
    pub const REDIRECTS: usize = 5;
    /// Bytes of a chunk's size line.
    pub const CHUNK_LINE: usize = 64;
    /// Bytes of an answer of a name server.
    pub const DNS_BYTES: usize = 1232;
    /// Addresses of a host that are tried.
    pub const ADDRESSES: usize = 4;
}
