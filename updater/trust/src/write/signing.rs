//! Keys on the publisher's side: private ones of the kind Ed25519, and the records by which
//! metadata names public ones of any kind.

use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::error::WriteError;
use crate::encoding::{from_hex, from_pem, hex, to_pem};
use crate::json::{Map, Value};
use crate::keys::{PublicKey, Scheme, spki};

/// What stands before the 32 bytes of an Ed25519 key in PKCS#8 version 1 (RFC 8410, section 7),
/// which OpenSSL and python-cryptography read as well.
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// What stands before the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410).
const ED25519_SPKI: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];
const PRIVATE: &str = "PRIVATE KEY";
const PUBLIC: &str = "PUBLIC KEY";

/// A private key.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    record: KeyRecord,
}

/// A public key as metadata carries it, with the identifier that is the hash of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    id: String,
    value: Value,
}

impl SigningKey {
    /// Makes a new key, as a PEM block (PKCS#8).
    ///
    /// # Errors
    ///
    /// When the system has no random numbers.
    pub fn generate_pem() -> Result<String, WriteError> {
        let mut secret = [0; 32];
        let random = SystemRandom::new();
        random
            .fill(&mut secret)
            .map_err(|_| WriteError::NoRandomness)?;
        Ok(to_pem(&[PKCS8.as_slice(), &secret].concat(), PRIVATE))
    }

    /// Reads a PEM block (PKCS#8).
    ///
    /// # Errors
    ///
    /// When it is not an Ed25519 key.
    pub fn from_pem(text: &str) -> Result<Self, WriteError> {
        let der = from_pem(text, PRIVATE).ok_or(WriteError::NotAPrivateKey)?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der);
        let pair = pair.map_err(|_| WriteError::NotAPrivateKey)?;
        let record = KeyRecord::ed25519(pair.public_key().as_ref());
        Ok(Self { pair, record })
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> &KeyRecord {
        &self.record
    }

    pub(super) fn sign(&self, message: &[u8]) -> String {
        hex(self.pair.sign(message).as_ref())
    }
}

impl KeyRecord {
    /// Reads a public key in PEM (SubjectPublicKeyInfo): Ed25519, ECDSA on P-256 or RSA.
    ///
    /// # Errors
    ///
    /// When it is none of them.
    pub fn from_pem(text: &str) -> Result<Self, WriteError> {
        let der = from_pem(text, PUBLIC).ok_or(WriteError::NotAPublicKey)?;
        if let Some(key) = der
            .strip_prefix(&ED25519_SPKI)
            .filter(|key| key.len() == 32)
        {
            return Ok(Self::ed25519(key));
        }
        let (kind, scheme) = match spki(&der) {
            Some((Scheme::EcdsaP256, _)) => ("ecdsa", "ecdsa-sha2-nistp256"),
            Some((Scheme::RsaPss, _)) => ("rsa", "rsassa-pss-sha256"),
            _ => return Err(WriteError::NotAPublicKey),
        };
        Ok(Self::new(kind, scheme, &to_pem(&der, PUBLIC)))
    }

    fn ed25519(public: &[u8]) -> Self {
        Self::new("ed25519", "ed25519", &hex(public))
    }

    fn new(kind: &str, scheme: &str, public: &str) -> Self {
        let value = Value::Map(Map::from([
            ("keytype", Value::from(kind)),
            ("scheme", Value::from(scheme)),
            (
                "keyval",
                Value::Map(Map::from([("public", Value::from(public))])),
            ),
        ]));
        Self {
            id: identifier(&value),
            value,
        }
    }

    /// What a root says of a key, without what else it says.
    pub(super) fn from_record(record: &Value) -> Self {
        let record = record.as_map();
        let fields = ["keytype", "scheme", "keyval"].map(|field| {
            let value = record.and_then(|record| record.get(field)).cloned();
            (field, value.unwrap_or(Value::Map(Map::default())))
        });
        let value = Value::Map(Map::from(fields));
        Self {
            id: identifier(&value),
            value,
        }
    }

    /// The identifier, which people know the key by.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// `ed25519`, `ecdsa` or `rsa`.
    #[must_use]
    pub fn kind(&self) -> &str {
        let kind = self.value.as_map().and_then(|map| map.get("keytype"));
        kind.and_then(Value::as_text).unwrap_or_default()
    }

    /// As a PEM block (SubjectPublicKeyInfo).
    #[must_use]
    pub fn pem(&self) -> String {
        let keyval = self.value.as_map().and_then(|map| map.get("keyval"));
        let public = keyval.and_then(|keyval| keyval.as_map()?.get("public"));
        let public = public.and_then(Value::as_text).unwrap_or_default();
        match PublicKey::read(&self.value) {
            Ok(PublicKey::Usable {
                scheme: Scheme::Ed25519,
                ..
            }) => {
                let key = from_hex(public).unwrap_or_default();
                to_pem(&[ED25519_SPKI.as_slice(), &key].concat(), PUBLIC)
            }
            _ => public.to_owned(),
        }
    }

    pub(super) fn value(&self) -> &Value {
        &self.value
    }
}

/// The identifier of a public key's record: the SHA-256 of its canonical form.
pub(super) fn identifier(record: &Value) -> String {
    hex(digest::digest(&digest::SHA256, &record.canonical()).as_ref())
}
