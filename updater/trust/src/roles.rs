//! What the four roles say, read from their signed parts (specification, 4.3 to 4.6). Fields that
//! are not in the specification are ignored here; the signature covers them.

use crate::delegation::Delegation;
use crate::error::Malformed;
use crate::json::{Map, Value};
use crate::target::{Hashes, Target};
use crate::time::Time;
use crate::verify::{Authority, Keys};

/// A role's signed part.
pub(crate) trait Metadata: Sized {
    /// `_type`
    const TYPE: &'static str;

    fn read(signed: Map) -> Result<Self, Malformed>;
}

/// Keys and thresholds of the four roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// Its version.
    pub version: u64,
    /// When it expires.
    pub expires: Time,
    /// Whether files' names carry their version or hash.
    pub consistent_snapshot: bool,
    /// Who signs the next root.
    pub root: Authority,
    /// Who signs the timestamp.
    pub timestamp: Authority,
    /// Who signs the snapshot.
    pub snapshot: Authority,
    /// Who signs the targets.
    pub targets: Authority,
}

/// Which snapshot is current.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timestamp {
    /// Its version.
    pub version: u64,
    /// When it expires.
    pub expires: Time,
    /// The current snapshot.
    pub snapshot: FileMeta,
}

/// Which version of each targets role is current.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its version.
    pub version: u64,
    /// When it expires.
    pub expires: Time,
    /// The roles' files, sorted by name.
    files: Vec<(String, FileMeta)>,
}

/// What the files are that clients may use, and who else may say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    /// Its version.
    pub version: u64,
    /// When it expires.
    pub expires: Time,
    /// Sorted by path.
    targets: Vec<Target>,
    /// In the order in which they are asked.
    pub delegations: Vec<Delegation>,
}

/// A version of a metadata file, and what it weighs if the repository says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMeta {
    /// The version.
    pub version: u64,
    /// Its length, bytes.
    pub length: Option<u64>,
    /// Its hashes.
    pub(crate) hashes: Option<Hashes>,
}

impl FileMeta {
    /// Whether `bytes` have the length and the hashes that are announced, if any are.
    #[must_use]
    pub fn fits(&self, bytes: &[u8]) -> bool {
        self.length
            .is_none_or(|length| length == bytes.len() as u64)
            && self.hashes.as_ref().is_none_or(|hashes| hashes.fit(bytes))
    }

    /// What describes `bytes`.
    #[cfg(feature = "write")]
    pub(crate) fn of(version: u64, bytes: &[u8]) -> Self {
        Self {
            version,
            length: Some(bytes.len() as u64),
            hashes: Some(Hashes::of(bytes)),
        }
    }

    /// As metadata has it.
    #[cfg(feature = "write")]
    pub(crate) fn value(&self) -> Value {
        let number = |number: u64| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
        let mut map = Map::from([("version", number(self.version))]);
        if let Some(length) = self.length {
            map.set("length", number(length));
        }
        if let Some(hashes) = &self.hashes {
            map.set("hashes", hashes.value());
        }
        Value::Map(map)
    }

    fn read(value: &Value) -> Result<Self, Malformed> {
        let map = value.as_map().ok_or(wrong("meta", "a map of maps"))?;
        Ok(Self {
            version: positive(map, "version")?,
            length: map
                .get("length")
                .map(|length| natural(length, "length"))
                .transpose()?,
            hashes: map.get("hashes").map(Hashes::read).transpose()?,
        })
    }
}

impl Snapshot {
    /// What it says of the file `name`, like `targets.json`.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&FileMeta> {
        let place = self
            .files
            .binary_search_by(|(file, _)| file.as_str().cmp(name));
        place
            .ok()
            .and_then(|at| self.files.get(at))
            .map(|(_, meta)| meta)
    }

    /// All files, sorted by name.
    pub fn files(&self) -> impl Iterator<Item = (&str, &FileMeta)> {
        self.files.iter().map(|(name, meta)| (name.as_str(), meta))
    }
}

impl Targets {
    /// The target at `path`, if this role lists it itself.
    #[must_use]
    pub fn target(&self, path: &str) -> Option<&Target> {
        let place = self
            .targets
            .binary_search_by(|target| target.path().cmp(path));
        place.ok().and_then(|at| self.targets.get(at))
    }

