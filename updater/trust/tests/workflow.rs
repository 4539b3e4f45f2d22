//! What a check asks for, keeps and forgets.

mod stage;

use berth_trust::json::{Map, Value};
use berth_trust::write::{
    DelegationPlan, Paths, Plan, Repository, Role, RolePlan, RootDraft, RootStatus, SigningKey,
    WriteError, check_identifiers,
};
use berth_trust::{Entry, Error, Limits};

use stage::{
    EDGE_PATH, Files, Machine, NOW, Publisher, changed, edge, in_days, new_key, parse, target,
};

#[test]
fn a_check_without_news_costs_one_small_file() {
    let publisher = Publisher::new();
    let mut machine = Machine::new(publisher.first_root());
    machine
        .check(&publisher.files)
        .expect("an honest repository");
    assert_eq!(
        machine.asked,
        [
            "2.root.json",
            "timestamp.json",
            "1.snapshot.json",
            "1.targets.json"
        ]
    );
    machine.check(&publisher.files).expect("the same again");
    assert_eq!(machine.asked, ["2.root.json", "timestamp.json"]);
}

#[test]
fn kept_bytes_are_those_that_came() {
    let publisher = Publisher::new();
    let mut machine = Machine::new(publisher.first_root());
    machine
        .check(&publisher.files)
        .expect("an honest repository");
    for role in ["timestamp", "snapshot", "targets"] {
        let kept = &machine.kept.0[&Entry::Role(role.to_owned())];
        let served = publisher.files.values();
        assert!(served.into_iter().any(|served| served == kept), "{role}");
    }
}

#[test]
fn damaged_files_on_the_disk_are_fetched_again() {
    let mut publisher = Publisher::new();
    publisher.rotate(|_| ());
    let mut machine = Machine::new(publisher.first_root());
    machine
        .check(&publisher.files)
        .expect("an honest repository");
    let good = machine.kept.clone();
    for entry in good.0.keys() {
        for damage in [&b""[..], b"{}", b"\0\0\0\0"] {
            machine.kept.0.insert(entry.clone(), damage.to_vec());
            machine.check(&publisher.files).expect("a healed disk");
            assert_eq!(machine.kept, good, "{entry}");
        }
        machine.kept.0.remove(entry);
        machine.check(&publisher.files).expect("a healed disk");
        assert_eq!(machine.kept, good, "{entry}");
    }
}

#[test]
fn whoever_writes_to_the_disk_cannot_bring_a_root_of_their_own() {
    let publisher = Publisher::new();
    let thief = Publisher::new();
    let mut machine = Machine::new(publisher.first_root());
    let mut root = RootDraft::after(&thief.first_root(), in_days(365)).expect("a root");
    root.set_threshold(Role::Root, 1);
    let root = root.finish().expect("a root");
    let root = berth_trust::write::sign(&root, &thief.root[0]).expect("a signature");
    machine.kept.0.insert(Entry::Root(2), root);
    machine
        .check(&publisher.files)
        .expect("the honest repository");
    machine
        .check(&thief.files)
        .expect_err("the thief's repository");
}

#[test]
fn roots_are_followed_one_by_one_and_the_last_one_counts() {
    let mut publisher = Publisher::new();
    for _ in 0..4 {
        // Those in between have expired; only the last one must not have.
        publisher.rotate(|draft| draft.set_expiry(NOW));
        publisher.replace_key(Role::Timestamp);
    }
    publisher.publish(&[edge()]);
    let mut machine = Machine::new(publisher.first_root());
    machine.check(&publisher.files).expect("the newest root");
    assert!(machine.kept.0.contains_key(&Entry::Root(9)));
    assert!(machine.asked.contains(&"10.root.json".to_owned()));

    // A machine whose image is new starts there, and one that has kept the roots asks for the next.
    machine.check(&publisher.files).expect("the same again");
    assert_eq!(machine.asked, ["10.root.json", "timestamp.json"]);

    let mut limited = Machine::new(publisher.first_root());
    limited.limits = Limits {
        root_rotations: 3,
        ..Limits::default()
    };
    limited
        .check(&publisher.files)
        .expect_err("a root that is too old");
    assert!(!limited.kept.0.contains_key(&Entry::Root(5)));
    // It goes on from there.
    limited.check(&publisher.files).expect_err("still too old");
    limited.limits = Limits::default();
    limited.check(&publisher.files).expect("the newest root");
}

