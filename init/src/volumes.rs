//! Volumes: directories on the state partition that containers mount. Missing ones are made, with
//! the owner that the configuration gives; one that is there is never touched.

use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::Path;

use berth_containers::spec::Volume;

use crate::failure::{Doing, Failure};
use crate::{durable, machine, state};

/// Makes what is missing for every container. May block on the disk.
pub(crate) fn make_all() -> Result<(), Failure> {
    let machine = machine::read()?;
    let volumes = machine
        .containers
        .iter()
        .flat_map(|container| &container.volumes);
    let failures: Vec<String> = volumes
        .filter_map(|volume| make(volume).err())
        .map(|why| why.to_string())
        .collect();
    if failures.is_empty() {
        return Ok(());
    }
    Err(Failure::new(failures.join("; ")))
}

/// Makes one volume beside its name and moves it there, so that a cut never leaves one with the
/// wrong owner.
fn make(volume: &Volume) -> Result<(), Failure> {
    let doing = || format!("make the volume {}", volume.path);
    let path = Path::new(&volume.path);
    if !path.starts_with(state::TARGET) {
        return Err(Failure::new(format!(
            "the volume {} is not below {}",
            volume.path,
            state::TARGET
        )));
    }
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new(state::TARGET));
    DirBuilder::new()
        .mode(0o755)
        .recursive(true)
        .create(parent)
        .doing(doing)?;
    let beside = durable::beside(path);
    match fs::create_dir(&beside) {
        Err(why) if why.kind() != ErrorKind::AlreadyExists => return Err(why).doing(doing),
        _ => {} // left by a cut
    }
    chown(&beside, Some(volume.uid), Some(volume.gid)).doing(doing)?;
    let permissions = Permissions::from_mode(u32::from(volume.mode));
    fs::set_permissions(&beside, permissions).doing(doing)?;
    durable::rename(&beside, path).doing(doing)
}
