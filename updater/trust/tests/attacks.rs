//! The attacks of the TUF specification (section 1.5.2, and fast forward), each by its name, on a
//! machine that has been in the field for a while or is new.

mod stage;

use berth_trust::json::{Map, Value};
use berth_trust::pace::MinimumRate;
use berth_trust::release::{Installed, Misfit, Release};
use berth_trust::write::{DelegationPlan, Paths, Plan, Role, RolePlan, TargetFile};
use berth_trust::{Error, Limits, TargetError, Time};

use stage::{BUILT, EDGE, EDGE_PATH, Machine, NOW, Publisher, changed, edge, new_key, target};

/// A publisher at its second version and a machine that has seen it.
fn in_the_field() -> (Publisher, Machine) {
    let mut publisher = Publisher::new();
    publisher.publish(&[edge()]);
    let mut machine = Machine::new(publisher.first_root());
    machine
        .check(&publisher.files)
        .expect("an honest repository");
    (publisher, machine)
}

#[test]
fn arbitrary_software() {
    let (mut publisher, mut machine) = in_the_field();
    let found = machine
        .find(&publisher.files, &[EDGE_PATH])
        .expect("the target");
    assert_eq!(found[0].verify(EDGE), Ok(()));
    let other = vec![b'x'; EDGE.len()];
    assert_eq!(found[0].verify(&other), Err(TargetError::WrongHash));

    // A server that signs its own list of targets with its own keys gets nowhere either.
    let thief = new_key();
    let listed = target("edge/evil.json", &other);
    for name in ["3.targets.json", "3.snapshot.json", "timestamp.json"] {
        let old = name.replace('3', "2");
        let forged = changed(&publisher.files[&old], &thief, |signed| {
            signed.set("version", Value::Int(3));
        });
        publisher.files.insert(name.to_owned(), forged);
    }
    let error = machine
        .find(&publisher.files, &[&listed.path])
        .expect_err("a refusal");
    assert!(matches!(error, Error::TooFewSignatures { role, valid: 0, .. } if role == "timestamp"));
    assert_eq!(machine.trusts("timestamp"), Some(2));
}

#[test]
fn rollback_of_the_root() {
    let (mut publisher, mut machine) = in_the_field();
    publisher.rotate(|_| ());
    machine.check(&publisher.files).expect("the new root");
    let old = publisher.first_root();
    publisher.files.insert("3.root.json".to_owned(), old);
    let error = machine.check(&publisher.files).expect_err("a refusal");
    assert_eq!(
        error,
        Error::WrongVersion {
            role: "root".to_owned(),
            expected: 3,
            found: 1
        }
    );
}

#[test]
fn rollback_of_the_timestamp() {
    let mut publisher = Publisher::new();
    let old = publisher.files["timestamp.json"].clone();
    publisher.publish(&[edge()]);
    let mut machine = Machine::new(publisher.first_root());
    machine.check(&publisher.files).expect("version 2");
    publisher.files.insert("timestamp.json".to_owned(), old);
    let error = machine.check(&publisher.files).expect_err("a refusal");
    assert!(matches!(error, Error::Rollback { role, .. } if role == "timestamp"));
    assert_eq!(machine.trusts("timestamp"), Some(2));
}

#[test]
fn rollback_of_the_snapshot() {
    let (mut publisher, mut machine) = in_the_field();
    publisher.point_to_snapshot(1);
    let error = machine.check(&publisher.files).expect_err("a refusal");
    assert!(matches!(error, Error::Rollback { role, .. } if role == "snapshot"));
    assert_eq!(machine.trusts("timestamp"), Some(2));
}

#[test]
fn rollback_of_the_targets() {
    let (mut publisher, mut machine) = in_the_field();
    publisher.publish(&[edge()]);
    let old = stage::meta_of(1, &publisher.files["1.targets.json"]);
    publisher.forge("3.snapshot.json", Role::Snapshot, |signed| {
        signed.set("meta", Value::Map(Map::from([("targets.json", old)])));
    });
    publisher.point_to_snapshot(3);
    let error = machine.check(&publisher.files).expect_err("a refusal");
    assert!(matches!(error, Error::Rollback { role, .. } if role == "targets.json"));
    assert_eq!(machine.trusts("snapshot"), Some(2));
}

