//! Why nothing was signed or published.

use crate::error::{Error, Malformed};

/// Why nothing was signed or published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The system has no randomness.
    #[error("the system gives no random numbers, so no key can be made")]
    NoRandomness,
    /// Not a private key.
    #[error("this is not a private key of the kind Ed25519 in PEM (PKCS#8)")]
    NotAPrivateKey,
    /// Not a public key.
    #[error("this is not a public key in PEM of the kind Ed25519, ECDSA P-256 or RSA")]
    NotAPublicKey,
    /// Not signed metadata.
    #[error("this is not a file of metadata: {0}")]
    NotMetadata(String),
    /// A field is missing or wrong.
    #[error("this metadata is wrong: {0}")]
    Malformed(#[from] Malformed),
    /// What is published already is not to be trusted.
    #[error("what is published already is not in order: {0}")]
    Published(#[from] Error),
    /// A published file cannot be read.
    #[error("{name} cannot be read: {reason}")]
    Read {
        /// The file.
        name: String,
        /// Why.
        reason: String,
    },
    /// A published file that another one names is not there.
    #[error("{name} is missing, although what is published names it")]
    Missing {
        /// The file.
        name: String,
    },
    /// A role has fewer keys than have to sign.
    #[error("the role {role} needs {threshold} signatures and has {keys} keys")]
    TooFewKeys {
        /// The role.
        role: String,
        /// The keys it has.
        keys: usize,
        /// The signatures it needs.
        threshold: u32,
    },
    /// The key is not one of the role's.
    #[error("the key {keyid} is not one of the role {role}")]
    UnknownKey {
        /// The key.
        keyid: String,
        /// The role.
        role: String,
    },
    /// No honest publisher gets there.
    #[error(
        "the metadata of {role} has version {version}, so somebody else had its key: put back the \
         published files of before, exchange the key, and publish again"
    )]
    Enormous {
        /// Whose metadata.
        role: String,
        /// Its version.
        version: u64,
    },
    /// A key goes by the name of another.
    #[error(
        "the key that it calls {keyid} is another one, {is}: whoever drafted it made a mistake or \
         wants to deceive, so do not sign it"
    )]
    MisnamedKey {
        /// What the file calls it.
        keyid: String,
        /// Its identifier.
        is: String,
    },
    /// The signers given are not those that the root names.
    #[error("the keys given are not enough to sign for {role}: {valid} of {threshold}")]
    TooFewSigners {
        /// The role.
        role: String,
        /// Keys given that are the role's.
        valid: usize,
        /// Signatures that are needed.
        threshold: u32,
    },
    /// The new state would be refused by every client.
    #[error("no client would accept this: {0}")]
    Unacceptable(Error),
}
