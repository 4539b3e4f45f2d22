//! Public keys as metadata carries them, and the check of one signature.
//!
//! Specification, 4.2: `ed25519` with the key in hexadecimal digits, `ecdsa-sha2-nistp256` and
//! `rsassa-pss-sha256` with the key in PEM (RFC 5280, SubjectPublicKeyInfo).

use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

use crate::encoding::{from_hex, from_pem};
use crate::error::Malformed;
use crate::json::Value;
use crate::limits::KEY_TEXT;

/// The PEM label of a public key.
const PEM_LABEL: &str = "PUBLIC KEY";
/// id-ecPublicKey with prime256v1 (RFC 5480).
const ECDSA_P256: &[u8] = &[
    0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d,
    0x03, 0x01, 0x07,
];
/// rsaEncryption with its NULL (RFC 8017).
const RSA: &[u8] = &[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];

/// A signature scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Ed25519 (RFC 8032).
    Ed25519,
    /// ECDSA on P-256 with SHA-256, signatures in DER.
    EcdsaP256,
    /// RSA-PSS with SHA-256, moduli of 2048 to 8192 bits.
    RsaPss,
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// One whose signatures can be checked.
    Usable {
        /// How it signs.
        scheme: Scheme,
        /// The key as the scheme has it: 32 bytes, a point, or an RSAPublicKey in DER.
        bytes: Vec<u8>,
    },
    /// One of an unknown type or damaged. It is tolerated, and its signatures count for nothing.
    Unusable,
}

impl PublicKey {
    /// Reads a key object.
    pub(crate) fn read(value: &Value) -> Result<Self, Malformed> {
        let wrong = |field, expected| Malformed { field, expected };
        let map = value.as_map().ok_or(wrong("keys", "a map of keys"))?;
        let text = |field| map.get(field).and_then(Value::as_text);
        let kind = text("keytype").ok_or(wrong("keytype", "a string"))?;
        let scheme = text("scheme").ok_or(wrong("scheme", "a string"))?;
        let public = map.get("keyval").and_then(Value::as_map);
        let public = public.ok_or(wrong("keyval", "a map"))?.get("public");
        let public = public.and_then(Value::as_text);
        let public = public.filter(|public| public.len() <= KEY_TEXT);
        Ok(public
            .and_then(|public| match (kind, scheme) {
                ("ed25519", "ed25519") => Some(Self::Usable {
                    scheme: Scheme::Ed25519,
                    bytes: from_hex(public)?,
                }),
                ("ecdsa" | "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256") => {
                    Self::in_pem(Scheme::EcdsaP256, public)
                }
                ("rsa", "rsassa-pss-sha256") => Self::in_pem(Scheme::RsaPss, public),
                _ => None,
            })
            .unwrap_or(Self::Unusable))
    }

    fn in_pem(wanted: Scheme, text: &str) -> Option<Self> {
        let (scheme, bytes) = spki(&from_pem(text, PEM_LABEL)?)?;
        (scheme == wanted).then_some(Self::Usable { scheme, bytes })
    }

    /// Whether `signature` over `message` is this key's.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let Self::Usable { scheme, bytes } = self else {
            return false;
        };
        let algorithm: &'static dyn VerificationAlgorithm = match scheme {
            Scheme::Ed25519 => &signature::ED25519,
            Scheme::EcdsaP256 => &signature::ECDSA_P256_SHA256_ASN1,
            Scheme::RsaPss => &signature::RSA_PSS_2048_8192_SHA256,
        };
        UnparsedPublicKey::new(algorithm, bytes)
            .verify(message, signature)
            .is_ok()
    }
}

/// The key in a SubjectPublicKeyInfo in DER.
pub(crate) fn spki(der: &[u8]) -> Option<(Scheme, Vec<u8>)> {
    const SEQUENCE: u8 = 0x30;
    const BIT_STRING: u8 = 0x03;
    let (info, rest) = element(der, SEQUENCE)?;
    let (algorithm, info) = element(info, SEQUENCE)?;
    let (bits, end) = element(info, BIT_STRING)?;
    let (unused, key) = bits.split_first()?;
    let scheme = match algorithm {
        ECDSA_P256 => Scheme::EcdsaP256,
        RSA => Scheme::RsaPss,
        _ => return None,
    };
    let whole = rest.is_empty() && end.is_empty() && *unused == 0;
    whole.then(|| (scheme, key.to_vec()))
}

/// The content of the DER element with `tag` at the start, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, length], mut rest) = der.split_first_chunk::<2>()?;
    let mut content = usize::from(length);
    if length >= 0x80 {
        let (digits, after) = rest.split_at_checked(usize::from(length & 0x7f))?;
        if !(1..=2).contains(&digits.len()) {
            return None;
        }
        content = digits
            .iter()
            .fold(0, |sum, &digit| sum << 8 | usize::from(digit));
        rest = after;
    }
    (found == tag).then(|| rest.split_at_checked(content))?
}