#[test]
fn rollback_by_leaving_a_role_out() {
    let (mut publisher, mut machine) = in_the_field();
    publisher.publish(&[edge()]);
    publisher.forge("3.snapshot.json", Role::Snapshot, |signed| {
        signed.set("meta", Value::Map(Map::default()));
    });
    publisher.point_to_snapshot(3);
    let error = machine.check(&publisher.files).expect_err("a refusal");
    assert!(matches!(error, Error::Removed { role } if role == "targets.json"));
}

#[test]
fn rollback_of_the_operating_system() {
    let running = installed("1.10.0", 4);
    assert_eq!(release("1.10.0", 4).fits(&running), Ok(()));
    assert_eq!(release("1.10.1", 4).fits(&running), Ok(()));
    for older in ["1.9.9", "1.10.0-rc1", "1.10", "0.99"] {
        let misfit = release(older, 4).fits(&running).expect_err(older);
        assert!(matches!(misfit, Misfit::Older { .. }), "{older}");
    }
    let misfit = release("2.0.0", 3).fits(&running).expect_err("unsafe");
    let (offered, installed) = (3, 4);
    assert_eq!(misfit, Misfit::Unsafe { offered, installed });
}

#[test]
fn indefinite_freeze() {
    let (publisher, mut machine) = in_the_field();
    machine.now = stage::in_days(8);
    let error = machine.check(&publisher.files).expect_err("a refusal");
    assert!(matches!(error, Error::Expired { role, .. } if role == "timestamp"));

    // Setting the clock back does not thaw what had expired when the image was built.
    let mut publisher = Publisher::new();
    publisher.forge("timestamp.json", Role::Timestamp, |signed| {
        let expired = Time(BUILT.0 - 1).to_string();
        signed.set("expires", Value::from(expired.as_str()));
    });
    let mut machine = Machine::new(publisher.first_root());
    for clock in [Time(0), Time(i64::MIN), BUILT] {
        machine.now = clock;
        let error = machine.check(&publisher.files).expect_err("a refusal");
        assert!(
            matches!(error, Error::Expired { now: BUILT, .. }),
            "{error}"
        );
    }
}

#[test]
fn freeze_of_each_role() {
    for role in [Role::Root, Role::Timestamp, Role::Snapshot, Role::Targets] {
        let mut publisher = Publisher::new();
        let expire = |signed: &mut Map| {
            signed.set("expires", Value::from(NOW.to_string().as_str()));
        };
        match role {
            Role::Root => publisher.rotate(|draft| draft.set_expiry(NOW)),
            Role::Timestamp => publisher.forge("timestamp.json", role, expire),
            Role::Snapshot => {
                publisher.forge("1.snapshot.json", role, expire);
                publisher.point_to_snapshot(1);
            }
            Role::Targets => {
                publisher.forge("1.targets.json", role, expire);
                publisher.list_again("targets", 1);
            }
        }
        let mut machine = Machine::new(publisher.first_root());
        let error = machine.check(&publisher.files).expect_err("a refusal");
        let expired = matches!(&error, Error::Expired { role: found, .. } if found == role.name());
        assert!(expired, "{role}: {error}");
    }
}

#[test]
fn endless_data() {
    let publisher = Publisher::new();
    let limits = Limits::default();
    for (name, cap) in [
        ("2.root.json", limits.root_bytes),
        ("timestamp.json", limits.timestamp_bytes),
        // These two are announced with their exact lengths.
        (
            "1.snapshot.json",
            publisher.files["1.snapshot.json"].len() as u64,
        ),
        (
            "1.targets.json",
            publisher.files["1.targets.json"].len() as u64,
        ),
    ] {
        let mut files = publisher.files.clone();
        let length = usize::try_from(cap + 1).expect("a length");
        let entry = files.entry(name.to_owned()).or_default();
        entry.resize(length, b' ');
        let mut machine = Machine::new(publisher.first_root());
        let error = machine.check(&files).expect_err("a refusal");
        let (name, limit) = (name.to_owned(), cap);
        assert_eq!(error, Error::TooLong { name, limit });
    }

    let mut machine = Machine::new(publisher.first_root());
    let found = machine
        .find(&publisher.files, &[EDGE_PATH])
        .expect("the target");
    let mut check = found[0].check();
    check.update(EDGE).expect("all bytes");
    let length = EDGE.len() as u64;
    assert_eq!(check.update(b"x"), Err(TargetError::TooLong { length }));
}

