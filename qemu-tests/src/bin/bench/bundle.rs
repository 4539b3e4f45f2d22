//! The OCI bundle that crun runs: the container as Berth's builder resolved it, so that both
//! start the same one, with the system call filter spelled out.

use berth_qemu_tests::Error;
use serde_json::{Value, json};

/// Turns Berth's OCI configuration into one that crun reads.
///
/// Berth names its filter and keeps it compiled; crun gets the profile that container tools ship
/// (`calls.txt`: what it allows without capabilities on x86_64).
pub(crate) fn config(container: &Value) -> Result<Value, Error> {
    let mut config = container["oci"].clone();
    let Some(linux) = config["linux"].as_object_mut() else {
        return Err(Error::broken("the container has no linux section"));
    };
    linux.remove("berthSeccomp");
    let calls: Vec<&str> = include_str!("calls.txt").lines().collect();
    let filter = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{ "names": calls, "action": "SCMP_ACT_ALLOW" }],
    });
    linux.insert("seccomp".into(), filter);
    Ok(config)
}
