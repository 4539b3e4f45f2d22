//! A file of metadata on its way to being signed: unknown fields stay as they are.

use super::error::WriteError;
use super::signing::SigningKey;
use crate::json::{Map, Value};
use crate::limits::Limits;
use crate::time::Time;

/// The specification that the files follow.
const SPECIFICATION: &str = "1.0.31";

/// A file's two parts.
pub(super) struct Document {
    pub(super) signed: Map,
    pub(super) signatures: Vec<Value>,
}

impl Document {
    pub(super) fn new(signed: Map) -> Self {
        Self {
            signed,
            signatures: Vec::new(),
        }
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, WriteError> {
        let wrong = |reason: &str| WriteError::NotMetadata(reason.to_owned());
        let value = Value::parse(bytes, &Limits::default());
        let value = value.map_err(|error| WriteError::NotMetadata(error.to_string()))?;
        let Value::Map(mut map) = value else {
            return Err(wrong("it is not an object"));
        };
        match (map.remove("signed"), map.remove("signatures")) {
            (Some(Value::Map(signed)), Some(Value::List(signatures))) => {
                Ok(Self { signed, signatures })
            }
            _ => Err(wrong("it has no signed part or no list of signatures")),
        }
    }

    /// Adds the signature of `key`, in the place of an older one of the same key.
    pub(super) fn sign(&mut self, key: &SigningKey) {
        let keyid = key.public().id();
        let message = Value::Map(self.signed.clone()).canonical();
        let of = |entry: &Value| {
            let id = entry.as_map().and_then(|map| map.get("keyid"));
            id.and_then(Value::as_text) == Some(keyid)
        };
        self.signatures.retain(|entry| !of(entry));
        self.signatures.push(Value::Map(Map::from([
            ("keyid", Value::from(keyid)),
            ("sig", Value::from(key.sign(&message).as_str())),
        ])));
    }

    /// The file, readable for people: root files are looked at before they are signed.
    pub(super) fn bytes(self) -> Vec<u8> {
        let document = Map::from([
            ("signatures", Value::List(self.signatures)),
            ("signed", Value::Map(self.signed)),
        ]);
        Value::Map(document).pretty().into_bytes()
    }
}

/// The fields that every role has.
pub(super) fn common(kind: &str, version: u64, expires: Time) -> Map {
    Map::from([
        ("_type", Value::from(kind)),
        ("spec_version", Value::from(SPECIFICATION)),
        ("version", number(version)),
        ("expires", Value::from(expires.to_string().as_str())),
    ])
}

/// Metadata has no larger numbers; a version never gets there.
pub(super) fn number(value: u64) -> Value {
    Value::Int(i64::try_from(value).unwrap_or(i64::MAX))
}

/// Adds the signature of `key` to a file of metadata, in the place of an older one of this key.
///
/// # Errors
///
/// When the bytes are not a file of metadata.
pub fn sign(bytes: &[u8], key: &SigningKey) -> Result<Vec<u8>, WriteError> {
    let mut document = Document::parse(bytes)?;
    document.sign(key);
    Ok(document.bytes())
}
