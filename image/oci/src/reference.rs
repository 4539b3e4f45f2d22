//! Image references: what stands behind `image =` in `berth.toml`.
//!
//! `oci:DIR[:tag]`, `oci-archive:FILE[:tag]`, `docker-archive:FILE[:name:tag]`, or a name in a
//! registry in Docker's form (`nginx`, `localhost:5000/x@sha256:…`), normalised as
//! `distribution/reference` does. Parsing never looks at a disk or a network.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::digest::Digest;

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    /// An OCI image layout directory.
    OciDir {
        /// The directory that holds `oci-layout` and `index.json`.
        path: PathBuf,
        /// `org.opencontainers.image.ref.name` of the image wanted.
        tag: Option<String>,
    },
    /// A tar file of an OCI image layout, possibly compressed.
    OciArchive {
        /// The file.
        path: PathBuf,
        /// `org.opencontainers.image.ref.name` of the image wanted.
        tag: Option<String>,
    },
    /// What `docker save` writes, possibly compressed.
    DockerArchive {
        /// The file.
        path: PathBuf,
        /// The image wanted, as in `docker save`'s `RepoTags`.
        name: Option<RegistryName>,
    },
    /// An image in a registry.
    Registry(RegistryName),
}

/// A name in a registry: never ambiguous, all defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RegistryName {
    /// Host, with port if given: `docker.io`, `localhost:5000`.
    pub registry: String,
    /// Path in the registry: `library/nginx`.
    pub repository: String,
    /// The tag; `latest` when neither tag nor digest was given.
    pub tag: Option<String>,
    /// The digest; wins over the tag.
    pub digest: Option<Digest>,
}

/// Why a string is not an image reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("image reference {reference:?}: {why}")]
pub struct ReferenceError {
    /// What was given.
    pub reference: String,
    /// What is wrong with it and what would be right.
    pub why: String,
}

const DOCKER_HUB: &str = "docker.io";

impl Reference {
    /// The same reference with a relative path taken from `base`, the directory of the file that
    /// it was written in.
    #[must_use]
    pub fn relative_to(self, base: &Path) -> Self {
        match self {
            Self::OciDir { path, tag } => Self::OciDir {
                path: base.join(path),
                tag,
            },
            Self::OciArchive { path, tag } => Self::OciArchive {
                path: base.join(path),
                tag,
            },
            Self::DockerArchive { path, name } => Self::DockerArchive {
                path: base.join(path),
                name,
            },
            Self::Registry(name) => Self::Registry(name),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let error = |why: &str| ReferenceError {
            reference: text.to_owned(),
            why: why.to_owned(),
        };
        let path_of = |path: &str| match path {
            "" => Err(error("a path is missing behind the colon")),
            path => Ok(PathBuf::from(path)),
        };
        if let Some(rest) = text.strip_prefix("oci:") {
            let (path, tag) = path_and_tag(rest).map_err(|why| error(&why))?;
            return Ok(Self::OciDir {
                path: path_of(path)?,
                tag,
            });
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            let (path, tag) = path_and_tag(rest).map_err(|why| error(&why))?;
            return Ok(Self::OciArchive {
                path: path_of(path)?,
                tag,
            });
        }
        if let Some(rest) = text.strip_prefix("docker-archive:") {
            let (path, name) = match rest.split_once(':') {
                Some((path, name)) => (path, Some(parse_name(name).map_err(|why| error(&why))?)),
                None => (rest, None),
            };
            return Ok(Self::DockerArchive {
                path: path_of(path)?,
                name,
            });
        }
        let name = text.strip_prefix("docker://").unwrap_or(text);
        if let Some((scheme, _)) = name.split_once("://") {
            return Err(error(&format!(
                "{scheme:?} is not a kind of source; a registry's name is written without a \
                 scheme (host/name:tag), the others are oci:, oci-archive: and docker-archive:"
            )));
        }
        parse_name(name)
            .map(Self::Registry)
            .map_err(|why| error(&why))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, path, tag) = match self {
            Self::OciDir { path, tag } => ("oci", path, tag.clone()),
            Self::OciArchive { path, tag } => ("oci-archive", path, tag.clone()),
            Self::DockerArchive { path, name } => (
                "docker-archive",
                path,
                name.as_ref().map(ToString::to_string),
            ),
            Self::Registry(name) => return name.fmt(f),
        };
        write!(f, "{kind}:{}", path.display())?;
        match tag {
            Some(tag) => write!(f, ":{tag}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for RegistryName {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        parse_name(text).map_err(|why| ReferenceError {
            reference: text.to_owned(),
            why,
        })
    }
}

/// A path cannot hold a colon, as with the other tools that use these prefixes.
fn path_and_tag(rest: &str) -> Result<(&str, Option<String>), String> {
    match rest.split_once(':') {
        Some((_, "")) => Err("the tag behind the last colon is empty".to_owned()),
        Some((path, tag)) => Ok((path, Some(tag.to_owned()))),
        None => Ok((rest, None)),
    }
}

