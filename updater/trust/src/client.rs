//! One check for updates, from the root to a target: which file is asked for when, and what is
//! kept when. The decisions are those of [`crate::workflow`].

use std::fmt;

use crate::encoding::percent;
use crate::error::Error;
use crate::limits::Limits;
use crate::roles::Targets;
use crate::target::Target;
use crate::time::Clock;
use crate::verify::Verified;
use crate::workflow::{Freshness, Ready, Roots, Rotation, Snapshots, Timestamps, Wanted};

/// Where verified metadata is kept, as the bytes that came.
///
/// A role's file is asked for before the network is. Losing one is safe but costs the protection
/// against rollback that it gave, so [`Store::save`] has to replace it durably. Errors are the
/// reason in a few words.
pub trait Store {
    /// The bytes of `entry`; `None` when they are not there.
    ///
    /// # Errors
    ///
    /// When they are there and cannot be read.
    fn load(&mut self, entry: &Entry) -> Result<Option<Vec<u8>>, String>;

    /// Replaces the bytes of `entry`, which may not be there yet.
    ///
    /// # Errors
    ///
    /// When the old bytes may still be there, or come back.
    fn save(&mut self, entry: &Entry, bytes: &[u8]) -> Result<(), String>;

    /// Forgets `entry`, which may not be there.
    ///
    /// # Errors
    ///
    /// When it may still be there.
    fn remove(&mut self, entry: &Entry) -> Result<(), String>;
}

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entry {
    /// The root with this version. All are kept: the way from the image's root to the newest one
    /// is walked again at each check, so that nobody who can only write to the disk is trusted.
    Root(u64),
    /// The newest file of another role.
    Role(String),
}

impl Entry {
    /// A name for its file, without a slash: `3.root.json`, `timestamp.json`.
    #[must_use]
    pub fn file_name(&self) -> String {
        match self {
            Self::Root(version) => file_name("root", Some(*version)),
            Self::Role(role) => file_name(role, None),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file_name())
    }
}

/// Where new metadata comes from.
pub trait Transport {
    /// The file `name`, relative to the metadata's address and encoded for a URL; `None` when the
    /// repository does not have it. It reads no more than `max_bytes` and one byte.
    ///
    /// # Errors
    ///
    /// When it could not be found out, or the answer was too long or too slow.
    fn fetch(&mut self, name: &str, max_bytes: u64) -> Result<Option<Vec<u8>>, FetchError>;
}

impl<F: FnMut(&str, u64) -> Result<Option<Vec<u8>>, FetchError>> Transport for F {
    fn fetch(&mut self, name: &str, max_bytes: u64) -> Result<Option<Vec<u8>>, FetchError> {
        self(name, max_bytes)
    }
}

/// Why a file could not be fetched, in a few words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FetchError(pub String);

/// A client that has refreshed its metadata and finds targets in it. It is good for one check:
/// the present is fixed when it is made.
pub struct Client<'a> {
    ready: Ready,
    targets: Verified<Targets>,
    /// Roles that one delegator vouched for.
    delegated: Vec<Delegated>,
    files: Files<'a>,
    most_roles: usize,
}

struct Delegated {
    delegator: String,
    role: String,
    targets: Verified<Targets>,
}

impl<'a> Client<'a> {
    /// Updates root, timestamp, snapshot and targets, in this order, starting from a root that
    /// the caller trusts. Every file is kept as soon as it is verified, also when a later one
    /// fails.
    ///
    /// # Errors
    ///
    /// When a file is missing or not to be trusted; what was kept stays good.
    pub fn refresh(
        trusted_root: &[u8],
        store: &'a mut dyn Store,
        transport: &'a mut dyn Transport,
        clock: Clock,
        limits: Limits,
    ) -> Result<Self, Error> {
        let mut files = Files { store, transport };
        let (root_bytes, rotations) = (limits.root_bytes, limits.root_rotations);
        let (timestamp_bytes, most_roles) = (limits.timestamp_bytes, limits.delegations);
        let mut roots = Roots::new(trusted_root, clock, limits)?;
        for _ in 0..rotations {
            if !files.next_root(&mut roots, root_bytes)? {
                break;
            }
        }
        let timestamps = files.timestamp(roots.finish()?, timestamp_bytes)?;
        let ready = files.snapshot(timestamps.finish()?)?.finish()?;
        let read = |bytes: &[u8]| ready.targets(bytes);
        let targets = files.role("targets", &ready, &read)?;
        Ok(Self {
            ready,
            targets,
            delegated: Vec::new(),
            files,
            most_roles,
        })
    }

