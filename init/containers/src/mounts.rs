//! The container's mounts: reading them from the specification, and making them.
//!
//! What needs the machine's privilege (copies of the machine's directories, `/dev` with its
//! nodes) PID 1 makes beforehand as detached mounts; the rest the container's own root makes.
//! Options are those of mount(8); one that is not listed here is refused, never ignored.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::namespaces::Namespaces;
use crate::plan::{Refused, absolute, parents};
use crate::spec;
use crate::sys::mounts::{self as api, ATIME};
use crate::sys::{At, Errno, files, left_for_exec};

/// Most mounts of one container.
const MOST_MOUNTS: usize = 128;

/// One mount, ready to be made.
#[derive(Debug)]
pub(crate) struct Mount {
    /// Where, inside.
    pub(crate) destination: CString,
    /// The directories above it, outermost first.
    parents: Vec<CString>,
    /// What.
    pub(crate) source: Source,
    /// Attributes to set.
    set: u64,
    /// Attributes to clear on a copy.
    clear: u64,
}

/// What is mounted.
#[derive(Debug)]
pub(crate) enum Source {
    /// A new file system, made by the container's root.
    New(FileSystem),
    /// The container's `/dev`, made by PID 1.
    Dev(FileSystem),
    /// A copy of a mount of the machine, made by PID 1.
    Copy {
        /// Path on the machine.
        path: CString,
        /// Whether mounts below it come along.
        recursive: bool,
        /// Whether its files appear with the container's ids.
        map_ids: bool,
    },
}

/// A kind of file system and its parameters.
#[derive(Debug)]
pub(crate) struct FileSystem {
    kind: CString,
    parameters: Vec<(CString, Option<CString>)>,
}

/// Reads the list of mounts.
pub(crate) fn parse(list: &[spec::Mount], namespaces: &Namespaces) -> Result<Vec<Mount>, Refused> {
    if list.len() > MOST_MOUNTS {
        return Err(Refused::new("mounts", format!("more than {MOST_MOUNTS}")));
    }
    let mounts: Vec<Mount> = list
        .iter()
        .map(|mount| Mount::parse(mount, namespaces))
        .collect::<Result<_, _>>()?;
    if !mounts
        .iter()
        .any(|mount| mount.destination.as_c_str() == c"/dev")
    {
        return Err(Refused::new(
            "mounts",
            "there is none at /dev: a container needs its own".into(),
        ));
    }
    Ok(mounts)
}

impl Mount {
    fn parse(mount: &spec::Mount, namespaces: &Namespaces) -> Result<Self, Refused> {
        let key = format!("mounts[{}]", mount.destination);
        let destination = absolute(&mount.destination, &key)?;
        if destination.as_c_str() == c"/" {
            return Err(Refused::new(&key, "the root is set by root.path".into()));
        }
        let options = Options::parse(mount, &key)?;
        let source = source(mount, &options, namespaces, &key)?;
        if !matches!(source, Source::New(_) | Source::Dev(_)) && !options.parameters.is_empty() {
            return Err(Refused::new(
                &key,
                "a bind mount takes no parameters".into(),
            ));
        }
        let (mut set, clear) = (options.set, options.clear);
        if matches!(source, Source::Copy { .. }) && clear & api::NODEV == 0 {
            // A device node in a volume opens no device of the machine unless that was asked for.
            set |= api::NODEV;
        }
        let mut source = source;
        if let Source::New(new) | Source::Dev(new) = &mut source {
            new.parameters.extend(options.parameters);
            if let Some(name) = mount
                .source
                .as_deref()
                .and_then(|name| CString::new(name).ok())
            {
                // What mountinfo shows as the source.
                new.parameters.push((c"source".into(), Some(name)));
            }
        }
        Ok(Self {
            parents: parents(&mount.destination),
            destination,
            source,
            set,
            clear,
        })
    }

    /// Whether it is the container's own `/dev`.
    pub(crate) fn is_dev(&self) -> bool {
        matches!(self.source, Source::Dev(_))
    }

    /// Makes the part that needs the machine's privilege: a detached mount for what is copied and
    /// for `/dev`, nothing otherwise.
    pub(crate) fn prepare(&self) -> Result<Option<OwnedFd>, Errno> {
        match &self.source {
            Source::New(_) => Ok(None),
            Source::Dev(new) => new.make(self.set).map(Some),
            Source::Copy {
                path, recursive, ..
            } => {
                // A volume's content belongs to some container: a link in it must not lead out.
                let resolve = files::NO_SYMLINKS | files::NO_MAGICLINKS;
                let original = files::open(At::Cwd, path, libc::O_PATH, resolve)?;
                let copy = api::copy_tree(original.as_fd(), *recursive)?;
                if self.set != 0 || self.clear != 0 {
                    api::set_attributes(copy.as_fd(), self.set, self.clear, *recursive)?;
                }
                Ok(Some(copy))
            }
        }
    }

