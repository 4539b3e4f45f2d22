//! The client workflow as a chain of stages: [`Roots`], [`Timestamps`], [`Snapshots`], [`Ready`].
//!
//! Each takes bytes and decides; the numbers in the comments are sections of the TUF
//! specification 1.0. A stage is left only through `finish`, which makes the next one, so nothing
//! is ever judged by metadata that has not been judged itself.

use crate::delegation::Delegation;
use crate::error::Error;
use crate::limits::Limits;
use crate::roles::{FileMeta, Metadata, Root, Snapshot, Targets, Timestamp};
use crate::time::{Clock, Time};
use crate::verify::{Authority, Verified, verify, verify_root};

/// Stage 5.3: which keys are trusted.
#[derive(Debug)]
pub struct Roots {
    root: Verified<Root>,
    clock: Clock,
    limits: Limits,
}

/// What a new root changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// Timestamp and snapshot keep their keys.
    None,
    /// One of them lost a key: the trusted timestamp and snapshot are to be forgotten, so that a
    /// thief of that key who published high versions cannot block the honest ones (5.3.11).
    Forget,
}

/// Stage 5.4: which snapshot is current.
#[derive(Debug)]
pub struct Timestamps {
    root: Verified<Root>,
    timestamp: Option<Verified<Timestamp>>,
    /// Whether the repository has been heard.
    heard: bool,
    clock: Clock,
    limits: Limits,
}

/// What a fetched timestamp is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Newer than the trusted one, and trusted now.
    New,
    /// The version that is trusted already; the trusted one stays (5.4.3.1).
    Known,
}

/// Stage 5.5: which version of each role is current.
#[derive(Debug)]
pub struct Snapshots {
    root: Verified<Root>,
    timestamp: Verified<Timestamp>,
    snapshot: Option<Verified<Snapshot>>,
    /// Whether it is the one that the timestamp names.
    is_current: bool,
    clock: Clock,
    limits: Limits,
}

/// Stages 5.6 and 5.7: the targets role, and the roles that it delegates to.
#[derive(Debug)]
pub struct Ready {
    root: Verified<Root>,
    snapshot: Verified<Snapshot>,
    clock: Clock,
    limits: Limits,
}

/// A file to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its version, if the repository puts versions into files' names.
    pub version: Option<u64>,
    /// The most bytes it may have.
    pub max_bytes: u64,
}

impl Roots {
    /// Starts from a root that the caller trusts (5.2); it may have expired.
    ///
    /// # Errors
    ///
    /// When it is damaged or not signed by itself.
    pub fn new(trusted: &[u8], clock: Clock, limits: Limits) -> Result<Self, Error> {
        Ok(Self {
            root: verify_root(trusted, None, &limits)?,
            clock,
            limits,
        })
    }

    /// The root that is trusted now.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Takes the root with the next version. It may have expired: only the last one counts.
    ///
    /// # Errors
    ///
    /// When it is not the next version or not signed by both the old and the new keys.
    pub fn update(&mut self, bytes: &[u8]) -> Result<Rotation, Error> {
        // 5.3.4: signed by a threshold of the old root's keys and of its own.
        let root = verify_root(bytes, Some(&self.root), &self.limits)?;
        // 5.3.5: exactly one version on.
        let expected = self.root.version.saturating_add(1);
        if root.version != expected {
            return Err(wrong_version(Root::TYPE, expected, root.version));
        }
        let lost = self.root.timestamp.lost_a_key_in(&root.timestamp)
            || self.root.snapshot.lost_a_key_in(&root.snapshot);
        self.root = root;
        Ok(if lost {
            Rotation::Forget
        } else {
            Rotation::None
        })
    }

    /// Takes the root for the last one.
    ///
    /// # Errors
    ///
    /// When it has expired (5.3.10).
    pub fn finish(self) -> Result<Timestamps, Error> {
        current(Root::TYPE, self.root.expires, self.clock)?;
        Ok(Timestamps {
            root: self.root,
            timestamp: None,
            heard: false,
            clock: self.clock,
            limits: self.limits,
        })
    }
}

impl Timestamps {
    /// Takes the timestamp that was trusted before. It may have expired: it only says which
    /// versions must not be undercut.
    ///
    /// # Errors
    ///
    /// When today's keys did not sign it; it is then as if it were not there.
    pub fn recall(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let authority = &self.root.timestamp;
        self.timestamp = Some(verify(Timestamp::TYPE, bytes, authority, &self.limits)?);
        Ok(())
    }

