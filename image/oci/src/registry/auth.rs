//! Credentials, from the file that `docker login`, `podman login` and `skopeo login` write.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::error::RegistryError;
use crate::reference::RegistryName;

/// Who we are for one registry. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    Password {
        user: String,
        password: String,
    },
    /// An OAuth 2 refresh token.
    IdentityToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

impl Credentials {
    /// The header of basic authentication.
    pub(super) fn basic(&self) -> Option<String> {
        match self {
            Self::Password { user, password } => Some(format!(
                "Basic {}",
                STANDARD.encode(format!("{user}:{password}"))
            )),
            Self::IdentityToken(_) => None,
        }
    }
}

/// What the file says about a registry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Credentials(Credentials),
    /// Nothing, but a helper program that we do not run might know.
    Helper(String),
    Nothing,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AuthFile {
    auths: BTreeMap<String, Entry>,
    #[serde(rename = "credsStore")]
    creds_store: String,
    #[serde(rename = "credHelpers")]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    #[serde(rename = "identitytoken")]
    identity_token: String,
}

const MAX_FILE_BYTES: u64 = 1 << 20;

/// Looks `name`'s registry up in the file at `path`.
pub(super) fn load(path: &Path, name: &RegistryName) -> Result<Found, RegistryError> {
    let error = |why: String| RegistryError::AuthFile {
        path: path.display().to_string(),
        why,
    };
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text))
        .map_err(|source| error(source.to_string()))?;
    // serde's message never quotes a secret: it names the place, and the type at most.
    let file: AuthFile = serde_json::from_str(&text).map_err(|bad| {
        error(format!(
            "line {}, column {}: malformed",
            bad.line(),
            bad.column()
        ))
    })?;
    look_up(&file, name).map_err(error)
}

fn look_up(file: &AuthFile, name: &RegistryName) -> Result<Found, String> {
    for key in keys(name) {
        let mut fitting = file
            .auths
            .iter()
            .filter(|(stored, _)| host_of(stored) == key);
        let Some((stored, entry)) =
            fitting.find(|(_, e)| !e.auth.is_empty() || !e.identity_token.is_empty())
        else {
            continue;
        };
        if !entry.identity_token.is_empty() {
            let token = Credentials::IdentityToken(entry.identity_token.clone());
            return Ok(Found::Credentials(token));
        }
        let decoded = STANDARD.decode(entry.auth.trim()).ok();
        let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = text.as_deref().and_then(|text| text.split_once(':'));
        let Some((user, password)) = pair else {
            return Err(format!(
                "the entry for {stored:?} is not base64 of user:password"
            ));
        };
        return Ok(Found::Credentials(Credentials::Password {
            user: user.to_owned(),
            // Docker pads with NUL.
            password: password.trim_end_matches('\0').to_owned(),
        }));
    }
    let helper = keys(name)
        .iter()
        .find_map(|key| file.cred_helpers.get(key))
        .or(Some(&file.creds_store))
        .filter(|helper| !helper.is_empty());
    Ok(match helper {
        Some(helper) => Found::Helper(helper.clone()),
        None => Found::Nothing,
    })
}

/// `host/a/b`, `host/a`, `host`: containers' files may have an entry for a part of a registry.
fn keys(name: &RegistryName) -> Vec<String> {
    let mut keys = Vec::new();
    let mut at = format!("{}/{}", name.registry, name.repository);
    while let Some((shorter, _)) = at.rsplit_once('/') {
        keys.push(at.clone());
        at = shorter.to_owned();
    }
    keys.push(at);
    if name.registry == "docker.io" {
        keys.push("index.docker.io".to_owned());
    }
    keys
}

/// Docker's keys may be URLs: `https://index.docker.io/v1/`.
fn host_of(key: &str) -> &str {
    let bare = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key)
        .trim_end_matches('/');
    bare.strip_suffix("/v1")
        .or_else(|| bare.strip_suffix("/v2"))
        .unwrap_or(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(json: &str, name: &str) -> Result<Found, String> {
        let file: AuthFile = serde_json::from_str(json).expect("json");
        look_up(&file, &name.parse().expect("name"))
    }

    fn password(user: &str) -> Found {
        Found::Credentials(Credentials::Password {
            user: user.into(),
            password: "p:w".into(),
        })
    }

    #[test]
    fn the_most_specific_entry_wins() {
        let auth = |user: &str| STANDARD.encode(format!("{user}:p:w"));
        let json = format!(
            r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{}"}},
                 "localhost:5000":{{"auth":"{}"}},"localhost:5000/team":{{"auth":"{}"}},
                 "empty.io":{{}}}},"credsStore":"desktop"}}"#,
            auth("hub"),
            auth("host"),
            auth("team")
        );
        assert_eq!(find(&json, "nginx"), Ok(password("hub")));
        assert_eq!(find(&json, "localhost:5000/x"), Ok(password("host")));
        assert_eq!(find(&json, "localhost:5000/team/x"), Ok(password("team")));
        assert_eq!(
            find(&json, "empty.io/x"),
            Ok(Found::Helper("desktop".into()))
        );
        assert_eq!(find("{}", "x"), Ok(Found::Nothing));
    }

    #[test]
    fn secrets_are_never_printed() {
        let error = find(r#"{"auths":{"a.io":{"auth":"c2VjcmV0"}}}"#, "a.io/x").expect_err("bad");
        assert!(
            error.contains("a.io") && !error.contains("secret"),
            "{error}"
        );
        assert_eq!(
            format!("{:?}", Credentials::IdentityToken("secret".into())),
            "Credentials"
        );
    }
}