#[test]
fn what_is_good_is_kept_although_a_later_file_is_not() {
    let mut publisher = Publisher::new();
    let mut machine = Machine::new(publisher.first_root());
    machine.check(&publisher.files).expect("version 1");
    publisher.publish(&[edge()]);
    publisher.files.remove("2.targets.json");
    let error = machine.check(&publisher.files).expect_err("a missing file");
    assert!(matches!(error, Error::Missing { name } if name == "2.targets.json"));
    assert_eq!(machine.trusts("timestamp"), Some(2));
    assert_eq!(machine.trusts("snapshot"), Some(2));
    assert_eq!(machine.trusts("targets"), Some(1));
}

#[test]
fn unknown_fields_and_keys_are_tolerated_but_signed() {
    let mut publisher = Publisher::new();
    let stranger = Map::from([
        ("keytype", Value::from("sphincs")),
        ("scheme", Value::from("sphincs-shake-128s")),
        (
            "keyval",
            Value::Map(Map::from([("public", Value::from("?"))])),
        ),
        ("x-owner", Value::Null),
    ]);
    let mut root = stage::parse(publisher.newest_root());
    let Some(Value::Map(signed)) = root.get_mut("signed") else {
        panic!("no root");
    };
    signed.set("version", Value::Int(2));
    signed.set(
        "x-note",
        Value::List(vec![Value::Bool(true), Value::Int(-7)]),
    );
    let Some(Value::Map(keys)) = signed.get_mut("keys") else {
        panic!("no keys");
    };
    keys.set("stranger", Value::Map(stranger));
    let Some(Value::Map(roles)) = signed.get_mut("roles") else {
        panic!("no roles");
    };
    let Some(Value::Map(role)) = roles.get_mut("timestamp") else {
        panic!("no role");
    };
    let Some(Value::List(keyids)) = role.get_mut("keyids") else {
        panic!("no keys");
    };
    keyids.insert(0, Value::from("stranger"));
    root.set("signatures", Value::List(Vec::new()));
    publisher.add_root(Value::Map(root).pretty().as_bytes(), &[0, 1]);
    // The writer keeps them when it makes the next root.
    publisher.rotate(|_| ());
    let text = String::from_utf8(publisher.newest_root().to_vec()).expect("text");
    assert!(text.contains("x-note") && text.contains("sphincs"));
    publisher.publish(&[edge()]);
    let mut machine = Machine::new(publisher.first_root());
    machine
        .check(&publisher.files)
        .expect("a tolerable repository");
    assert!(machine.kept.0.contains_key(&Entry::Root(3)));
}

/// A role that one key signs for, with one target of its own name.
fn role(name: &str, key: &SigningKey, paths: &[&str], terminating: bool) -> DelegationPlan {
    DelegationPlan {
        name: name.to_owned(),
        keys: vec![key.public().clone()],
        threshold: 1,
        terminating,
        paths: Paths::Patterns(paths.iter().map(|&path| path.to_owned()).collect()),
    }
}