    /// Takes the repository's timestamp.
    ///
    /// # Errors
    ///
    /// When it is not signed, older than the trusted one, names an older snapshot, or has expired.
    pub fn update(&mut self, bytes: &[u8]) -> Result<Freshness, Error> {
        // 5.4.2: signatures.
        let authority = &self.root.timestamp;
        let new: Verified<Timestamp> = verify(Timestamp::TYPE, bytes, authority, &self.limits)?;
        if let Some(trusted) = &self.timestamp {
            // 5.4.3.1: no rollback of the timestamp.
            not_older(Timestamp::TYPE, trusted.version, new.version)?;
            if new.version == trusted.version {
                self.heard = true;
                return Ok(Freshness::Known);
            }
            // 5.4.3.2: no rollback of the snapshot.
            not_older(
                Snapshot::TYPE,
                trusted.snapshot.version,
                new.snapshot.version,
            )?;
        }
        // 5.4.4: no freeze.
        current(Timestamp::TYPE, new.expires, self.clock)?;
        self.timestamp = Some(new);
        self.heard = true;
        Ok(Freshness::New)
    }

    /// Takes the timestamp for the current one.
    ///
    /// # Errors
    ///
    /// When the repository has shown none, or the trusted one has expired.
    pub fn finish(self) -> Result<Snapshots, Error> {
        let timestamp = self.timestamp.filter(|_| self.heard);
        let timestamp = timestamp.ok_or_else(|| Error::Missing {
            name: "timestamp.json".to_owned(),
        })?;
        current(Timestamp::TYPE, timestamp.expires, self.clock)?;
        Ok(Snapshots {
            root: self.root,
            timestamp,
            snapshot: None,
            is_current: false,
            clock: self.clock,
            limits: self.limits,
        })
    }
}

impl Snapshots {
    /// Takes the snapshot that was trusted before, and says whether it is still the current one.
    ///
    /// # Errors
    ///
    /// When today's keys did not sign it; it is then as if it were not there.
    pub fn recall(&mut self, bytes: &[u8]) -> Result<bool, Error> {
        let authority = &self.root.snapshot;
        let snapshot: Verified<Snapshot> = verify(Snapshot::TYPE, bytes, authority, &self.limits)?;
        let announced = &self.timestamp.snapshot;
        self.is_current = snapshot.version == announced.version
            && announced.fits(bytes)
            && current(Snapshot::TYPE, snapshot.expires, self.clock).is_ok();
        self.snapshot = Some(snapshot);
        Ok(self.is_current)
    }

    /// The snapshot to fetch (5.5.1).
    ///
    /// # Errors
    ///
    /// When it is announced with a length beyond the cap.
    pub fn wanted(&self) -> Result<Wanted, Error> {
        wanted(
            Snapshot::TYPE,
            &self.timestamp.snapshot,
            &self.root,
            self.limits.snapshot_bytes,
        )
    }

    /// Takes the repository's snapshot.
    ///
    /// # Errors
    ///
    /// When it is not the announced one, not signed, takes a role back to an older version or
    /// away, or has expired.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), Error> {
        // 5.5.2: length and hashes, before anything is read.
        announced(Snapshot::TYPE, &self.timestamp.snapshot, bytes)?;
        // 5.5.3: signatures.
        let authority = &self.root.snapshot;
        let new: Verified<Snapshot> = verify(Snapshot::TYPE, bytes, authority, &self.limits)?;
        // 5.5.4: the version that the timestamp names.
        let expected = self.timestamp.snapshot.version;
        if new.version != expected {
            return Err(wrong_version(Snapshot::TYPE, expected, new.version));
        }
        // 5.5.5: no role is rolled back or left out.
        if let Some(trusted) = &self.snapshot {
            for (name, trusted) in trusted.files() {
                let file = new.file(name).ok_or_else(|| Error::Removed {
                    role: name.to_owned(),
                })?;
                not_older(name, trusted.version, file.version)?;
            }
        }
        // 5.5.6: no freeze.
        current(Snapshot::TYPE, new.expires, self.clock)?;
        self.snapshot = Some(new);
        self.is_current = true;
        Ok(())
    }

    /// Takes the snapshot for the current one.
    ///
    /// # Errors
    ///
    /// When it is not the one that the timestamp names.
    pub fn finish(self) -> Result<Ready, Error> {
        let snapshot = self.snapshot.filter(|_| self.is_current);
        let snapshot = snapshot.ok_or_else(|| Error::Missing {
            name: "snapshot.json".to_owned(),
        })?;
        Ok(Ready {
            root: self.root,
            snapshot,
            clock: self.clock,
            limits: self.limits,
        })
    }
}

