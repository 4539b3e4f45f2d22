//! The image configuration (OCI image specification, "Image Configuration"), as far as a machine
//! needs it. A foreign format: unknown keys are tolerated, `null` means absent as Go writes it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer};

use crate::digest::Digest;

/// An image's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// When it was made, RFC 3339.
    #[serde(deserialize_with = "nullable")]
    pub created: Option<String>,
    /// Architecture in Go's terms (`amd64`).
    #[serde(deserialize_with = "nullable")]
    pub architecture: String,
    /// Operating system in Go's terms (`linux`).
    #[serde(deserialize_with = "nullable")]
    pub os: String,
    /// What a container of it runs.
    #[serde(deserialize_with = "nullable")]
    pub config: Execution,
    /// The layers' digests before compression.
    #[serde(deserialize_with = "nullable")]
    pub rootfs: RootFs,
    /// How it was made, oldest first.
    #[serde(deserialize_with = "nullable")]
    pub history: Vec<History>,
}

/// What a container of the image runs by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Execution {
    /// `name|uid[:group|gid]`; root when empty. See [`crate::resolve_user`].
    #[serde(deserialize_with = "nullable")]
    pub user: String,
    /// `NAME=value` each.
    #[serde(deserialize_with = "nullable")]
    pub env: Vec<String>,
    /// Program and first arguments.
    #[serde(deserialize_with = "nullable")]
    pub entrypoint: Vec<String>,
    /// Further arguments, or the program when there is no entry point.
    #[serde(deserialize_with = "nullable")]
    pub cmd: Vec<String>,
    /// Working directory; `/` when empty.
    #[serde(deserialize_with = "nullable")]
    pub working_dir: String,
    /// Signal that ends it (`SIGTERM`, `15`); SIGTERM when empty.
    #[serde(deserialize_with = "nullable")]
    pub stop_signal: String,
    /// `80/tcp`, `53/udp`, `80`.
    #[serde(deserialize_with = "set_of_keys")]
    pub exposed_ports: BTreeSet<String>,
    /// Directories that the image's maker wants on a volume.
    #[serde(deserialize_with = "set_of_keys")]
    pub volumes: BTreeSet<String>,
    /// Labels.
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
}

/// The layers before compression.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub kind: String,
    /// Digest of each layer's tar file, lowest first.
    #[serde(deserialize_with = "nullable")]
    pub diff_ids: Vec<Digest>,
}

/// One step of an image's making.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct History {
    /// The command.
    #[serde(deserialize_with = "nullable")]
    pub created_by: String,
    /// Whether the step made no layer.
    #[serde(deserialize_with = "nullable")]
    pub empty_layer: bool,
}

impl ImageConfig {
    /// What made each layer, lowest first; empty where the history does not say.
    #[must_use]
    pub fn created_by(&self) -> Vec<String> {
        let layers = self.rootfs.diff_ids.len();
        let mut made: Vec<String> = self
            .history
            .iter()
            .filter(|step| !step.empty_layer)
            .map(|step| step.created_by.clone())
            .collect();
        // A history that does not fit the layers describes something else.
        if made.len() != layers {
            made = vec![String::new(); layers];
        }
        made
    }
}

fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Go writes sets as objects whose values are empty objects.
fn set_of_keys<'de, D>(deserializer: D) -> Result<BTreeSet<String>, D::Error>
where
    D: Deserializer<'de>,
{
    let map: BTreeMap<String, serde::de::IgnoredAny> = nullable(deserializer)?;
    Ok(map.into_keys().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_as_docker_writes_it_is_read() {
        let config: ImageConfig = serde_json::from_str(
            r#"{"architecture":"amd64","os":"linux","created":"2024-05-01T00:00:00Z","docker_version":"25",
            "config":{"User":"nginx","ExposedPorts":{"80/tcp":{}},"Env":["A=b"],"Entrypoint":null,
              "Cmd":["nginx"],"Volumes":null,"WorkingDir":"/srv","StopSignal":"SIGQUIT",
              "Labels":{"a":"b"},"Healthcheck":{"Test":["NONE"]},"OnBuild":null},
            "rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},
            "history":[{"created_by":"ADD x"},{"created_by":"CMD y","empty_layer":true}]}"#,
        )
        .expect("config");
        assert_eq!(config.config.user, "nginx");
        assert!(config.config.exposed_ports.contains("80/tcp"));
        assert!(config.config.entrypoint.is_empty());
        assert_eq!(config.config.stop_signal, "SIGQUIT");
        assert_eq!(config.created_by(), ["ADD x"]);
    }

    #[test]
    fn an_empty_configuration_has_defaults() {
        let config: ImageConfig = serde_json::from_str(r#"{"config":null}"#).expect("config");
        assert_eq!(config, ImageConfig::default());
    }
}
