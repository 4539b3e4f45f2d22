//! The machine's resolved configuration: what the builder writes into the verified root as
//! `/etc/berth/machine.json` and PID 1 reads.
//!
//! The user's `berth.toml` is read by the builder only; here everything is resolved and typed,
//! and an unknown key is refused.

pub mod gate;
pub mod status;
mod update;

use std::net::Ipv4Addr;

use berth_containers::spec::Container;
use serde::{Deserialize, Serialize};

pub use update::{CA_PATH, TRUST_ROOT_PATH, Update, UpdatePolicy, Window};

/// Where the configuration is in the verified root.
pub const MACHINE_PATH: &str = "/etc/berth/machine.json";

/// The version of this format.
pub const SCHEMA: u32 = 1;

/// Everything PID 1 needs to know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Must be [`SCHEMA`].
    pub schema: u32,
    /// Name of the image.
    pub name: String,
    /// Version of the image.
    pub version: String,
    /// Raised by a version that must never be followed by an older one.
    #[serde(default)]
    pub security_version: u64,
    /// The profile that the image was built for.
    #[serde(default)]
    pub profile: String,
    /// The newest date of anything in the image, seconds since 1970: the clock's floor.
    pub built: u64,
    /// Host name, `{serial}` and `{machine-id}` not yet replaced.
    pub hostname: String,
    /// Networks in the order of the file.
    #[serde(default)]
    pub networks: Vec<Network>,
    /// Containers in the order of the file.
    #[serde(default)]
    pub containers: Vec<Container>,
    /// What to do when the machine cannot go on.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Where newer versions come from; without it the machine stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<Update>,
}

/// What to do when the machine cannot go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// Say why, wait a few seconds, restart.
    #[default]
    Restart,
    /// Say why, stay there.
    Halt,
}

/// One network interface's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Name in the file.
    pub name: String,
    /// Which interfaces it is for.
    #[serde(rename = "match")]
    pub matches: Match,
    /// Ask DHCPv4.
    #[serde(default)]
    pub dhcp4: bool,
    /// Static addresses.
    #[serde(default)]
    pub addresses: Vec<Ipv4Cidr>,
    /// Default gateway.
    #[serde(default)]
    pub gateway: Option<Ipv4Addr>,
    /// Name servers.
    #[serde(default)]
    pub dns: Vec<Ipv4Addr>,
    /// Further routes.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// MTU, when not the driver's.
    #[serde(default)]
    pub mtu: Option<u32>,
}

/// Which interfaces a network is for; every given key must fit. None given: every Ethernet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// Driver (`virtio_net`).
    pub driver: Option<String>,
    /// Permanent hardware address, `aa:bb:cc:dd:ee:ff`.
    pub mac: Option<String>,
    /// Device path below /sys/devices, `*` for any run of characters.
    pub path: Option<String>,
}

/// An address with its prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ipv4Cidr {
    /// The address.
    pub address: Ipv4Addr,
    /// Bits of the network, 0 to 32.
    pub prefix: u8,
}

impl std::str::FromStr for Ipv4Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not an IPv4 address with a prefix, like 192.0.2.7/24");
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address = address.parse().map_err(|_| wrong())?;
        let prefix = prefix
            .parse()
            .ok()
            .filter(|bits| *bits <= 32)
            .ok_or_else(wrong)?;
        Ok(Self { address, prefix })
    }
}

impl TryFrom<String> for Ipv4Cidr {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Ipv4Cidr> for String {
    fn from(cidr: Ipv4Cidr) -> Self {
        format!("{}/{}", cidr.address, cidr.prefix)
    }
}

/// One static route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Destination network.
    pub to: Ipv4Cidr,
    /// Next hop.
    pub via: Ipv4Addr,
}