#[test]
fn delegations_are_searched_depth_first_and_a_terminating_one_ends_the_search() {
    let mut publisher = Publisher::new();
    let key = new_key();
    let listing = |path: &str, delegations: Vec<DelegationPlan>| RolePlan {
        targets: vec![target(path, path.as_bytes())],
        delegations,
    };
    let plan = Plan {
        targets: Some(RolePlan {
            targets: vec![edge()],
            delegations: vec![
                role("a", &key, &["x/*"], false),
                role("last", &key, &["x/l*"], true),
                role("never", &key, &["x/l*", "y/*"], false),
            ],
        }),
        delegated: vec![
            (
                "a".to_owned(),
                listing("x/a", vec![role("deep", &key, &["x/*"], false)]),
                vec![&key],
            ),
            ("deep".to_owned(), listing("x/deep", Vec::new()), vec![&key]),
            ("last".to_owned(), listing("x/last", Vec::new()), vec![&key]),
            (
                "never".to_owned(),
                listing("y/never", Vec::new()),
                vec![&key],
            ),
        ],
    };
    publisher.publish_plan(&plan);
    let mut machine = Machine::new(publisher.first_root());
    let paths = [EDGE_PATH, "x/a", "x/deep", "x/last", "y/never"];
    let found = machine.find(&publisher.files, &paths).expect("all of them");
    assert_eq!(
        found.iter().map(|target| target.path()).collect::<Vec<_>>(),
        paths
    );
    let roles = machine.asked.iter().skip(4).map(String::as_str);
    let expected = ["1.a.json", "1.deep.json", "1.last.json", "1.never.json"];
    assert_eq!(roles.collect::<Vec<_>>(), expected);

    // The terminating role does not list it, so the one after it is not asked.
    let mut fresh = Machine::new(publisher.first_root());
    let error = fresh
        .find(&publisher.files, &["x/lost"])
        .expect_err("nothing");
    assert!(matches!(error, Error::NoSuchTarget { .. }));
    assert!(!fresh.asked.contains(&"1.never.json".to_owned()));

    // The number of roles that one search visits is capped.
    let mut limited = Machine::new(publisher.first_root());
    limited.limits.delegations = 1;
    let error = limited
        .find(&publisher.files, &["x/deep"])
        .expect_err("too many");
    assert!(matches!(
        error,
        Error::TooManyDelegations { visited: 1, .. }
    ));

    // Another publication leaves the delegated roles as they are.
    publisher.publish_plan(&Plan::default());
    machine
        .find(&publisher.files, &["x/deep"])
        .expect("still there");
}

#[test]
fn paths_are_delegated_by_their_hash() {
    let mut publisher = Publisher::new();
    let keys = [new_key(), new_key()];
    // SHA-256 of "bins/1" starts with 0 to 7, or not: one of the two bins has it.
    let halves: [&[&str]; 2] = [
        &["0", "1", "2", "3", "4", "5", "6", "7"],
        &["8", "9", "a", "b", "c", "d", "e", "f"],
    ];
    let hash = ring::digest::digest(&ring::digest::SHA256, b"bins/1");
    let bin = usize::from(hash.as_ref()[0] >> 7);
    let delegations = (0..2).map(|half| DelegationPlan {
        paths: Paths::HashPrefixes(halves[half].iter().map(|&one| one.to_owned()).collect()),
        ..role(&format!("bin-{half}"), &keys[half], &[], true)
    });
    let listing = RolePlan {
        targets: vec![target("bins/1", b"1")],
        delegations: Vec::new(),
    };
    publisher.publish_plan(&Plan {
        targets: Some(RolePlan {
            targets: vec![edge()],
            delegations: delegations.collect(),
        }),
        delegated: vec![(format!("bin-{bin}"), listing, vec![&keys[bin]])],
    });
    let mut machine = Machine::new(publisher.first_root());
    machine
        .find(&publisher.files, &["bins/1"])
        .expect("the target");
    assert_eq!(machine.asked.last(), Some(&format!("1.bin-{bin}.json")));
}

#[test]
fn nothing_is_published_that_no_client_would_accept() {
    let publisher = Publisher::new();
    let open = || {
        let repository = Repository::open(&mut |name| Ok(publisher.files.get(name).cloned()));
        repository.expect("a repository")
    };
    let expiries = berth_trust::write::Expiries {
        targets: in_days(90),
        snapshot: in_days(30),
        timestamp: in_days(7),
    };
    let stranger = new_key();
    let mut signers = publisher.signers();
    signers.snapshot = vec![&stranger];
    let refused = open().publish(&Plan::default(), &signers, expiries, NOW);
    assert!(
        matches!(refused, Err(WriteError::Unacceptable(_))),
        "{refused:?}"
    );
    let signers = publisher.signers();
    let refused = open().publish(&Plan::default(), &signers, expiries, in_days(8));
    assert!(
        matches!(refused, Err(WriteError::Unacceptable(_))),
        "{refused:?}"
    );
    let files = open()
        .publish(&Plan::default(), &signers, expiries, NOW)
        .expect("a state");
    assert_eq!(
        files.last().map(|file| file.name.as_str()),
        Some("timestamp.json")
    );
}

#[test]
fn the_timestamp_is_the_only_file_that_is_ever_replaced() {
    let mut publisher = Publisher::new();
    let before = publisher.files.clone();
    publisher.publish(&[edge(), target("edge/new.json", b"new")]);
    for (name, bytes) in &before {
        assert_eq!(
            publisher.files[name] == *bytes,
            name != "timestamp.json",
            "{name}"
        );
    }
}

