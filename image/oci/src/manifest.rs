//! Indexes, manifests and descriptors: OCI image specification 1.1 and Docker's image manifest
//! version 2, schema 2, which differ only in media types. What is not an image that a container
//! can be made of (artifacts, schema 1, encrypted or foreign layers) is refused in a sentence.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::Error;
use crate::limits::Limits;
use crate::options::Platform;

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub(crate) const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// The annotation that names an image in a layout.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// What a blob is, how long, and what it hashes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type.
    #[serde(default)]
    pub media_type: String,
    /// Digest of the bytes.
    pub digest: Digest,
    /// Length in bytes.
    pub size: u64,
    /// Which platform an index's entry is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<DescriptorPlatform>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

impl Descriptor {
    /// The name that a layout gives the image.
    pub(crate) fn ref_name(&self) -> Option<&str> {
        self.annotations.as_ref()?.get(REF_NAME).map(String::as_str)
    }

    /// Whether it is a signature, attestation or the like, which is nobody's platform.
    fn is_attachment(&self) -> bool {
        let unknown = |p: &DescriptorPlatform| p.os == "unknown" || p.architecture == "unknown";
        self.platform.as_ref().is_some_and(unknown)
    }
}

/// The platform of an index's entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DescriptorPlatform {
    /// Architecture in Go's terms.
    pub architecture: String,
    /// Operating system in Go's terms.
    pub os: String,
    /// Variant of the architecture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// An image index, or Docker's manifest list.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) manifests: Vec<Descriptor>,
}

/// An image manifest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// What a manifest's bytes turned out to be.
#[derive(Debug)]
pub(crate) enum Document {
    Index(Index),
    Manifest(Manifest),
}

/// How a layer is stored. Which compression is used is seen from its first bytes.
pub(crate) fn is_layer_type(media_type: &str) -> bool {
    let base = media_type
        .strip_suffix("+gzip")
        .or_else(|| media_type.strip_suffix("+zstd"))
        .or_else(|| media_type.strip_suffix(".gzip"))
        .or_else(|| media_type.strip_suffix(".zstd"))
        .unwrap_or(media_type);
    base == OCI_LAYER || base == DOCKER_LAYER
}

/// Only the keys that tell the kinds of documents apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    #[serde(default)]
    schema_version: u32,
    media_type: Option<String>,
    artifact_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
}

/// Reads an index or a manifest; `what` says which one, for errors.
pub(crate) fn parse(
    bytes: &[u8],
    place: &str,
    what: &str,
    limits: &Limits,
) -> Result<Document, Error> {
    let malformed = |why: serde_json::Error| Error::malformed(place, what, why);
    let shape: Shape = serde_json::from_slice(bytes).map_err(malformed)?;
    if shape.schema_version == 1 {
        return Err(Error::unsupported(
            place,
            format!(
                "{what} has Docker's old schema 1, which cannot be verified; push the image again \
                 with a current tool"
            ),
        ));
    }
    let media_type = shape.media_type.as_deref().unwrap_or("");
    // A document that could be read both ways would mean different things to different tools
    // (CVE-2021-41190).
    if shape.manifests.is_some() && shape.config.is_some() {
        return Err(Error::malformed(
            place,
            what,
            "it is both an index and a manifest",
        ));
    }
    match media_type {
        OCI_INDEX | DOCKER_LIST if shape.manifests.is_none() => {
            return Err(Error::malformed(
                place,
                what,
                "an index without \"manifests\"",
            ));
        }
        OCI_MANIFEST | DOCKER_MANIFEST if shape.config.is_none() => {
            return Err(Error::malformed(
                place,
                what,
                "a manifest without \"config\"",
            ));
        }
        "" | OCI_INDEX | DOCKER_LIST | OCI_MANIFEST | DOCKER_MANIFEST => {}
        other => {
            return Err(Error::unsupported(
                place,
                format!("{what} is of type {other:?}, which is not a container image"),
            ));
        }
    }
    if shape.manifests.is_some() {
        let index = serde_json::from_slice(bytes).map_err(malformed)?;
        return Ok(Document::Index(index));
    }
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(malformed)?;
    check_manifest(
        &manifest,
        shape.artifact_type.as_deref(),
        place,
        what,
        limits,
    )?;
    Ok(Document::Manifest(manifest))
}

fn check_manifest(
    manifest: &Manifest,
    artifact_type: Option<&str>,
    place: &str,
    what: &str,
    limits: &Limits,
) -> Result<(), Error> {
    let config_type = manifest.config.media_type.as_str();
    if ![OCI_CONFIG, DOCKER_CONFIG].contains(&config_type) {
        let kind = artifact_type.unwrap_or(config_type);
        return Err(Error::unsupported(
            place,
            format!("{what} is an artifact of type {kind:?}, not a container image"),
        ));
    }
    if manifest.layers.len() > limits.layers {
        return Err(Error::TooLarge {
            place: place.to_owned(),
            what: format!("the list of layers in {what}"),
            limit: format!("{} layers", limits.layers),
        });
    }
    for layer in &manifest.layers {
        // A download that could never be used is not begun.
        if layer.size > limits.unpacked_bytes {
            return Err(Error::TooLarge {
                place: place.to_owned(),
                what: format!("layer {} of {what}", layer.digest),
                limit: format!("{} bytes", limits.unpacked_bytes),
            });
        }
        if !is_layer_type(&layer.media_type) {
            return Err(Error::unsupported(
                place,
                format!(
                    "layer {} of {what} is of type {:?}; only plain, gzip and zstd layers can be \
                     unpacked (no encrypted ones, none stored elsewhere)",
                    layer.digest, layer.media_type
                ),
            ));
        }
    }
    Ok(())
}

