//! From bytes to verified metadata. [`Verified`] is made here and nowhere else.
//!
//! Specification, 4.2 (the file format) and 5.3.4, 5.4.2, 5.5.3, 5.6.3 (signatures).

use std::ops::Deref;
use std::sync::Arc;

use crate::encoding::from_hex;
use crate::error::{Error, Malformed};
use crate::json::{Map, Value};
use crate::keys::PublicKey;
use crate::limits::{KEYS_PER_ROLE, Limits};
use crate::roles::{Metadata, Root};

/// Metadata that enough of the role's keys have signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// The public keys that a file lists, by identifier.
pub(crate) struct Keys(Vec<(String, Arc<PublicKey>)>);

impl Keys {
    pub(crate) fn read(keys: &Map) -> Result<Self, Malformed> {
        let keys = keys.iter();
        let keys = keys.map(|(keyid, key)| Ok((keyid.to_owned(), Arc::new(PublicKey::read(key)?))));
        keys.collect::<Result<_, _>>().map(Self)
    }

    fn get(&self, keyid: &str) -> Option<&Arc<PublicKey>> {
        let place = self
            .0
            .binary_search_by(|(known, _)| known.as_str().cmp(keyid));
        place.ok().and_then(|at| self.0.get(at)).map(|(_, key)| key)
    }
}

/// Who may sign for a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The keys and their identifiers; none is there twice, neither by identifier nor by content.
    keys: Vec<(String, Arc<PublicKey>)>,
    /// Identifiers without a key, or with one that an identifier before them has as well.
    without_key: Vec<String>,
    threshold: u32,
}

impl Authority {
    /// Reads `keyids` and `threshold` of a role, whose keys are among `keys`.
    pub(crate) fn read(role: &Map, keys: &Keys) -> Result<Self, Malformed> {
        let wrong = |field, expected| Malformed { field, expected };
        let keyids = role.get("keyids").and_then(Value::as_list);
        let threshold = role.get("threshold").and_then(Value::as_int);
        let mut authority = Self {
            keys: Vec::new(),
            without_key: Vec::new(),
            threshold: threshold
                .and_then(|number| u32::try_from(number).ok())
                .filter(|&number| number > 0)
                .ok_or(wrong("threshold", "a number above 0"))?,
        };
        let keyids = keyids.filter(|keyids| keyids.len() <= KEYS_PER_ROLE);
        for keyid in keyids.ok_or(wrong("keyids", "a list of at most 256 names"))? {
            let keyid = keyid
                .as_text()
                .ok_or(wrong("keyids", "a list of strings"))?;
            if authority.knows(keyid) {
                return Err(wrong("keyids", "a list in which each name is there once"));
            }
            match keys.get(keyid) {
                Some(key) if !authority.keys.iter().any(|(_, known)| known == key) => {
                    authority.keys.push((keyid.to_owned(), Arc::clone(key)));
                }
                _ => authority.without_key.push(keyid.to_owned()),
            }
        }
        Ok(authority)
    }

    fn knows(&self, keyid: &str) -> bool {
        self.keyids().any(|known| known == keyid)
    }

    /// The identifiers of all keys.
    pub fn keyids(&self) -> impl Iterator<Item = &str> {
        let keys = self.keys.iter().map(|(keyid, _)| keyid);
        keys.chain(&self.without_key).map(String::as_str)
    }

    /// How many of the keys have to sign.
    #[must_use]
    pub fn threshold(&self) -> u32 {
        self.threshold
    }

    /// Whether one of this authority's keys is not among those of `newer`.
    pub(crate) fn lost_a_key_in(&self, newer: &Self) -> bool {
        self.keyids().any(|keyid| !newer.knows(keyid))
    }

    /// The keys that have signed `message`.
    fn signers(&self, message: &[u8], signatures: &Signatures) -> impl Iterator<Item = &str> {
        let signed = self.keys.iter().filter(|(keyid, key)| {
            let signature = signatures.iter().find(|(signer, _)| signer == keyid);
            signature.is_some_and(|(_, signature)| key.verifies(message, signature))
        });
        signed.map(|(keyid, _)| keyid.as_str())
    }

    fn check(&self, role: &str, message: &[u8], signatures: &Signatures) -> Result<(), Error> {
        let signers = self.signers(message, signatures).count();
        let valid = u32::try_from(signers).unwrap_or(u32::MAX);
        if valid >= self.threshold {
            return Ok(());
        }
        Err(Error::TooFewSignatures {
            role: role.to_owned(),
            valid,
            threshold: self.threshold,
        })
    }
}

