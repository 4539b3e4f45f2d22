//! OCI and Docker images, from directories, archives and registries, as a file tree.
//!
//! A [`Reference`] says where an image is, [`resolve`] finds out which one is meant and reads its
//! manifest and configuration, [`Resolved::unpack`] applies the layers to a
//! [`berth_tree::Tree`]. No root, no mounts: ownership, device nodes and attributes are data.
//!
//! All that comes from an image is hostile until checked: blobs against their digests and sizes
//! while they stream, names against the tree that they must stay in, everything against the caps
//! in [`Limits`].

mod config;
mod digest;
mod error;
mod image;
mod layer;
mod limits;
mod manifest;
mod options;
mod reference;
mod registry;
mod store;
mod tar;
mod user;
mod write;

pub use config::{Execution, History, ImageConfig, RootFs};
pub use digest::{Algorithm, Digest, DigestError};
pub use error::Error;
pub use image::{Image, LayerInfo, Resolved, resolve};
pub use layer::Attribution;
pub use limits::Limits;
pub use manifest::{Descriptor, DescriptorPlatform};
pub use options::{Options, Platform, Progress, RegistryOptions, Step};
pub use reference::{Reference, ReferenceError, RegistryName};
pub use registry::RegistryError;
pub use user::{User, UserError, resolve_user};
pub use write::{NewImage, write_oci_archive, write_oci_dir};