#[test]
fn extraneous_dependencies() {
    let (mut publisher, mut machine) = in_the_field();
    // Nothing that is not listed is found, whatever lies on the server.
    let error = machine
        .find(&publisher.files, &["edge/helper.json"])
        .expect_err("nothing");
    assert!(matches!(error, Error::NoSuchTarget { .. }));

    // A role that may speak for drivers cannot add a part of the operating system.
    let vendor = new_key();
    let role = RolePlan {
        targets: vec![
            target("edge/helper.json", b"x"),
            target("drivers/gpu", b"y"),
        ],
        delegations: Vec::new(),
    };
    publisher.publish_plan(&Plan {
        targets: Some(RolePlan {
            targets: vec![edge()],
            delegations: vec![DelegationPlan {
                name: "vendor".to_owned(),
                keys: vec![vendor.public().clone()],
                threshold: 1,
                terminating: false,
                paths: Paths::Patterns(vec!["drivers/*".to_owned(), "edge/helper.json".to_owned()]),
            }],
        }),
        delegated: vec![("vendor".to_owned(), role, vec![&vendor])],
    });
    publisher.forge("3.targets.json", Role::Targets, |signed| {
        let delegations = signed.get_mut("delegations").and_then(|value| match value {
            Value::Map(map) => map.get_mut("roles"),
            _ => None,
        });
        let Some(Value::List(roles)) = delegations else {
            panic!("no delegations");
        };
        let Some(Value::Map(role)) = roles.first_mut() else {
            panic!("no role");
        };
        role.set("paths", Value::List(vec![Value::from("drivers/*")]));
    });
    publisher.list_again("targets", 3);
    let found = machine.find(&publisher.files, &["drivers/gpu"]);
    assert!(found.is_ok(), "{found:?}");
    let error = machine
        .find(&publisher.files, &["edge/helper.json"])
        .expect_err("nothing");
    assert!(matches!(error, Error::NoSuchTarget { .. }));
}

#[test]
fn mix_and_match() {
    let mut publisher = Publisher::new();
    publisher.publish(&[edge(), target("edge/new.json", b"new")]);
    // The server combines an old list of targets with the new snapshot, and the other way round.
    for (name, other) in [
        ("2.targets.json", "1.targets.json"),
        ("2.snapshot.json", "1.snapshot.json"),
    ] {
        let mut files = publisher.files.clone();
        let mixed = files[other].clone();
        files.insert(name.to_owned(), mixed);
        let mut machine = Machine::new(publisher.first_root());
        let error = machine.check(&files).expect_err("a refusal");
        let refused = matches!(error, Error::WrongContent { .. } | Error::TooLong { .. });
        assert!(refused, "{name}: {error}");
    }
}