    /// The trusted metadata.
    #[must_use]
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// The targets that the top-level role lists itself, sorted by path.
    pub fn targets(&self) -> impl Iterator<Item = Target> {
        let hash_in_name = self.ready.consistent_snapshot();
        let targets = self.targets.targets();
        targets.map(move |target| target.clone().named_by_hash(hash_in_name))
    }

    /// Finds a target: in the targets role, else in the roles that it delegates the path to, depth
    /// first and in the order of the delegations (specification, 5.6.7).
    ///
    /// # Errors
    ///
    /// When no role that may speak for the path lists it, or one on the way is not to be trusted.
    pub fn target(&mut self, path: &str) -> Result<Target, Error> {
        let hash_in_name = self.ready.consistent_snapshot();
        if let Some(target) = self.targets.target(path) {
            return Ok(target.clone().named_by_hash(hash_in_name));
        }
        let mut visited: Vec<String> = Vec::new();
        let mut waiting = Vec::new();
        push_delegations(&mut waiting, "targets", &self.targets, path);
        while let Some((delegator, delegation)) = waiting.pop() {
            if visited.contains(&delegation.name) {
                continue;
            }
            if visited.len() >= self.most_roles {
                return Err(Error::TooManyDelegations {
                    path: path.to_owned(),
                    visited: visited.len(),
                });
            }
            let targets = self.delegated(&delegator, &delegation)?;
            if let Some(target) = targets.target(path) {
                return Ok(target.clone().named_by_hash(hash_in_name));
            }
            push_delegations(&mut waiting, &delegation.name, targets, path);
            visited.push(delegation.name);
        }
        Err(Error::NoSuchTarget {
            path: path.to_owned(),
        })
    }

    /// A role on the word of `delegator`, read once for each pair of them.
    fn delegated(
        &mut self,
        delegator: &str,
        delegation: &crate::Delegation,
    ) -> Result<&Targets, Error> {
        let known =
            |known: &Delegated| known.delegator == delegator && known.role == delegation.name;
        let at = match self.delegated.iter().position(known) {
            Some(at) => at,
            None => {
                let ready = &self.ready;
                let read = |bytes: &[u8]| ready.delegated(delegation, bytes);
                let targets = self.files.role(&delegation.name, ready, &read)?;
                if self.delegated.len() >= self.most_roles {
                    self.delegated.clear();
                }
                self.delegated.push(Delegated {
                    delegator: delegator.to_owned(),
                    role: delegation.name.clone(),
                    targets,
                });
                self.delegated.len().saturating_sub(1)
            }
        };
        let found = self.delegated.get(at).map(|known| &*known.targets);
        found.ok_or_else(|| Error::NotInSnapshot {
            role: delegation.name.clone(),
        })
    }
}

/// Puts the delegations for `path` on the stack, the first one on top. A terminating one makes an
/// end of all others.
fn push_delegations(
    waiting: &mut Vec<(String, crate::Delegation)>,
    delegator: &str,
    targets: &Targets,
    path: &str,
) {
    let mut next = Vec::new();
    for delegation in &targets.delegations {
        if !delegation.covers(path) {
            continue;
        }
        next.push((delegator.to_owned(), delegation.clone()));
        if delegation.terminating {
            waiting.clear();
            break;
        }
    }
    waiting.extend(next.into_iter().rev());
}

/// Verifies a targets role's bytes.
type ReadTargets<'r> = dyn Fn(&[u8]) -> Result<Verified<Targets>, Error> + 'r;

/// The two places that files come from.
struct Files<'a> {
    store: &'a mut dyn Store,
    transport: &'a mut dyn Transport,
}

