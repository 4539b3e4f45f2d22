//! What the tool carries in itself (see `build.rs`), or reads from the directory that
//! `BERTH_ASSETS` names, which wins: for work on the device without building the tool again.

use std::borrow::Cow;
use std::path::Path;

use sha2::{Digest, Sha256};

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// One thing that the tool carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asset {
    /// The device's one executable.
    Init,
    /// The demo container's program.
    Demo,
    /// systemd-stub, which makes a UKI of a kernel.
    Stub,
    /// The state partition's first blocks.
    StateTemplate,
}

/// Why there is no asset.
#[derive(Debug, thiserror::Error)]
pub enum AssetError {
    /// The tool was built by cargo alone.
    #[error(
        "this berth was built without its part {0:?}; build it with `make`, or name a directory \
         with the parts in BERTH_ASSETS"
    )]
    NotEmbedded(&'static str),
    /// The file in `BERTH_ASSETS` cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A stub that nobody has looked at.
    #[error(
        "the UEFI stub has the SHA-256 {sha256}, which is not one that this version knows; \
         --stub FILE takes it all the same, and berth.lock pins it"
    )]
    UnknownStub {
        /// Its hash.
        sha256: String,
    },
}

/// Stubs that were booted and whose sections were checked: SHA-256 and origin.
const KNOWN_STUBS: [(&str, &str); 1] = [(
    "c62ae56ffaf49d1a61de4434f4f531dd1d4ed3b5aee46c934c56e3f809b22cc4",
    "Debian systemd-boot-efi 252.39-1~deb12u2",
)];

impl Asset {
    fn file_name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Demo => "demo",
            Self::Stub => "stub.efi",
            Self::StateTemplate => "state.template",
        }
    }

    /// Its bytes.
    ///
    /// # Errors
    /// When the tool was built without it, the directory of `BERTH_ASSETS` cannot be read, or the
    /// stub is unknown.
    pub fn bytes(self) -> Result<Cow<'static, [u8]>, AssetError> {
        let bytes = self.raw()?;
        if self == Self::Stub {
            let sha256 = hex(&Sha256::digest(&bytes));
            if !KNOWN_STUBS.iter().any(|(known, _)| *known == sha256) {
                return Err(AssetError::UnknownStub { sha256 });
            }
        }
        Ok(bytes)
    }

    fn raw(self) -> Result<Cow<'static, [u8]>, AssetError> {
        let name = self.file_name();
        if let Some(directory) = std::env::var_os("BERTH_ASSETS") {
            let path = Path::new(&directory).join(name);
            match std::fs::read(&path) {
                Ok(bytes) => return Ok(Cow::Owned(bytes)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => {
                    return Err(AssetError::Read {
                        path: path.display().to_string(),
                        source,
                    });
                }
            }
        }
        EMBEDDED
            .iter()
            .find(|(embedded, _)| *embedded == name)
            .map(|(_, bytes)| Cow::Borrowed(*bytes))
            .ok_or(AssetError::NotEmbedded(name))
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;

    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
