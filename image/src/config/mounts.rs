//! The `mounts` of a container: volumes, memory file systems, the machine's status.

use super::mistakes::Place;
use super::table::{Table, expected, string};
use super::units::size_bytes;
use toml::de::DeValue;

/// One mount as the file says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountConfig {
    /// What is mounted.
    pub source: MountSource,
    /// Where, absolute, without `.` and `..`.
    pub target: String,
    /// Whether it cannot be written.
    pub read_only: bool,
    /// Where it stands in the file.
    pub place: Place,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountSource {
    /// A directory of the state partition, by name; it survives restarts and updates.
    Volume(String),
    /// Memory, with its size limit in bytes and the permissions of its root.
    Tmpfs {
        /// Size limit, bytes.
        size: u64,
        /// Permission bits of its root directory.
        mode: u16,
    },
    /// The machine's status file, in a directory.
    Status,
}

/// Size of a tmpfs that says none.
pub(crate) const DEFAULT_TMPFS_BYTES: u64 = 64 << 20;

pub(super) fn read(container: &mut Table<'_>) -> Vec<MountConfig> {
    let tables = container.tables(
        "mounts",
        "a list of mounts, like [{ volume = \"www\", target = \"/srv\" }]",
    );
    let mut mounts: Vec<MountConfig> = Vec::new();
    for table in tables {
        let at = table.place();
        let span = table.key_span("target").or(table.key_span("tmpfs"));
        let name = table.name().to_owned();
        if let Some(mount) = mount(table, at) {
            let span = span.unwrap_or_default();
            if mounts.iter().any(|other| other.target == mount.target) {
                let text = format!("{name}: {} is mounted twice", mount.target);
                container.wrong(&span, text);
            }
            mounts.push(mount);
        }
    }
    mounts
}

fn mount(mut table: Table<'_>, place: Place) -> Option<MountConfig> {
    let volume = table.parse("volume", volume_name);
    let tmpfs = table.parse("tmpfs", target_path);
    let status = table.read("status", |value| match value {
        DeValue::Boolean(true) => Ok(()),
        other => Err(expected("true", other)),
    });
    let target = table.parse("target", target_path);
    let read_only = table.boolean("read_only").unwrap_or(false);
    let size = table.parse("size", size_bytes);
    let mode = table.parse("mode", mode);
    table.not_yet(&["bind", "image", "secret"]);

    let kinds = ["volume", "tmpfs", "status", "bind", "image", "secret"];
    let given: Vec<&str> = kinds
        .into_iter()
        .filter(|key| table.key_span(key).is_some())
        .collect();
    if given.len() != 1 {
        table.wrong_here(format!(
            "{} needs exactly one of volume = NAME, tmpfs = PATH and status = true",
            table.name()
        ));
    }
    if given == ["tmpfs"] {
        refuse(
            &mut table,
            "target",
            "a tmpfs names its target itself: tmpfs = PATH",
        );
        refuse(
            &mut table,
            "read_only",
            "a tmpfs that cannot be written is of no use",
        );
    } else if given.len() == 1 {
        refuse(&mut table, "size", "only a tmpfs has a size");
        refuse(&mut table, "mode", "only a tmpfs has a mode");
        if table.key_span("target").is_none() {
            table.wrong_here(format!("{} needs target = PATH", table.name()));
        }
    }
    table.finish();

    let (source, target) = if let Some(volume) = volume {
        (MountSource::Volume(volume.value), target?.value)
    } else if let Some(tmpfs) = tmpfs {
        let source = MountSource::Tmpfs {
            size: size.map_or(DEFAULT_TMPFS_BYTES, |size| size.value),
            mode: mode.map_or(0o1777, |mode| mode.value),
        };
        (source, tmpfs.value)
    } else {
        status?;
        (MountSource::Status, target?.value)
    };
    Some(MountConfig {
        read_only: read_only || source == MountSource::Status,
        source,
        target,
        place,
    })
}

fn refuse(table: &mut Table<'_>, key: &str, why: &str) {
    if let Some(at) = table.key_span(key) {
        table.wrong(&at, format!("{key}: {why}"));
    }
}

fn volume_name(text: &str) -> Result<String, String> {
    let fits = (1..=63).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'));
    fits.then(|| text.to_owned()).ok_or_else(|| {
        format!("expected a volume's name of a-z, 0-9, '-', '_' and '.', found {text:?}")
    })
}

/// A path inside a container: absolute, not the root, without `.`, `..` and empty parts.
pub(super) fn target_path(text: &str) -> Result<String, String> {
    let trimmed = text.strip_suffix('/').unwrap_or(text);
    let fits = trimmed.len() < 4096
        && trimmed.strip_prefix('/').is_some_and(|rest| {
            rest.split('/')
                .all(|part| !part.is_empty() && part != "." && part != ".." && part.len() <= 255)
        })
        && !trimmed.contains('\0');
    fits.then(|| trimmed.to_owned()).ok_or_else(|| {
        format!("expected an absolute path below / without '.' and '..', found {text:?}")
    })
}

fn mode(text: &str) -> Result<u16, String> {
    u16::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| format!("expected permissions like \"0755\", found {text:?}"))
}

/// A list of paths below `/dev`.
pub(super) fn devices(container: &mut Table<'_>) -> Vec<String> {
    let list = container.list(
        "devices",
        "a list of devices, like [\"/dev/kvm\"]",
        |value| {
            let text = string(value)?;
            let path = target_path(&text)?;
            if path.starts_with("/dev/") {
                Ok(path)
            } else {
                Err(format!("expected a path below /dev, found {text:?}"))
            }
        },
    );
    list.unwrap_or_default()
        .into_iter()
        .map(|device| device.value)
        .collect()
}
