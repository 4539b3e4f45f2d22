//! The root in memory: an initramfs that holds the verified root as one file, for machines that
//! boot from a network or a CD and for measurements without disks.
//!
//! The file is mounted as EROFS where it lies and moved over the initramfs, since pivot_root
//! refuses that.

use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::unistd::{chdir, chroot};

use crate::failure::{Doing, Failure};

const IMAGE: &str = "/root.erofs";
const TARGET: &str = "/root";

/// Changes to the root file that the initramfs holds, if there is one.
pub(crate) fn enter() -> Result<(), Failure> {
    if !Path::new(IMAGE).exists() {
        return Ok(());
    }
    match std::fs::create_dir(TARGET) {
        Err(why) if why.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(why).doing(|| format!("make {TARGET} in the initramfs"));
        }
        _ => {}
    }
    mount(
        Some(IMAGE),
        TARGET,
        Some("erofs"),
        MsFlags::MS_RDONLY,
        None::<&str>,
    )
    .doing(|| {
        format!(
            "mount {IMAGE} (the kernel needs CONFIG_EROFS_FS_BACKED_BY_FILE and \
             rootfstype=ramfs on its command line)"
        )
    })?;
    chdir(TARGET).doing(|| format!("change to {TARGET}"))?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .doing(|| "move the root over the initramfs".to_owned())?;
    chroot(".").doing(|| "change the root directory".to_owned())
}
