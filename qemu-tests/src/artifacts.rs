//! Where a machine's files live: one directory per machine below the build's target directory.
//!
//! Logs stay until the next run, so that every failure can be looked into; disks, which are
//! large, only when the test panicked, something that was waited for did not come, or
//! `BERTH_TEST_KEEP` is set.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Error;

/// Cargo's target directory that this program was built into.
pub fn target_directory() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    exe.ancestors()
        .find(|directory| directory.join("CACHEDIR.TAG").exists())
        .map_or_else(std::env::temp_dir, Path::to_path_buf)
}

/// One machine's directory.
pub struct Artifacts {
    directory: PathBuf,
    failed: Arc<AtomicBool>,
}

impl Artifacts {
    /// An empty directory for `name`; what an earlier run left there is removed.
    pub fn new(name: &str) -> Result<Self, Error> {
        let directory = target_directory().join("qemu-tests").join(name);
        if directory.exists() {
            std::fs::remove_dir_all(&directory).map_err(Error::file("removing", &directory))?;
        }
        std::fs::create_dir_all(&directory).map_err(Error::file("creating", &directory))?;
        Ok(Self {
            directory,
            failed: Arc::default(),
        })
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// What a part of the machine sets when something went wrong.
    pub(crate) fn failure_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.failed)
    }

    fn remove_disks(&self) -> std::io::Result<()> {
        for entry in std::fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|kind| kind == "qcow2") {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

impl Drop for Artifacts {
    fn drop(&mut self) {
        let wanted = std::env::var_os("BERTH_TEST_KEEP").is_some();
        if wanted || std::thread::panicking() || self.failed.load(Ordering::Relaxed) {
            eprintln!("logs and disks: {}", self.directory.display());
        } else if let Err(error) = self.remove_disks() {
            eprintln!("removing disks in {}: {error}", self.directory.display());
        }
    }
}
