//! Which version is offered: the signed metadata, checked step by step, and the document that it
//! vouches for.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use berth_release::{METADATA, Release, TARGETS, limits, target_path};
use berth_trust::release::Release as Claims;
use berth_trust::{Client, Clock, Entry, FetchError, Limits, Store};
use sha2::{Digest, Sha256};

use crate::server::Server;

/// Which machine asks.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The image's name.
    pub product: String,
    /// Its profile.
    pub profile: String,
    /// The processor's architecture.
    pub architecture: String,
}

/// A version that is offered, and whose every byte can be checked from here on.
#[derive(Clone, Debug)]
pub struct Offer {
    /// What it consists of.
    pub release: Release,
    /// What the metadata says about it, for the judgement whether it fits this machine.
    pub(crate) claims: Claims,
    /// SHA-256 of its document.
    pub manifest: [u8; 32],
}

/// Verified metadata on the state partition.
struct Kept<'a>(&'a Path);

impl Kept<'_> {
    fn path(&self, entry: &Entry) -> PathBuf {
        self.0.join(entry.file_name())
    }
}

impl Store for Kept<'_> {
    fn load(&mut self, entry: &Entry) -> Result<Option<Vec<u8>>, String> {
        let path = self.path(entry);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(format!("cannot read {}: {why}", path.display())),
        }
    }

    fn save(&mut self, entry: &Entry, bytes: &[u8]) -> Result<(), String> {
        let path = self.path(entry);
        replace(&path, bytes).map_err(|why| format!("cannot write {}: {why}", path.display()))
    }

    fn remove(&mut self, entry: &Entry) -> Result<(), String> {
        let path = self.path(entry);
        match fs::remove_file(&path) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => {
                Err(format!("cannot remove {}: {why}", path.display()))
            }
            _ => Ok(()),
        }
    }
}

/// Beside, synced, renamed, synced: a power cut leaves the old file or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    File::open(directory)?.sync_all()
}

fn nothing_for(who: &str, identity: &Identity) -> String {
    let Identity {
        product,
        profile,
        architecture,
    } = identity;
    format!("{who} has nothing for {product}/{profile}/{architecture}, which this machine is")
}

/// What the server offers to this machine.
///
/// # Errors
/// A sentence: the server cannot be reached, or what it says is not genuine, current and whole.
pub(crate) fn newest(
    server: &mut dyn Server,
    root: &[u8],
    kept: &Path,
    clock: Clock,
    identity: &Identity,
) -> Result<Offer, String> {
    fs::create_dir_all(kept).map_err(|why| format!("cannot make {}: {why}", kept.display()))?;
    let who = server.who().to_owned();
    let mut transport = |name: &str, most: u64| -> Result<Option<Vec<u8>>, FetchError> {
        let path = format!("{METADATA}/{name}");
        server.whole(&path, most).map_err(FetchError)
    };
    let mut store = Kept(kept);
    let client = Client::refresh(root, &mut store, &mut transport, clock, Limits::default());
    let mut client = client.map_err(|why| why.to_string())?;
    let path = target_path(&identity.product, &identity.profile, &identity.architecture);
    let target = client.target(&path).map_err(|why| match why {
        berth_trust::Error::NoSuchTarget { .. } => nothing_for(&who, identity),
        why => why.to_string(),
    })?;
    drop(client);
    let claims = Claims::of(&target).map_err(|why| format!("{path}: {why}"))?;
    if target.length() > limits::DOCUMENT_BYTES {
        return Err(format!("{path} is longer than it can be"));
    }
    let url = format!("{TARGETS}/{}", target.url());
    let text = server.whole(&url, target.length())?;
    // A bundle for another machine lists this one's version, and leaves it out.
    let text = text.ok_or_else(|| format!("{} ({url})", nothing_for(&who, identity)))?;
    target
        .verify(&text)
        .map_err(|why| format!("{path}: {why}"))?;
    let release = Release::parse(&text).map_err(|why| why.to_string())?;
    let same = [
        (&release.product, &identity.product),
        (&release.profile, &identity.profile),
        (&release.architecture, &identity.architecture),
    ];
    if let Some((theirs, ours)) = same.iter().find(|(theirs, ours)| theirs != ours) {
        return Err(format!(
            "the version that is offered is for {theirs:?} and this machine is {ours:?}"
        ));
    }
    if release.version != claims.version || release.security_version != claims.security_version {
        return Err("the metadata and the description of the version contradict each other".into());
    }
    Ok(Offer {
        release,
        claims,
        manifest: Sha256::digest(&text).into(),
    })
}
