//! Volumes: directories on the state partition that containers mount. Missing ones are made, with
//! the owner that the configuration gives; one that is there is never touched.

use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

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
        .filter_map(|volume| make(volume, Path::new(state::TARGET)).err())
        .map(|why| why.to_string())
        .collect();
    if failures.is_empty() {
        return Ok(());
    }
    Err(Failure::new(failures.join("; ")))
}

/// Makes one volume beside its name and moves it there, so that a cut never leaves one with the
/// wrong owner. All of them are below `root`.
fn make(volume: &Volume, root: &Path) -> Result<(), Failure> {
    let doing = || format!("make the volume {}", volume.path);
    let path = Path::new(&volume.path);
    if !path.starts_with(root) {
        return Err(Failure::new(format!(
            "the volume {} is not below {}",
            volume.path,
            root.display()
        )));
    }
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(root);
    DirBuilder::new()
        .mode(0o755)
        .recursive(true)
        .create(parent)
        .doing(doing)?;
    let beside = beside(path);
    match fs::create_dir(&beside) {
        Err(why) if why.kind() != ErrorKind::AlreadyExists => return Err(why).doing(doing),
        _ => {} // left by a cut
    }
    chown(&beside, Some(volume.uid), Some(volume.gid)).doing(doing)?;
    let permissions = Permissions::from_mode(u32::from(volume.mode));
    fs::set_permissions(&beside, permissions).doing(doing)?;
    durable::rename(&beside, path).doing(doing)
}

/// Where a volume is made before it gets its name. Names begin with a letter or a digit, so no
/// other volume can be there.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_volume_that_is_made_takes_nothing_from_one_of_a_like_name() {
        let root = std::env::temp_dir().join(format!("berth-volumes-{}", std::process::id()));
        fs::create_dir(&root).expect("a directory");
        let owner = root.metadata().expect("an owner");
        let volume = |name: &str| Volume {
            path: root.join("volumes").join(name).display().to_string(),
            uid: owner.uid(),
            gid: owner.gid(),
            mode: 0o700,
        };
        let [data, like] = ["data", "data.new"].map(volume);
        make(&like, &root).expect("a volume");
        let kept = Path::new(&like.path).join("kept");
        fs::write(&kept, "content").expect("a file");
        make(&data, &root).expect("a volume");
        assert_eq!(fs::read(&kept).ok(), Some(b"content".to_vec()));
        let inside = fs::read_dir(&data.path).map(Iterator::count);
        assert_eq!(inside.ok(), Some(0));
        let names = fs::read_dir(root.join("volumes")).map(Iterator::count);
        assert_eq!(names.ok(), Some(2), "nothing is left beside them");
        fs::remove_dir_all(&root).expect("a directory");
    }

    #[test]
    fn a_volume_outside_the_state_is_refused() {
        let volume = Volume {
            path: "/elsewhere/data".into(),
            uid: 0,
            gid: 0,
            mode: 0o700,
        };
        assert!(make(&volume, Path::new(state::TARGET)).is_err());
    }
}