impl Files<'_> {
    /// Goes one root on; `false` when there is no newer one.
    fn next_root(&mut self, roots: &mut Roots, max_bytes: u64) -> Result<bool, Error> {
        let version = roots.root().version.saturating_add(1);
        let entry = Entry::Root(version);
        let kept = self.load(&entry)?;
        if kept.is_some_and(|bytes| roots.update(&bytes).is_ok()) {
            return Ok(true);
        }
        let name = file_name("root", Some(version));
        let Some(bytes) = self.fetch(&name, max_bytes)? else {
            return Ok(false);
        };
        // Before the root itself is kept: a cut in between must not leave the old files in place.
        if roots.update(&bytes)? == Rotation::Forget {
            self.remove(&Entry::Role("timestamp".to_owned()))?;
            self.remove(&Entry::Role("snapshot".to_owned()))?;
        }
        self.save(&entry, &bytes)?;
        Ok(true)
    }

    fn timestamp(
        &mut self,
        mut timestamps: Timestamps,
        max_bytes: u64,
    ) -> Result<Timestamps, Error> {
        let entry = Entry::Role("timestamp".to_owned());
        if let Some(bytes) = self.load(&entry)? {
            // One that is not good any more is as if it were not there.
            let _ = timestamps.recall(&bytes);
        }
        let bytes = self.must_fetch("timestamp", None, max_bytes)?;
        if timestamps.update(&bytes)? == Freshness::New {
            self.save(&entry, &bytes)?;
        }
        Ok(timestamps)
    }

    fn snapshot(&mut self, mut snapshots: Snapshots) -> Result<Snapshots, Error> {
        let entry = Entry::Role("snapshot".to_owned());
        let kept = self.load(&entry)?;
        if kept.is_some_and(|bytes| snapshots.recall(&bytes) == Ok(true)) {
            return Ok(snapshots);
        }
        let Wanted { version, max_bytes } = snapshots.wanted()?;
        let bytes = self.must_fetch("snapshot", version, max_bytes)?;
        snapshots.update(&bytes)?;
        self.save(&entry, &bytes)?;
        Ok(snapshots)
    }

    /// A targets role: the kept file if it is still the current one, else the repository's.
    fn role(
        &mut self,
        role: &str,
        ready: &Ready,
        read: &ReadTargets<'_>,
    ) -> Result<Verified<Targets>, Error> {
        let Wanted { version, max_bytes } = ready.wanted(role)?;
        let entry = Entry::Role(role.to_owned());
        if let Some(Ok(targets)) = self.load(&entry)?.map(|bytes| read(&bytes)) {
            return Ok(targets);
        }
        let bytes = self.must_fetch(role, version, max_bytes)?;
        let targets = read(&bytes)?;
        self.save(&entry, &bytes)?;
        Ok(targets)
    }

    fn must_fetch(
        &mut self,
        role: &str,
        version: Option<u64>,
        max_bytes: u64,
    ) -> Result<Vec<u8>, Error> {
        let name = file_name(role, version);
        let bytes = self.fetch(&name, max_bytes)?;
        bytes.ok_or(Error::Missing { name })
    }

    fn fetch(&mut self, name: &str, max_bytes: u64) -> Result<Option<Vec<u8>>, Error> {
        let fetched = self.transport.fetch(name, max_bytes);
        let bytes = fetched.map_err(|FetchError(reason)| Error::Fetch {
            name: name.to_owned(),
            reason,
        })?;
        match bytes {
            Some(bytes) if bytes.len() as u64 > max_bytes => Err(Error::TooLong {
                name: name.to_owned(),
                limit: max_bytes,
            }),
            bytes => Ok(bytes),
        }
    }

    fn load(&mut self, entry: &Entry) -> Result<Option<Vec<u8>>, Error> {
        let loaded = self.store.load(entry);
        loaded.map_err(|reason| unkept(entry, reason))
    }

    fn save(&mut self, entry: &Entry, bytes: &[u8]) -> Result<(), Error> {
        let saved = self.store.save(entry, bytes);
        saved.map_err(|reason| unkept(entry, reason))
    }

    fn remove(&mut self, entry: &Entry) -> Result<(), Error> {
        let removed = self.store.remove(entry);
        removed.map_err(|reason| unkept(entry, reason))
    }
}

fn unkept(entry: &Entry, reason: String) -> Error {
    Error::Store {
        name: entry.file_name(),
        reason,
    }
}

fn file_name(role: &str, version: Option<u64>) -> String {
    let role = percent(role);
    match version {
        Some(version) => format!("{version}.{role}.json"),
        None => format!("{role}.json"),
    }
}