#[test]
fn mix_and_match_without_hashes() {
    let mut publisher = Publisher::new();
    publisher.publish(&[edge()]);
    let version_only = Value::Map(Map::from([("version", Value::Int(2))]));
    publisher.forge("2.snapshot.json", Role::Snapshot, |signed| {
        signed.set(
            "meta",
            Value::Map(Map::from([("targets.json", version_only)])),
        );
    });
    publisher.point_to_snapshot(2);
    let old = publisher.files["1.targets.json"].clone();
    publisher.files.insert("2.targets.json".to_owned(), old);
    let mut machine = Machine::new(publisher.first_root());
    let error = machine.check(&publisher.files).expect_err("a refusal");
    assert!(
        matches!(
            error,
            Error::WrongVersion {
                expected: 2,
                found: 1,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn wrong_software() {
    let mut publisher = Publisher::new();
    let offered = release("1.10.1", 4);
    publisher.publish(&[TargetFile {
        custom: Some(offered.custom()),
        ..edge()
    }]);
    let mut machine = Machine::new(publisher.first_root());
    let found = machine
        .find(&publisher.files, &[EDGE_PATH])
        .expect("the target");
    let found = Release::of(&found[0]).expect("a release");
    assert_eq!(found, offered);

    let right = installed("1.10.0", 4);
    assert_eq!(found.fits(&right), Ok(()));
    let wrong = Installed {
        product: "shop",
        ..right
    };
    assert!(matches!(found.fits(&wrong), Err(Misfit::Product { .. })));
    let wrong = Installed {
        profile: "metal",
        ..right
    };
    assert!(matches!(found.fits(&wrong), Err(Misfit::Profile { .. })));
    let wrong = Installed {
        architecture: "aarch64",
        ..right
    };
    assert!(matches!(
        found.fits(&wrong),
        Err(Misfit::Architecture { .. })
    ));
}

#[test]
fn software_that_does_not_say_what_it_is() {
    let publisher = Publisher::new();
    let mut machine = Machine::new(publisher.first_root());
    let found = machine
        .find(&publisher.files, &[EDGE_PATH])
        .expect("the target");
    assert!(Release::of(&found[0]).is_err());
}

#[test]
fn slow_retrieval() {
    let rate = MinimumRate {
        bytes_per_s: 1_000,
        grace_ms: 30_000,
    };
    // Nothing is asked in the beginning.
    assert!(!rate.too_slow(0, 30_000));
    // A server that sends one byte a second is given up soon after.
    assert!(rate.too_slow(31, 31_000));
    // One that is fast enough on average may pause.
    assert!(!rate.too_slow(1_000_000, 1_000_000));
    assert!(rate.too_slow(1_000_000, 1_100_000));
    assert!(!rate.too_slow(u64::MAX, u64::MAX));
    assert!(rate.too_slow(0, u64::MAX));
}

#[test]
fn key_compromise_below_the_threshold() {
    let (mut publisher, mut machine) = in_the_field();
    // One of the two root signatures that are needed.
    let thief = new_key();
    let mut draft =
        berth_trust::write::RootDraft::after(publisher.newest_root(), stage::in_days(365))
            .expect("a root");
    draft.add_key(Role::Targets, thief.public());
    let unsigned = draft.finish().expect("a root");
    publisher.add_root(&unsigned, &[2]);
    let error = machine.check(&publisher.files).expect_err("a refusal");
    let (valid, threshold) = (1, 2);
    let role = "root".to_owned();
    assert_eq!(
        error,
        Error::TooFewSignatures {
            role,
            valid,
            threshold
        }
    );
    publisher.files.remove("2.root.json");

    // The keys of timestamp and snapshot, which lie on the server, cannot list another target.
    publisher.publish(&[edge()]);
    let forged = changed(
        &publisher.files["3.targets.json"],
        &publisher.snapshot,
        |signed| {
            signed.set("targets", Value::Map(Map::default()));
        },
    );
    publisher.files.insert("3.targets.json".to_owned(), forged);
    publisher.list_again("targets", 3);
    let error = machine.check(&publisher.files).expect_err("a refusal");
    assert!(matches!(error, Error::TooFewSignatures { role, .. } if role == "targets"));
    assert_eq!(machine.trusts("targets"), Some(2));
}

#[test]
fn the_same_key_under_two_names_counts_once() {
    let mut publisher = Publisher::new();
    let unsigned = {
        let mut root = stage::parse(publisher.newest_root());
        let Some(Value::Map(signed)) = root.get_mut("signed") else {
            panic!("no root");
        };
        signed.set("version", Value::Int(2));
        let alias = signed.get("keys").and_then(Value::as_map).expect("keys");
        let id = publisher.timestamp.public().id();
        let key = alias.get(id).expect("the timestamp's key").clone();
        let Some(Value::Map(keys)) = signed.get_mut("keys") else {
            panic!("no keys");
        };
        keys.set("alias", key);
        let Some(Value::Map(roles)) = signed.get_mut("roles") else {
            panic!("no roles");
        };
        let keyids = vec![Value::from(id), Value::from("alias")];
        let role = Map::from([
            ("keyids", Value::List(keyids)),
            ("threshold", Value::Int(2)),
        ]);
        roles.set("timestamp", Value::Map(role));
        root.set("signatures", Value::List(Vec::new()));
        Value::Map(root).text().into_bytes()
    };
    publisher.add_root(&unsigned, &[0, 1]);
    // The thief of one key signs under both names.
    let mut timestamp = stage::parse(&publisher.files["timestamp.json"]);
    let Some(Value::List(signatures)) = timestamp.get_mut("signatures") else {
        panic!("no signatures");
    };
    let Some(Value::Map(mut again)) = signatures.first().cloned() else {
        panic!("no signature");
    };
    again.set("keyid", Value::from("alias"));
    signatures.push(Value::Map(again));
    let bytes = Value::Map(timestamp).text().into_bytes();
    publisher.files.insert("timestamp.json".to_owned(), bytes);
    let mut machine = Machine::new(publisher.first_root());
    let error = machine.check(&publisher.files).expect_err("a refusal");
    let (valid, threshold) = (1, 2);
    let role = "timestamp".to_owned();
    assert_eq!(
        error,
        Error::TooFewSignatures {
            role,
            valid,
            threshold
        }
    );
}

#[test]
fn fast_forward_recovery_of_the_timestamp() {
    let (mut publisher, mut machine) = in_the_field();
    publisher.forge("timestamp.json", Role::Timestamp, |signed| {
        signed.set("version", Value::Int(i64::MAX));
    });
    machine.check(&publisher.files).expect("a signed timestamp");
    assert_eq!(machine.trusts("timestamp"), Some(i64::MAX));

    publisher.replace_key(Role::Timestamp);
    publisher.forge("timestamp.json", Role::Timestamp, |signed| {
        signed.set("version", Value::Int(3));
    });
    machine
        .check(&publisher.files)
        .expect("the recovered repository");
    assert_eq!(machine.trusts("timestamp"), Some(3));
}

#[test]
fn fast_forward_recovery_of_snapshot_and_targets() {
    let (mut publisher, mut machine) = in_the_field();
    // The thief of snapshot's and timestamp's keys names versions that nobody ever reaches.
    let name = format!("{}.snapshot.json", i64::MAX);
    let forged = changed(
        &publisher.files["2.snapshot.json"],
        &publisher.snapshot,
        |signed| {
            signed.set("version", Value::Int(i64::MAX));
            let targets = Map::from([("version", Value::Int(i64::MAX))]);
            let meta = Map::from([("targets.json", Value::Map(targets))]);
            signed.set("meta", Value::Map(meta));
        },
    );
    publisher.files.insert(name, forged);
    let honest = publisher.files["timestamp.json"].clone();
    publisher.point_to_snapshot(i64::MAX.unsigned_abs());
    let error = machine
        .check(&publisher.files)
        .expect_err("no such targets");
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    assert_eq!(machine.trusts("snapshot"), Some(i64::MAX));

    // Honest again, but the machine has seen the high versions.
    publisher.files.insert("timestamp.json".to_owned(), honest);
    assert!(machine.check(&publisher.files).is_err());
    publisher.replace_key(Role::Snapshot);
    publisher.replace_key(Role::Timestamp);
    publisher.publish(&[edge()]);
    machine
        .check(&publisher.files)
        .expect("the recovered repository");
    assert_eq!(machine.trusts("snapshot"), Some(3));
    assert_eq!(machine.trusts("targets"), Some(3));
}

#[test]
fn fast_forward_recovery_with_one_of_two_keys_replaced() {
    let (mut publisher, mut machine) = in_the_field();
    // Two keys may sign the timestamp, one is enough; the thief has one of them.
    let second = new_key();
    publisher.rotate(|draft| draft.add_key(Role::Timestamp, second.public()));
    let honest = publisher.files["timestamp.json"].clone();
    publisher.forge("timestamp.json", Role::Timestamp, |signed| {
        signed.set("version", Value::Int(i64::MAX));
    });
    // Both signed what the thief wanted, so that it stays valid under the key that is kept.
    let both = berth_trust::write::sign(&publisher.files["timestamp.json"], &second);
    publisher
        .files
        .insert("timestamp.json".to_owned(), both.expect("a signature"));
    machine.check(&publisher.files).expect("a signed timestamp");

    let stolen = publisher.timestamp.public().id().to_owned();
    publisher.rotate(|draft| draft.remove_key(Role::Timestamp, &stolen).expect("the key"));
    let signed = changed(&honest, &second, |signed| {
        signed.set("version", Value::Int(3));
    });
    publisher.files.insert("timestamp.json".to_owned(), signed);
    machine
        .check(&publisher.files)
        .expect("the recovered repository");
    assert_eq!(machine.trusts("timestamp"), Some(3));
}

fn release(version: &str, security_version: u64) -> Release {
    Release {
        product: "edge".to_owned(),
        profile: "cloud".to_owned(),
        architecture: "x86_64".to_owned(),
        version: version.to_owned(),
        security_version,
    }
}

fn installed(version: &str, security_version: u64) -> Installed<'_> {
    Installed {
        product: "edge",
        profile: "cloud",
        architecture: "x86_64",
        version,
        security_version,
    }
}