    /// Attaches it in the container's root, which is the process's root by now.
    pub(crate) fn attach(&self, prepared: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        let made;
        let mount = match (&self.source, prepared) {
            (Source::New(new), _) => {
                made = left_for_exec(new.make(self.set)?);
                made.as_fd()
            }
            (_, Some(prepared)) => prepared,
            (_, None) => return Err(Errno(libc::EBADF)),
        };
        if self.in_own_dev() && make_new_directory(&self.destination)? {
            return api::attach_at(mount, &self.destination);
        }
        let on = left_for_exec(self.open_destination(mount)?);
        api::attach(mount, on.as_fd())
    }

    /// Whether it is a new file system right below the container's own `/dev`, where nothing of
    /// the image is.
    fn in_own_dev(&self) -> bool {
        let name = self.destination.to_bytes().strip_prefix(b"/dev/");
        matches!(self.source, Source::New(_)) && name.is_some_and(|name| !name.contains(&b'/'))
    }

    /// Opens the mount point, and makes it (in a writable file system) when it is not there.
    fn open_destination(&self, mount: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        // An image must not send /proc or /sys elsewhere by a link: what hides parts of them
        // goes by these names.
        let strict = [c"/proc", c"/sys"].contains(&self.destination.as_c_str());
        let resolve = files::NO_MAGICLINKS | if strict { files::NO_SYMLINKS } else { 0 };
        let open = || files::open(At::Cwd, &self.destination, libc::O_PATH, resolve);
        match open() {
            Err(Errno(libc::ENOENT)) => {}
            other => return other,
        }
        for parent in &self.parents {
            make_directory(parent)?;
        }
        if files::kind(mount)?.is_directory() {
            make_directory(&self.destination)?;
        } else {
            files::create_file(At::Cwd, &self.destination)?;
        }
        open()
    }
}

impl FileSystem {
    /// Makes it as a detached mount.
    fn make(&self, attributes: u64) -> Result<OwnedFd, Errno> {
        let context = api::file_system(&self.kind)?;
        for (key, value) in &self.parameters {
            api::parameter(context.as_fd(), key, value.as_deref())?;
        }
        api::create(context.as_fd(), attributes)
    }
}

