//! Files that appear under their names whole or not at all: written beside, synced, renamed.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The end of every temporary name; a dot is at the start.
const END: &str = ".part";

/// A file that is being written. Dropped without [`Pending::finish`] it leaves nothing.
#[derive(Debug)]
pub struct Pending {
    temporary: PathBuf,
    path: PathBuf,
    file: File,
}

impl Pending {
    /// Starts a file that will be called `path`. It can be read and written.
    ///
    /// # Errors
    /// When its directory cannot be written, or something is called so that is not a file: a
    /// rename would put a file into the place of a disk's device and leave the disk as it is.
    pub fn create(path: &Path) -> io::Result<Self> {
        if is_no_file(path) {
            let reason = "it is no regular file, and only those are replaced: name a file";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        // Unique in this process by the counter, among processes by the number and create_new.
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let mut temporary = OsString::from(".");
        temporary.push(name);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        temporary.push(format!(".{}-{count}{END}", std::process::id()));
        let temporary = path.with_file_name(temporary);
        // Left by a process that had this number and was killed.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&temporary)?;
        Ok(Self {
            temporary,
            path: path.to_owned(),
            file,
        })
    }

    /// The file to write to.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where it is until then, for programs that open it by its name.
    #[must_use]
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// The name that the file will get.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file gets its name, replacing what has it, when its bytes are on the medium.
    ///
    /// # Errors
    /// When the bytes cannot be kept: a full disk may say so only now. What had the name before
    /// is unchanged then.
    pub fn finish(self) -> io::Result<()> {
        self.sync()?;
        fs::rename(&self.temporary, &self.path)?;
        sync_directory_of(&self.path)
    }

    /// Its bytes are on the medium, so that what can still fail is only the name. Of several files
    /// that belong together each is synced before the first is finished.
    ///
    /// # Errors
    /// When the bytes cannot be kept.
    pub fn sync(&self) -> io::Result<()> {
        // The umask of the day is not part of the output.
        self.file
            .set_permissions(fs::Permissions::from_mode(0o644))?;
        self.file.sync_all()
    }
}

/// Whether something is called so that a file must not take the place of: a device, a directory, a
/// pipe, or one of the links in /dev and /proc that lead to a process's open files.
fn is_no_file(path: &Path) -> bool {
    if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
        return true;
    }
    let directory = path
        .parent()
        .and_then(|parent| fs::canonicalize(parent).ok());
    let is_system =
        |directory: PathBuf| directory == Path::new("/dev") || directory.starts_with("/proc");
    path.is_symlink() && directory.is_some_and(is_system)
}

/// The name of a file, new or gone, is on the medium.
///
/// # Errors
/// When its directory cannot be synced.
pub fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

impl Drop for Pending {
    fn drop(&mut self) {
        // After `finish` there is nothing under this name; before, nobody wants it.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// The name that a temporary file would have got, by its own.
fn final_name(temporary: &str) -> Option<&str> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (name, number) = temporary
        .strip_prefix('.')?
        .strip_suffix(END)?
        .rsplit_once('.')?;
    let (process, count) = number.split_once('-')?;
    (is_number(process) && is_number(count)).then_some(name)
}

/// Removes files that processes left which were killed while they wrote into `directory`, of those
/// whose final name is meant. Nobody may be writing them now.
///
/// # Errors
/// When the directory cannot be read, or a file not be removed.
pub fn remove_leftovers(directory: &Path, is_meant: impl Fn(&str) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if final_name(&name.to_string_lossy()).is_some_and(&is_meant) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Writes a whole file.
///
/// # Errors
/// When it cannot be written; what had the name is unchanged then.
pub fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let pending = Pending::create(path)?;
    pending.file().write_all(bytes)?;
    pending.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_finished_leaves_nothing_and_the_old_one_as_it_was() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("out");
        write_file(&path, b"old").expect("write");
        let one = Pending::create(&path).expect("create");
        let two = Pending::create(&path).expect("a second one at the same time");
        one.file().write_all(b"half").expect("write");
        drop(one);
        drop(two);
        assert_eq!(fs::read(&path).expect("read"), b"old");
        assert_eq!(fs::read_dir(directory.path()).expect("list").count(), 1);
        write_file(&path, b"new").expect("write");
        assert_eq!(fs::read(&path).expect("read"), b"new");
    }

    #[test]
    fn a_device_and_a_directory_are_never_replaced() {
        let directory = tempfile::tempdir().expect("directory");
        let node = directory.path().join("node");
        std::os::unix::net::UnixListener::bind(&node).expect("something that is no file");
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&node, &link).expect("a link");
        for path in [directory.path(), &node, &link] {
            let refused = write_file(path, b"new").expect_err("refused");
            assert!(refused.to_string().contains("no regular file"), "{refused}");
        }
        assert!(is_no_file(Path::new("/dev/stdout")));
        assert_eq!(fs::read_dir(directory.path()).expect("list").count(), 2);
    }

    #[test]
    fn leftovers_are_removed_and_what_only_looks_like_one_stays() {
        let directory = tempfile::tempdir().expect("directory");
        let stays = [
            ".other.1-0.part",
            ".out.part",
            ".out.1-x.part",
            "out.1-0.part",
        ];
        for name in stays.iter().chain(&[".out.1-0.part", ".out.22-33.part"]) {
            fs::write(directory.path().join(name), b"half").expect("write");
        }
        let pending = Pending::create(&directory.path().join("out")).expect("create");
        let temporary = pending.temporary().file_name().expect("a name");
        assert_eq!(final_name(&temporary.to_string_lossy()), Some("out"));
        remove_leftovers(directory.path(), |name| name == "out").expect("remove");
        assert_eq!(
            fs::read_dir(directory.path()).expect("list").count(),
            stays.len()
        );
        assert!(
            stays
                .iter()
                .all(|name| directory.path().join(name).exists())
        );
    }
}
