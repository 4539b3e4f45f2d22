//! What can go wrong with a registry.

/// Why a registry could not be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No answer, or none that is HTTP.
    #[error("{url}: cannot be reached: {why}; check the name, the network and the proxy settings")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What happened.
        why: String,
    },
    /// The server's certificate is not trusted.
    #[error(
        "{url}: the server's certificate is not accepted: {why}; if it is from a private certificate authority, name that authority's file"
    )]
    Certificate {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The registry wants someone else, or someone at all.
    #[error(
        "{url}: access is denied ({why}); check the image's name, and the credentials with docker login or in $REGISTRY_AUTH_FILE"
    )]
    Denied {
        /// What was asked for.
        url: String,
        /// What the registry said, and which credentials were used.
        why: String,
    },
    /// There is no such image or blob.
    #[error("{url}: not found{why}; check the image's name and tag")]
    NotFound {
        /// What was asked for.
        url: String,
        /// What the registry said.
        why: String,
    },
    /// An answer that does not help.
    #[error("{url}: the server answered {status}{why}")]
    Status {
        /// What was asked for.
        url: String,
        /// HTTP status.
        status: u16,
        /// What the server said.
        why: String,
    },
    /// A transfer that broke off again and again.
    #[error("{url}: the transfer broke off after {bytes} of {total} bytes: {why}")]
    Transfer {
        /// What was asked for.
        url: String,
        /// Bytes that came.
        bytes: u64,
        /// Bytes announced.
        total: u64,
        /// What happened last.
        why: String,
    },
    /// A redirect or token server that must not be followed.
    #[error("{url}: refused: {why}")]
    Unsafe {
        /// Where the server wanted us to go.
        url: String,
        /// Why not.
        why: String,
    },
    /// An answer that is not what the protocol says.
    #[error("{url}: the answer makes no sense: {why}")]
    Protocol {
        /// What was asked for.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// The credentials file cannot be used.
    #[error("credentials file {path}: {why}")]
    AuthFile {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A certificate authority's file cannot be used.
    #[error("certificate authority file {path}: {why}; it must hold certificates in PEM form")]
    CaFile {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}