/// The entry of an index that is for `platform`. An index with a single image that names no
/// platform means that image.
pub(crate) fn select<'a>(
    index: &'a Index,
    platform: &Platform,
    place: &str,
) -> Result<&'a Descriptor, Error> {
    let images: Vec<&Descriptor> = index
        .manifests
        .iter()
        .filter(|entry| !entry.is_attachment())
        .collect();
    let fits = |entry: &&&Descriptor| {
        entry
            .platform
            .as_ref()
            .is_some_and(|p| p.os == platform.os && p.architecture == platform.architecture)
    };
    // amd64 variants (v2, v3) ask for newer processors: the plain one comes first.
    let plain = |entry: &&&Descriptor| {
        let variant = entry.platform.as_ref().and_then(|p| p.variant.as_deref());
        fits(entry) && matches!(variant, None | Some("" | "v1" | "v8"))
    };
    let found = images
        .iter()
        .find(plain)
        .or_else(|| images.iter().find(fits));
    if let Some(found) = found {
        return Ok(found);
    }
    match images.as_slice() {
        [only] if only.platform.is_none() => Ok(only),
        _ => Err(Error::unsupported(
            place,
            format!(
                "no image for {platform} in the index, which has {}",
                platforms(&images)
            ),
        )),
    }
}

fn platforms(images: &[&Descriptor]) -> String {
    let mut names: Vec<String> = images
        .iter()
        .map(|entry| match &entry.platform {
            Some(p) => format!("{}/{}", p.os, p.architecture),
            None => "one of an unnamed platform".to_owned(),
        })
        .take(20)
        .collect();
    names.dedup();
    match names.is_empty() {
        true => "no images at all".to_owned(),
        false => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(os: &str, architecture: &str, variant: Option<&str>) -> Descriptor {
        let mut json = serde_json::json!({
            "mediaType": OCI_MANIFEST, "size": 1, "digest": Digest::of(architecture.as_bytes()),
            "platform": {"os": os, "architecture": architecture},
        });
        if let Some(variant) = variant {
            json["platform"]["variant"] = variant.into();
        }
        serde_json::from_value(json).expect("descriptor")
    }

    fn parse_json(json: serde_json::Value) -> Result<Document, Error> {
        parse(
            json.to_string().as_bytes(),
            "here",
            "the manifest",
            &Limits::default(),
        )
    }

    #[test]
    fn the_platform_asked_for_is_taken_and_its_plainest_variant() {
        let index = Index {
            manifests: vec![
                entry("unknown", "unknown", None),
                entry("linux", "arm64", Some("v8")),
                entry("linux", "amd64", Some("v3")),
                entry("linux", "amd64", None),
                entry("windows", "amd64", None),
            ],
        };
        let found = select(&index, &Platform::default(), "here").expect("found");
        assert_eq!(found, &index.manifests[3]);
        let s390 = Platform {
            os: "linux".into(),
            architecture: "s390x".into(),
        };
        let error = select(&index, &s390, "here")
            .expect_err("s390x")
            .to_string();
        assert!(
            error.contains("linux/s390x") && error.contains("linux/arm64"),
            "{error}"
        );
    }

    #[test]
    fn what_is_not_an_image_is_refused_by_its_type() {
        let chart = serde_json::json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [],
            "config": {"mediaType": "application/vnd.cncf.helm.config.v1+json", "size": 1,
                       "digest": Digest::of(b"")}});
        let error = parse_json(chart).expect_err("chart").to_string();
        assert!(error.contains("helm"), "{error}");
        let old = serde_json::json!({"schemaVersion": 1, "fsLayers": []});
        assert!(
            parse_json(old)
                .expect_err("old")
                .to_string()
                .contains("schema 1")
        );
        let both = serde_json::json!({"schemaVersion": 2, "manifests": [], "config": {}});
        assert!(matches!(parse_json(both), Err(Error::Malformed { .. })));
        let encrypted = serde_json::json!({"schemaVersion": 2,
            "config": {"mediaType": OCI_CONFIG, "size": 1, "digest": Digest::of(b"")},
            "layers": [{"mediaType": format!("{OCI_LAYER}+encrypted"), "size": 1,
                        "digest": Digest::of(b"")}]});
        assert!(
            parse_json(encrypted)
                .expect_err("encrypted")
                .to_string()
                .contains("encrypted")
        );
    }

    #[test]
    fn layer_types_of_both_families_are_known() {
        for known in [
            OCI_LAYER,
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            DOCKER_LAYER,
            DOCKER_LAYER_GZIP,
        ] {
            assert!(is_layer_type(known), "{known}");
        }
        assert!(!is_layer_type(
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        ));
        assert!(!is_layer_type(
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        ));
    }
}
