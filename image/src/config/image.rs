//! The `[image]` section: what is built.

use super::table::{Table, string};

/// The name of an image that says none.
const DEFAULT_NAME: &str = "berth";

/// Which hardware the kernel is built for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// virtio only.
    Micro,
    /// All hypervisors and clouds.
    #[default]
    Cloud,
    /// Common servers as well.
    Metal,
}

impl Profile {
    /// Its name in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Micro => "micro",
            Self::Cloud => "cloud",
            Self::Metal => "metal",
        }
    }
}

/// A disk image's file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskFormat {
    /// The disk's bytes.
    Raw,
    /// QEMU's.
    Qcow2,
}

/// What `[image]` says.
#[derive(Clone, Debug)]
pub struct ImageSection {
    /// The image's name.
    pub name: String,
    /// The image's version.
    pub version: String,
    /// Raised by a version that must never be followed by an older one.
    pub security_version: u64,
    /// Which hardware the kernel is for.
    pub profile: Profile,
    /// Disk formats, sorted, at least one.
    pub formats: Vec<DiskFormat>,
    /// Kernel version, when not the tool's default.
    pub kernel: Option<super::Located<String>>,
}

impl Default for ImageSection {
    fn default() -> Self {
        Self {
            name: DEFAULT_NAME.to_owned(),
            version: "0".to_owned(),
            security_version: 0,
            profile: Profile::default(),
            formats: vec![DiskFormat::Raw, DiskFormat::Qcow2],
            kernel: None,
        }
    }
}

pub(super) fn read(top: &mut Table<'_>) -> ImageSection {
    let mut image = ImageSection::default();
    let Some(mut table) = top.table("image") else {
        if top.key_span("image").is_none() {
            top.wrong_here("an image needs a section [image] with name and version");
        }
        return image;
    };
    match table.parse("name", check_name) {
        Some(name) => image.name = name.value,
        None => missing(&table, "name", "name = \"edge\""),
    }
    match table.parse("version", check_version) {
        Some(version) => image.version = version.value,
        None => missing(&table, "version", "version = \"1.0.0\""),
    }
    image.security_version = super::update::security_version(&mut table);
    if let Some(profile) = table.parse("profile", profile) {
        image.profile = profile.value;
    }
    let formats = table.list(
        "formats",
        "a list of formats, like [\"raw\", \"qcow2\"]",
        |value| format(&string(value)?),
    );
    if let Some(formats) = formats {
        image.formats = formats.into_iter().map(|format| format.value).collect();
        image.formats.sort();
        image.formats.dedup();
    }
    image.kernel = table.parse("kernel", check_kernel);
    table.finish();
    image
}

fn missing(table: &Table<'_>, key: &str, example: &str) {
    if table.key_span(key).is_none() {
        table.wrong_here(format!("[image] needs {key}, like {example}"));
    }
}

fn check_name(text: &str) -> Result<String, String> {
    let fits = (1..=63).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'));
    fits.then(|| text.to_owned()).ok_or_else(|| {
        format!(
            "expected at most 63 of a-z, 0-9, '-', '_' and '.', starting with a letter or digit, \
             found {text:?}"
        )
    })
}

fn check_version(text: &str) -> Result<String, String> {
    let fits = (1..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'+'));
    fits.then(|| text.to_owned()).ok_or_else(|| {
        format!(
            "expected at most 64 letters, digits, '.', '-', '_' and '+', like \"1.4.0\", found \
             {text:?}"
        )
    })
}

fn check_kernel(text: &str) -> Result<String, String> {
    let known: Vec<&str> = berth_kernel_config::versions()
        .iter()
        .map(|source| source.version.as_str())
        .collect();
    if known.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "expected a kernel version that berth knows ({}), found {text:?}",
        known.join(", ")
    ))
}

fn profile(text: &str) -> Result<Profile, String> {
    match text {
        "micro" => Ok(Profile::Micro),
        "cloud" => Ok(Profile::Cloud),
        "metal" => Ok(Profile::Metal),
        _ => Err(format!(
            "expected \"micro\", \"cloud\" or \"metal\", found {text:?}"
        )),
    }
}

fn format(text: &str) -> Result<DiskFormat, String> {
    match text {
        "raw" => Ok(DiskFormat::Raw),
        "qcow2" => Ok(DiskFormat::Qcow2),
        "vhd" | "vmdk" | "ova" | "gce" | "iso" | "pxe" | "vagrant" => {
            Err(format!("the format {text:?} is not supported yet"))
        }
        _ => Err(format!("expected \"raw\" or \"qcow2\", found {text:?}")),
    }
}
