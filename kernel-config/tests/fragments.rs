//! What the fragments promise as they stand, without building a kernel.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use berth_kernel_config::{Profile, Setting, Value, check};

/// A `.config` that has exactly what the profile asks for.
fn ideal(profile: Profile) -> String {
    profile
        .settings()
        .iter()
        .map(|it| match it.value {
            Value::Off => format!("# CONFIG_{} is not set\n", it.symbol),
            _ => format!("CONFIG_{}={}\n", it.symbol, it.value),
        })
        .collect()
}

fn asks_for(profile: Profile, symbol: &str) -> bool {
    profile
        .settings()
        .iter()
        .any(|it| it.symbol == symbol && it.value == Value::On)
}

#[test]
fn every_symbol_has_a_reason_that_says_something() {
    for setting in Profile::ALL.into_iter().flat_map(Profile::settings) {
        assert!(setting.reason.len() > 3, "{setting:?}");
    }
}

#[test]
fn no_profile_asks_for_a_symbol_twice() {
    for profile in Profile::ALL {
        let mut seen: HashMap<String, Setting> = HashMap::new();
        for setting in profile.settings() {
            if let Some(other) = seen.insert(setting.symbol.clone(), setting.clone()) {
                panic!("{profile}: {other:?} and {setting:?}");
            }
        }
    }
}

#[test]
fn every_fragment_belongs_to_a_profile() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fragments");
    let files: BTreeSet<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let used: BTreeSet<String> = Profile::ALL
        .into_iter()
        .flat_map(Profile::fragments)
        .map(|name| format!("{name}.config"))
        .collect();
    assert_eq!(files, used);
}

#[test]
fn a_configuration_passes_until_one_symbol_is_dropped_or_a_forbidden_one_appears() {
    for profile in Profile::ALL {
        let config = ideal(profile);
        assert_eq!(check(profile, &config), []);
        let dropped = check(profile, &config.replace("CONFIG_VIRTIO_BLK=y\n", ""));
        assert_eq!(dropped.len(), 1);
        let message = dropped[0].to_string();
        assert!(
            message.starts_with("fragments/virtio.config:")
                && message.contains("CONFIG_VIRTIO_BLK is to be y and is n"),
            "{message}"
        );
        let forbidden = check(profile, &(config + "CONFIG_MODULES=y\n"));
        assert_eq!(forbidden[0].setting.fragment, "forbidden");
    }
}

/// What moby's `contrib/check-config.sh` calls generally necessary on a 6.12 kernel, with either
/// cgroup version, and what it wants for user namespaces, seccomp and the overlay driver.
const MOBY: &str = "NAMESPACES NET_NS PID_NS IPC_NS UTS_NS CGROUPS CGROUP_CPUACCT CGROUP_DEVICE \
    CGROUP_FREEZER CGROUP_SCHED CPUSETS MEMCG KEYS VETH BRIDGE BRIDGE_NETFILTER IP_NF_FILTER \
    IP_NF_MANGLE IP_NF_TARGET_MASQUERADE IP6_NF_FILTER IP6_NF_MANGLE IP6_NF_TARGET_MASQUERADE \
    NETFILTER_XT_MATCH_ADDRTYPE NETFILTER_XT_MATCH_CONNTRACK NETFILTER_XT_MATCH_IPVS \
    NETFILTER_XT_MARK IP_NF_RAW IP_NF_NAT IP6_NF_RAW IP6_NF_NAT NF_NAT POSIX_MQUEUE CGROUP_BPF \
    USER_NS SECCOMP SECCOMP_FILTER OVERLAY_FS";

#[test]
fn nothing_that_moby_calls_necessary_is_missing_where_engines_may_run() {
    for profile in [Profile::Cloud, Profile::Metal] {
        for symbol in MOBY.split_whitespace() {
            assert!(
                asks_for(profile, symbol),
                "{profile} does not ask for {symbol}"
            );
        }
    }
}

#[test]
fn the_boot_chain_needs_no_initramfs_and_no_module() {
    for profile in Profile::ALL {
        for symbol in "EFI_STUB DM_INIT DM_VERITY EROFS_FS EFI_PARTITION DEVTMPFS_MOUNT VIRTIO_BLK \
            VIRTIO_PCI SERIAL_8250_CONSOLE CRYPTO_SHA256 EXT4_FS"
            .split_whitespace()
        {
            assert!(
                asks_for(profile, symbol),
                "{profile} does not ask for {symbol}"
            );
        }
    }
}