    /// The targets that this role lists itself, sorted by path.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.targets.iter()
    }

    /// The delegation to `role`.
    #[must_use]
    pub fn delegation(&self, role: &str) -> Option<&Delegation> {
        self.delegations
            .iter()
            .find(|delegation| delegation.name == role)
    }
}

impl Metadata for Root {
    const TYPE: &'static str = "root";

    fn read(signed: Map) -> Result<Self, Malformed> {
        let (version, expires) = common(&signed, Self::TYPE)?;
        let consistent_snapshot = match signed.get("consistent_snapshot") {
            Some(Value::Bool(consistent)) => *consistent,
            None => false,
            Some(_) => return Err(wrong("consistent_snapshot", "true or false")),
        };
        let keys = Keys::read(map(&signed, "keys")?)?;
        let roles = map(&signed, "roles")?;
        let authority = |role: &'static str| Authority::read(map(roles, role)?, &keys);
        Ok(Self {
            version,
            expires,
            consistent_snapshot,
            root: authority("root")?,
            timestamp: authority("timestamp")?,
            snapshot: authority("snapshot")?,
            targets: authority("targets")?,
        })
    }
}

impl Metadata for Timestamp {
    const TYPE: &'static str = "timestamp";

    fn read(signed: Map) -> Result<Self, Malformed> {
        let (version, expires) = common(&signed, Self::TYPE)?;
        let snapshot = map(&signed, "meta")?.get("snapshot.json");
        let snapshot = snapshot.ok_or(wrong("meta", "a map with snapshot.json"))?;
        Ok(Self {
            version,
            expires,
            snapshot: FileMeta::read(snapshot)?,
        })
    }
}

impl Metadata for Snapshot {
    const TYPE: &'static str = "snapshot";

    fn read(signed: Map) -> Result<Self, Malformed> {
        let (version, expires) = common(&signed, Self::TYPE)?;
        let files = map(&signed, "meta")?.iter();
        let files: Result<_, _> = files
            .map(|(name, value)| Ok((name.to_owned(), FileMeta::read(value)?)))
            .collect();
        Ok(Self {
            version,
            expires,
            files: files?,
        })
    }
}

impl Metadata for Targets {
    const TYPE: &'static str = "targets";

    fn read(mut signed: Map) -> Result<Self, Malformed> {
        let (version, expires) = common(&signed, Self::TYPE)?;
        let Some(Value::Map(targets)) = signed.remove("targets") else {
            return Err(wrong("targets", "a map"));
        };
        let targets: Result<_, _> = targets
            .into_iter()
            .map(|(path, value)| Target::read(path, value))
            .collect();
        Ok(Self {
            version,
            expires,
            targets: targets?,
            delegations: signed
                .get("delegations")
                .map(Delegation::read_all)
                .transpose()?
                .unwrap_or_default(),
        })
    }
}

/// Version and expiry, after the check that the rest can be understood (4.3).
fn common(signed: &Map, kind: &'static str) -> Result<(u64, Time), Malformed> {
    if signed.get("_type").and_then(Value::as_text) != Some(kind) {
        return Err(wrong("_type", "that of the role"));
    }
    let specification = signed.get("spec_version").and_then(Value::as_text);
    if !specification.is_some_and(|version| version == "1" || version.starts_with("1.")) {
        return Err(wrong("spec_version", "1 or 1.something"));
    }
    let expires = signed.get("expires").and_then(Value::as_text);
    let expires = expires.and_then(Time::parse);
    Ok((
        positive(signed, "version")?,
        expires.ok_or(wrong("expires", "a time like 2030-12-31T23:59:59Z"))?,
    ))
}

pub(crate) fn wrong(field: &'static str, expected: &'static str) -> Malformed {
    Malformed { field, expected }
}

pub(crate) fn map<'a>(map: &'a Map, field: &'static str) -> Result<&'a Map, Malformed> {
    let value = map.get(field).and_then(Value::as_map);
    value.ok_or(wrong(field, "a map"))
}

pub(crate) fn natural(value: &Value, field: &'static str) -> Result<u64, Malformed> {
    let number = value.as_int().and_then(|number| u64::try_from(number).ok());
    number.ok_or(wrong(field, "a number of 0 or more"))
}

fn positive(map: &Map, field: &'static str) -> Result<u64, Malformed> {
    let number = map.get(field).map(|value| natural(value, field));
    match number {
        Some(Ok(number)) if number > 0 => Ok(number),
        _ => Err(wrong(field, "a number above 0")),
    }
}