#[cfg(feature = "write")]
impl Snapshots {
    /// The timestamp that is trusted.
    pub(crate) fn timestamp(&self) -> &Timestamp {
        &self.timestamp
    }
}

#[cfg(feature = "write")]
impl Ready {
    /// The snapshot that is trusted.
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    pub(crate) fn into_snapshot(self) -> Verified<Snapshot> {
        self.snapshot
    }
}

impl Ready {
    /// The file of a targets role to fetch (5.6.1).
    ///
    /// # Errors
    ///
    /// When the snapshot does not list it, or lists it with a length beyond the cap.
    pub fn wanted(&self, role: &str) -> Result<Wanted, Error> {
        wanted(
            role,
            self.file_of(role)?,
            &self.root,
            self.limits.targets_bytes,
        )
    }

    /// Reads the targets role.
    ///
    /// # Errors
    ///
    /// When it is not the one in the snapshot, not signed, or has expired.
    pub fn targets(&self, bytes: &[u8]) -> Result<Verified<Targets>, Error> {
        self.role(Targets::TYPE, &self.root.targets, bytes)
    }

    /// Reads a role on the word of the one that delegates to it. The same file may be good for
    /// one delegation and not for another, so it is judged anew for each.
    ///
    /// # Errors
    ///
    /// When it is not the one in the snapshot, not signed, or has expired.
    pub fn delegated(
        &self,
        delegation: &Delegation,
        bytes: &[u8],
    ) -> Result<Verified<Targets>, Error> {
        self.role(&delegation.name, &delegation.authority, bytes)
    }

    /// Whether targets' names carry their hash.
    #[must_use]
    pub fn consistent_snapshot(&self) -> bool {
        self.root.consistent_snapshot
    }

    /// The root that is trusted.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root
    }

    fn file_of(&self, role: &str) -> Result<&FileMeta, Error> {
        let file = self.snapshot.file(&format!("{role}.json"));
        file.ok_or_else(|| Error::NotInSnapshot {
            role: role.to_owned(),
        })
    }

    fn role(
        &self,
        role: &str,
        authority: &Authority,
        bytes: &[u8],
    ) -> Result<Verified<Targets>, Error> {
        let file = self.file_of(role)?;
        // 5.6.2: length and hashes, before anything is read.
        announced(role, file, bytes)?;
        // 5.6.3: signatures.
        let targets: Verified<Targets> = verify(role, bytes, authority, &self.limits)?;
        // 5.6.4: the version that the snapshot names.
        if targets.version != file.version {
            return Err(wrong_version(role, file.version, targets.version));
        }
        // 5.6.5: no freeze.
        current(role, targets.expires, self.clock)?;
        Ok(targets)
    }
}

fn wanted(role: &str, file: &FileMeta, root: &Root, cap: u64) -> Result<Wanted, Error> {
    let max_bytes = file.length.unwrap_or(cap);
    if max_bytes > cap {
        return Err(Error::TooLong {
            name: format!("{role}.json"),
            limit: cap,
        });
    }
    Ok(Wanted {
        version: root.consistent_snapshot.then_some(file.version),
        max_bytes,
    })
}

fn announced(role: &str, file: &FileMeta, bytes: &[u8]) -> Result<(), Error> {
    file.fits(bytes)
        .then_some(())
        .ok_or_else(|| Error::WrongContent {
            role: role.to_owned(),
        })
}

fn not_older(role: &str, trusted: u64, offered: u64) -> Result<(), Error> {
    (offered >= trusted)
        .then_some(())
        .ok_or_else(|| Error::Rollback {
            role: role.to_owned(),
            trusted,
            offered,
        })
}

fn current(role: &str, expires: Time, clock: Clock) -> Result<(), Error> {
    (expires > clock.now())
        .then_some(())
        .ok_or_else(|| Error::Expired {
            role: role.to_owned(),
            expires,
            now: clock.now(),
        })
}

fn wrong_version(role: &str, expected: u64, found: u64) -> Error {
    Error::WrongVersion {
        role: role.to_owned(),
        expected,
        found,
    }
}
