//! The guests' own program (`src/bin/guest`), built as one static executable.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::{Error, process, target_directory};

/// Builds `guest` and returns where it is.
pub fn program() -> Result<PathBuf, Error> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(built) = BUILT.get() {
        return Ok(built.clone());
    }
    // A target directory of its own: other flags, and no lock shared with a running build.
    let target = target_directory().join("guest-programs");
    let triple = "x86_64-unknown-linux-gnu";
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--bin", "guest", "--profile", "device"])
        .args(["--target", triple, "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(&target)
        .env(
            "RUSTFLAGS",
            "-C target-feature=+crt-static -C relocation-model=static",
        )
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    process::run(&mut cargo)?;
    let path = target.join(triple).join("device").join("guest");
    Ok(BUILT.get_or_init(|| path).clone())
}