#[test]
fn a_root_says_which_holders_have_to_sign_it_yet() {
    let publisher = Publisher::new();
    let first = publisher.first_root();
    let [alice, bob, carol] = [0, 1, 2].map(|holder| publisher.root[holder].public().id());
    let status = RootStatus::of(&first, None).expect("a root");
    assert!(status.complete());
    assert_eq!(status.unsigned_by, [carol]);

    // Carol leaves, Dave comes: two of the old and two of the new keys have to sign.
    let dave = new_key();
    let mut draft = RootDraft::after(&first, in_days(365)).expect("a root");
    draft.remove_key(Role::Root, carol).expect("Carol's key");
    draft.add_key(Role::Root, dave.public());
    assert!(draft.remove_key(Role::Root, carol).is_err());
    let mut root = draft.finish().expect("a root");
    for (key, complete) in [
        (&dave, false),
        (&publisher.root[0], false),
        (&publisher.root[1], true),
        (&publisher.root[1], true),
    ] {
        root = berth_trust::write::sign(&root, key).expect("a signature");
        let status = RootStatus::of(&root, Some(&first)).expect("a root");
        assert_eq!(status.complete(), complete);
    }
    let status = RootStatus::of(&root, Some(&first)).expect("a root");
    let old = status.previous.expect("the root before");
    assert_eq!(
        (old.signed_by, old.threshold),
        (vec![alice.to_owned(), bob.to_owned()], 2)
    );

    let mut draft = RootDraft::after(&first, in_days(365)).expect("a root");
    draft.set_threshold(Role::Root, 4);
    assert!(matches!(
        draft.finish(),
        Err(WriteError::TooFewKeys { keys: 3, .. })
    ));
}

/// A repository whose lists somebody without keys has changed in every way that keeps them
/// readable, one way after the other.
#[test]
fn what_nobody_signed_is_never_signed_again() {
    let open = |files: &Files| Repository::open(&mut |name| Ok(files.get(name).cloned()));
    let mut publisher = Publisher::new();
    publisher.publish(&[edge()]);
    let honest = publisher.files.clone();
    assert!(open(&honest).expect("honest").targets_are_vouched_for());
    let edit = |bytes: &[u8], from: &str, to: &str| {
        let text = String::from_utf8(bytes.to_vec()).expect("text");
        assert!(text.contains(from), "{from} in {text}");
        text.replace(from, to).into_bytes()
    };
    let mut lists = honest.clone();
    lists.insert(
        "2.targets.json".to_owned(),
        edit(&honest["2.targets.json"], EDGE_PATH, "edge/other.json"),
    );
    let refused = |files: &Files| match open(files) {
        Err(WriteError::Published(why)) => why,
        other => panic!("{:?}", other.err()),
    };
    assert!(matches!(refused(&lists), Error::WrongContent { role } if role == "targets"));

    // Without lengths and hashes nothing but the signatures tells.
    let bare = |name: &str, of: &str| {
        let mut file = parse(&honest[name]);
        let signed = file.get_mut("signed").expect("signed");
        let (Value::Map(signed), version) = (signed, Value::Int(2)) else {
            panic!("signed is a map")
        };
        let meta = Map::from([(of, Value::Map(Map::from([("version", version)])))]);
        signed.set("meta", Value::Map(meta));
        Value::Map(file).text().into_bytes()
    };
    for (name, of) in [
        ("timestamp.json", "snapshot.json"),
        ("2.snapshot.json", "targets.json"),
    ] {
        lists.insert(name.to_owned(), bare(name, of));
    }
    let refused_by = |files: &Files, role: &str| match refused(files) {
        Error::TooFewSignatures { role: named, .. } => assert_eq!(named, role),
        other => panic!("{other}"),
    };
    refused_by(&lists, "timestamp");
    lists.insert(
        "timestamp.json".to_owned(),
        honest["timestamp.json"].clone(),
    );
    assert!(matches!(refused(&lists), Error::WrongContent { role } if role == "snapshot"));
    // A thief of the two lesser keys cannot bring targets either.
    publisher.files = lists;
    for (name, role) in [
        ("2.snapshot.json", Role::Snapshot),
        ("timestamp.json", Role::Timestamp),
    ] {
        publisher.forge(name, role, |_| ());
    }
    publisher.point_to_snapshot(2);
    refused_by(&publisher.files, "targets");
}