/// Reads the metadata of `role` after checking that `authority` signed it.
pub(crate) fn verify<T: Metadata>(
    role: &str,
    bytes: &[u8],
    authority: &Authority,
    limits: &Limits,
) -> Result<Verified<T>, Error> {
    let document = Document::parse(role, bytes, limits)?;
    authority.check(role, &document.message(), &document.signatures)?;
    read(role, document.signed).map(Verified)
}

/// Reads a root: one that the `previous` root signed and that signed itself (5.3.4). Without a
/// previous one it is the root that the caller trusts, which only has to be whole.
pub(crate) fn verify_root(
    bytes: &[u8],
    previous: Option<&Root>,
    limits: &Limits,
) -> Result<Verified<Root>, Error> {
    let document = Document::parse(Root::TYPE, bytes, limits)?;
    let message = document.message();
    if let Some(previous) = previous {
        previous
            .root
            .check(Root::TYPE, &message, &document.signatures)?;
    }
    let root: Root = read(Root::TYPE, document.signed)?;
    root.root
        .check(Root::TYPE, &message, &document.signatures)?;
    Ok(Verified(root))
}

#[cfg(feature = "write")]
impl Authority {
    /// Whether its keys signed a list of targets.
    pub(crate) fn vouches_for(&self, list: &[u8]) -> Result<bool, Error> {
        let role = crate::roles::Targets::TYPE;
        let signers = signers_of(role, list, self, &Limits::default())?;
        Ok(u32::try_from(signers.len()).unwrap_or(u32::MAX) >= self.threshold)
    }
}

/// The keys of `authority` that have signed the file, for whoever collects signatures.
#[cfg(feature = "write")]
pub(crate) fn signers_of(
    role: &str,
    bytes: &[u8],
    authority: &Authority,
    limits: &Limits,
) -> Result<Vec<String>, Error> {
    let document = Document::parse(role, bytes, limits)?;
    let message = document.message();
    let signers = authority.signers(&message, &document.signatures);
    Ok(signers.map(str::to_owned).collect())
}

/// The key's identifier and the bytes of each signature.
type Signatures = [(String, Vec<u8>)];

/// A file of metadata, nothing of which is trusted yet.
struct Document {
    signatures: Vec<(String, Vec<u8>)>,
    signed: Value,
}

impl Document {
    fn parse(role: &str, bytes: &[u8], limits: &Limits) -> Result<Self, Error> {
        let value = Value::parse(bytes, limits).map_err(|source| Error::NotJson {
            role: role.to_owned(),
            source,
        })?;
        Self::split(value).map_err(|source| Error::Malformed {
            role: role.to_owned(),
            source,
        })
    }

    fn split(value: Value) -> Result<Self, Malformed> {
        let wrong = |field, expected| Malformed { field, expected };
        let Value::Map(mut map) = value else {
            return Err(wrong("signed", "part of a map"));
        };
        let Some(signed @ Value::Map(_)) = map.remove("signed") else {
            return Err(wrong("signed", "a map"));
        };
        let Some(Value::List(list)) = map.remove("signatures") else {
            return Err(wrong("signatures", "a list"));
        };
        let mut signatures = Vec::with_capacity(list.len());
        for entry in &list {
            let text = |field| entry.as_map().and_then(|map| map.get(field)?.as_text());
            let keyid = text("keyid").ok_or(wrong("keyid", "a string"))?;
            let signature = text("sig").ok_or(wrong("sig", "a string"))?;
            // What is not written as a signature of ours counts for nothing. Capitals do not
            // either: a file has one form only.
            let plain = !signature.contains(|c: char| c.is_ascii_uppercase());
            let signature = plain.then(|| from_hex(signature)).flatten();
            signatures.push((keyid.to_owned(), signature.unwrap_or_default()));
        }
        signatures.sort();
        let twice = signatures.windows(2).any(|pair| match pair {
            [(a, _), (b, _)] => a == b,
            _ => false,
        });
        if twice {
            return Err(wrong(
                "signatures",
                "a list in which each key is there once",
            ));
        }
        Ok(Self { signatures, signed })
    }

    /// What is signed.
    fn message(&self) -> Vec<u8> {
        self.signed.canonical()
    }
}

fn read<T: Metadata>(role: &str, signed: Value) -> Result<T, Error> {
    let signed = match signed {
        Value::Map(signed) => T::read(signed),
        _ => Err(Malformed {
            field: "signed",
            expected: "a map",
        }),
    };
    signed.map_err(|source| Error::Malformed {
        role: role.to_owned(),
        source,
    })
}