/// Makes a directory; false when something is there already.
fn make_new_directory(path: &CStr) -> Result<bool, Errno> {
    match files::mkdir(At::Cwd, path, 0o755) {
        Ok(()) => Ok(true),
        Err(Errno(libc::EEXIST)) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Makes a directory unless it is there.
fn make_directory(path: &CStr) -> Result<(), Errno> {
    make_new_directory(path).map(drop)
}

fn source(
    mount: &spec::Mount,
    options: &Options,
    namespaces: &Namespaces,
    key: &str,
) -> Result<Source, Refused> {
    let kind = mount.kind.as_deref().unwrap_or("none");
    if options.bind {
        if !matches!(kind, "bind" | "none") {
            return Err(Refused::new(
                key,
                format!("type {kind:?} and a bind option contradict each other"),
            ));
        }
        let path = mount
            .source
            .as_deref()
            .ok_or_else(|| Refused::new(key, "a bind mount needs a source".into()))?;
        return Ok(Source::Copy {
            path: absolute(path, key)?,
            recursive: options.recursive,
            map_ids: options.map_ids && namespaces.ids.is_some(),
        });
    }
    if options.map_ids {
        return Err(Refused::new(key, "idmap is for bind mounts".into()));
    }
    let own = |own: bool, name: &str| {
        if own || namespaces.ids.is_none() {
            Ok(())
        } else {
            Err(Refused::new(
                key,
                format!("type {kind:?} needs the container's own {name} namespace"),
            ))
        }
    };
    let name = match kind {
        "tmpfs" if mount.destination == "/dev" => return dev(options, namespaces, key),
        "sysfs" if namespaces.ids.is_some() && !namespaces.network => {
            // The kernel mounts sysfs only for whoever owns the network namespace; with the
            // machine's network a copy of the machine's own /sys is the same, without what is
            // mounted below it.
            return Ok(Source::Copy {
                path: c"/sys".into(),
                recursive: false,
                map_ids: false,
            });
        }
        "proc" => c"proc",
        "sysfs" => c"sysfs",
        "tmpfs" => c"tmpfs",
        "devpts" => c"devpts",
        "mqueue" => {
            own(namespaces.ipc, "ipc")?;
            c"mqueue"
        }
        "cgroup" | "cgroup2" => {
            own(namespaces.cgroup, "cgroup")?;
            c"cgroup2"
        }
        other => {
            return Err(Refused::new(
                key,
                format!("type {other:?} is not one that containers may mount"),
            ));
        }
    };
    Ok(Source::New(FileSystem {
        kind: name.into(),
        parameters: Vec::new(),
    }))
}

/// `/dev` is made by PID 1 and given to the container's root.
fn dev(options: &Options, namespaces: &Namespaces, key: &str) -> Result<Source, Refused> {
    for (parameter, _) in &options.parameters {
        if [c"uid", c"gid"].contains(&parameter.as_c_str()) {
            return Err(Refused::new(
                key,
                "it belongs to the container's root".into(),
            ));
        }
    }
    let root = |id: Option<u32>| {
        id.and_then(|id| CString::new(id.to_string()).ok())
            .ok_or_else(|| Refused::new(key, "id 0 is not mapped".into()))
    };
    Ok(Source::Dev(FileSystem {
        kind: c"tmpfs".into(),
        parameters: vec![
            (c"uid".into(), Some(root(namespaces.outer_uid(0))?)),
            (c"gid".into(), Some(root(namespaces.outer_gid(0))?)),
        ],
    }))
}

/// Mount options, sorted by what they are for.
#[derive(Default)]
struct Options {
    set: u64,
    clear: u64,
    bind: bool,
    recursive: bool,
    map_ids: bool,
    parameters: Vec<(CString, Option<CString>)>,
}

impl Options {
    fn parse(mount: &spec::Mount, key: &str) -> Result<Self, Refused> {
        let mut options = Self::default();
        if mount.kind.as_deref() == Some("bind") {
            options.bind = true;
        }
        for option in &mount.options {
            if !options.generic(option) && !options.parameter(option, mount.kind.as_deref()) {
                return Err(Refused::new(
                    key,
                    format!("option {option:?} is not one that is supported here"),
                ));
            }
        }
        Ok(options)
    }

    /// An option that every mount takes. As in mount(8) the last one wins.
    fn generic(&mut self, option: &str) -> bool {
        let mut attribute = |set: u64, clear: u64| {
            self.set = self.set & !clear | set;
            self.clear = self.clear & !set | clear;
        };
        match option {
            "ro" | "rro" => attribute(api::RDONLY, 0),
            "rw" => attribute(0, api::RDONLY),
            "nosuid" => attribute(api::NOSUID, 0),
            "suid" => attribute(0, api::NOSUID),
            "nodev" => attribute(api::NODEV, 0),
            "dev" => attribute(0, api::NODEV),
            "noexec" => attribute(api::NOEXEC, 0),
            "exec" => attribute(0, api::NOEXEC),
            "nodiratime" => attribute(api::NODIRATIME, 0),
            "diratime" => attribute(0, api::NODIRATIME),
            "nosymfollow" => attribute(api::NOSYMFOLLOW, 0),
            "symfollow" => attribute(0, api::NOSYMFOLLOW),
            // mount_setattr wants the whole access time field cleared when it is set.
            "noatime" => self.access_time(api::NOATIME),
            "strictatime" => self.access_time(api::STRICTATIME),
            "relatime" => self.access_time(0),
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "idmap" => self.map_ids = true,
            // Every mount of a container is private.
            "private" | "rprivate" | "defaults" => {}
            _ => return false,
        }
        true
    }

    fn access_time(&mut self, mode: u64) {
        self.set = self.set & !ATIME | mode;
        self.clear |= ATIME;
    }

    /// A parameter of the file system, from the list that is allowed for its type.
    fn parameter(&mut self, option: &str, kind: Option<&str>) -> bool {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        let with_value: &[&str] = match kind {
            Some("tmpfs") => &["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks"],
            Some("devpts") => &["mode", "uid", "gid", "ptmxmode", "max"],
            Some("proc") => &["hidepid", "subset", "gid"],
            _ => &[],
        };
        let allowed = match value {
            Some(value) => {
                with_value.contains(&name)
                    && !value.is_empty()
                    && value
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'%')
            }
            None => kind == Some("devpts") && name == "newinstance",
        };
        let parameter = CString::new(name).ok().zip(
            // Only what passed the check above is converted; it has no NUL.
            value.map(CString::new).transpose().ok(),
        );
        match parameter {
            Some(parameter) if allowed => {
                self.parameters.push(parameter);
                true
            }
            _ => false,
        }
    }
}