#[test]
fn what_the_keys_of_an_older_root_signed_is_known_as_that() {
    let mut publisher = Publisher::new();
    publisher.publish(&[edge()]);
    let open = |publisher: &Publisher| {
        let files = &publisher.files;
        let repository = Repository::open(&mut |name| Ok(files.get(name).cloned()));
        repository.expect("a repository")
    };
    // Another holder: the keys that sign now are the same.
    publisher.rotate(|_| ());
    assert!(open(&publisher).targets_are_vouched_for());
    publisher.replace_key(Role::Snapshot);
    publisher.replace_key(Role::Timestamp);
    assert!(open(&publisher).targets_are_vouched_for());
    publisher.replace_key(Role::Targets);
    let opened = open(&publisher);
    assert_eq!(opened.root().version, 5);
    assert!(!opened.targets_are_vouched_for());
    assert_eq!(opened.targets().count(), 1);
    let old = publisher.files["2.targets.json"].clone();
    publisher.publish(&[edge()]);
    let opened = open(&publisher);
    assert!(opened.targets_are_vouched_for());
    let listed = opened.earlier_targets(&old).expect("signed once");
    assert_eq!(listed.targets().count(), 1);
    let forged = changed(&old, &new_key(), |_| ());
    assert!(opened.earlier_targets(&forged).is_err());
}

#[test]
fn a_key_under_the_name_of_another_is_told() {
    let publisher = Publisher::new();
    assert_eq!(check_identifiers(&publisher.first_root()), Ok(()));
    // The identifier of a holder, and somebody else's key.
    let mut file = parse(&publisher.first_root());
    let mut value = file.get_mut("signed").expect("signed");
    for name in ["keys", publisher.root[2].public().id(), "keyval"] {
        value = match value {
            Value::Map(map) => map.get_mut(name).expect(name),
            other => panic!("{other:?}"),
        };
    }
    let public = "00".repeat(32);
    *value = Value::Map(Map::from([("public", Value::from(public.as_str()))]));
    let refused = check_identifiers(Value::Map(file).text().as_bytes());
    assert!(
        matches!(&refused, Err(WriteError::MisnamedKey { keyid, .. })
            if keyid == publisher.root[2].public().id()),
        "{refused:?}"
    );

    // Names and further fields of other tools deceive nobody.
    let text = String::from_utf8(publisher.first_root()).expect("text");
    let named = text.replace(publisher.root[2].public().id(), "carol");
    assert_eq!(check_identifiers(named.as_bytes()), Ok(()));
    let more = text.replace("\"keytype\":", "\"x-owner\": \"carol\", \"keytype\":");
    assert_ne!(more, text);
    assert_eq!(check_identifiers(more.as_bytes()), Ok(()));
}

#[test]
fn versions_that_a_thief_made_enormous_are_not_gone_on_with() {
    let open = |files: &Files| Repository::open(&mut |name| Ok(files.get(name).cloned()));
    let mut publisher = Publisher::new();
    publisher.publish(&[edge()]);
    let honest = publisher.files.clone();
    publisher.forge("timestamp.json", Role::Timestamp, |signed| {
        signed.set("version", Value::Int(i64::MAX - 5));
    });
    publisher.replace_key(Role::Timestamp);
    let refused = open(&publisher.files).err();
    assert!(
        matches!(&refused, Some(WriteError::Enormous { role, .. }) if role == "timestamp"),
        "{refused:?}"
    );
    // As the sentence says: the files of before, with the new root.
    let timestamp = honest["timestamp.json"].clone();
    publisher
        .files
        .insert("timestamp.json".to_owned(), timestamp);
    publisher.publish(&[edge()]);
    let mut machine = Machine::new(publisher.first_root());
    machine.check(&publisher.files).expect("the honest version");
    assert_eq!(machine.trusts("timestamp"), Some(3));

    // A timestamp that is lost is not begun anew: no machine would take version 1 again.
    publisher.files.remove("timestamp.json");
    let refused = open(&publisher.files).err();
    assert!(
        matches!(&refused, Some(WriteError::Missing { name }) if name == "timestamp.json"),
        "{refused:?}"
    );
}
