//! The publisher's side: keys, signatures, and the files of a repository.
//!
//! Nothing here does I/O either. [`RootDraft`] makes root files, to which each holder of a key adds
//! a signature with [`sign`]; [`Repository`] takes what is published already and makes the files
//! of the next state, in the order in which they have to be written.

mod document;
mod error;
mod repository;
mod root;
mod signing;

pub use document::sign;
pub use error::WriteError;
pub use repository::{
    DelegationPlan, Expiries, File, FirstLook, Paths, Plan, Repository, RolePlan, Signers,
    TargetFile,
};
pub use root::{Role, RootDraft, RootStatus, check_identifiers, same_root};
pub use signing::{KeyRecord, SigningKey};