fn parse_name(text: &str) -> Result<RegistryName, String> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => {
            let digest = digest
                .parse::<Digest>()
                .map_err(|error| error.to_string())?;
            (rest, Some(digest))
        }
        None => (text, None),
    };
    let (name, tag) = match rest.rsplit_once(':') {
        // A colon before the last slash belongs to the port.
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    let (registry, path) = match name.split_once('/') {
        Some((first, path)) if is_host(first) => (first, path.to_owned()),
        _ => (DOCKER_HUB, name.to_owned()),
    };
    check_host(registry)?;
    let (registry, repository) = match registry {
        DOCKER_HUB | "index.docker.io" if path.contains('/') => (DOCKER_HUB, path),
        DOCKER_HUB | "index.docker.io" => (DOCKER_HUB, format!("library/{path}")),
        host => (host, path),
    };
    check_repository(&repository)?;
    let tag = match (tag, &digest) {
        (None, None) => Some("latest".to_owned()),
        (tag, _) => tag.map(str::to_owned),
    };
    Ok(RegistryName {
        registry: registry.to_owned(),
        repository,
        tag,
        digest,
    })
}

/// Docker's rule: the first part is a host when it could not be a user's name.
fn is_host(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':']) || part.bytes().any(|b| b.is_ascii_uppercase())
}

fn check_host(host: &str) -> Result<(), String> {
    let bad = || Err(format!("{host:?} is not a registry's host name"));
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return bad();
            }
            ("v6", port.strip_prefix(':'))
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    let label_ok = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(label_ok) {
        return bad();
    }
    match port {
        Some(port) if port.parse::<u16>().is_err() => bad(),
        _ => Ok(()),
    }
}

fn check_repository(repository: &str) -> Result<(), String> {
    // Each part: runs of a-z0-9 joined by one '.', one or two '_', or any number of '-'.
    let part_ok = |part: &str| {
        let bytes = part.as_bytes();
        let edge_ok = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        edge_ok(bytes.first())
            && edge_ok(bytes.last())
            && bytes
                .iter()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(b))
            && bytes.split(|b| b.is_ascii_alphanumeric()).all(|run| {
                matches!(run, b"" | b"." | b"_" | b"__") || run.iter().all(|b| *b == b'-')
            })
    };
    if repository.len() > 255 || !repository.split('/').all(part_ok) {
        return Err(format!(
            "{repository:?} is not a repository's name (parts of a-z, 0-9, '.', '_', '-', \
             separated by '/')"
        ));
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<(), String> {
    let first_ok = tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let all_ok = tag
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if !first_ok || !all_ok || tag.len() > 128 {
        return Err(format!(
            "{tag:?} is not a tag (1 to 128 of A-Z, a-z, 0-9, '_', '.', '-')"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Reference {
        text.parse().expect(text)
    }

    #[test]
    fn short_names_mean_what_docker_means() {
        for (given, meant) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/me/x:1", "docker.io/me/x:1"),
            ("grafana/grafana", "docker.io/grafana/grafana:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("localhost:5000/x", "localhost:5000/x:latest"),
            ("[::1]:5000/x:2", "[::1]:5000/x:2"),
            ("ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1"),
            ("docker://quay.io/x/y", "quay.io/x/y:latest"),
        ] {
            assert_eq!(parse(given).to_string(), meant, "{given}");
        }
        let digest = Digest::of(b"x");
        assert_eq!(
            parse(&format!("localhost:5000/x@{digest}")).to_string(),
            format!("localhost:5000/x@{digest}")
        );
        assert_eq!(
            parse(&format!("x:1@{digest}")).to_string(),
            format!("docker.io/library/x:1@{digest}")
        );
    }

    #[test]
    fn files_and_directories_keep_their_paths() {
        assert_eq!(
            parse("oci:./dir:v1").relative_to(Path::new("/base")),
            Reference::OciDir {
                path: "/base/./dir".into(),
                tag: Some("v1".into())
            }
        );
        assert_eq!(
            parse("oci-archive:/a.tar").to_string(),
            "oci-archive:/a.tar"
        );
        let Reference::DockerArchive {
            name: Some(name), ..
        } = parse("docker-archive:f.tar:web:2")
        else {
            panic!("not an archive");
        };
        assert_eq!(name.to_string(), "docker.io/library/web:2");
    }

    #[test]
    fn what_is_not_a_reference_is_refused_with_a_reason() {
        for bad in [
            "",
            "oci:",
            "oci:dir:",
            "oci::tag",
            "Nginx",
            "a//b",
            "../x",
            "x:",
            "x:-",
            "x@sha256:12",
            "https://ghcr.io/x",
            "host.io:99999/x",
            "a b",
            "x/..",
            "-x.io/y",
            "a___b",
            "docker-archive:f:UPPER",
            "[::zz]:1/x",
        ] {
            let error = bad.parse::<Reference>().expect_err(bad);
            assert!(error.to_string().contains("image reference"), "{error}");
        }
    }
}
