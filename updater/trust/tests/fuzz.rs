//! The metadata reader on hostile bytes: published files with changed bytes, and with changed
//! structure under good signatures, so that the code behind the signatures is reached as well.
//! Runs for `BERTH_FUZZ_SECONDS` (2) from `BERTH_FUZZ_SEED`, and prints what repeats it.

mod stage;

use std::time::Instant;

use berth_chance::{Random, peak_kib};
use berth_trust::json::{Map, Value};
use berth_trust::write::{DelegationPlan, Paths, Plan, RolePlan, SigningKey, sign};
use berth_trust::{Entry, Limits};

use stage::{EDGE_PATH, Files, Machine, Publisher, edge, new_key, target};

/// The whole process, with a repository, a machine and one hostile file.
const MOST_MEMORY_KIB: u64 = 16 << 10;

#[test]
fn hostile_metadata_neither_stops_the_reader_nor_takes_a_machine_back() {
    let (publisher, vendor) = repository();
    let mut field = Machine::new(publisher.first_root());
    field.check(&publisher.files).expect("an honest repository");
    let names: Vec<&String> = publisher.files.keys().collect();
    let (mut random, end) = berth_chance::fuzz("trust");
    let (mut count, mut accepted) = (0_u64, 0_u64);
    while Instant::now() < end {
        let name = *random.pick(&names);
        let honest = &publisher.files[name];
        let hostile = match random.below(3) {
            0 => changed_bytes(honest, &publisher.files, &mut random),
            _ => changed_structure(name, honest, &publisher, &vendor, &mut random),
        };
        read(&hostile);
        let mut files = publisher.files.clone();
        files.insert(name.clone(), hostile);
        for mut machine in [Machine::new(publisher.first_root()), field.again()] {
            let before = versions(&machine);
            let path = *random.pick(&[EDGE_PATH, "drivers/gpu", "bins/1", "", "*", "../x"]);
            let found = machine.find(&files, &[path]);
            accepted += u64::from(found.is_ok());
            for target in found.iter().flatten() {
                let _ = (target.url(), target.file_name(), target.verify(b"x"));
                let _ = berth_trust::release::Release::of(target);
            }
            let after = versions(&machine);
            // A root may replace keys, and what they signed is then forgotten.
            for (role, version) in before.iter().filter(|_| !name.ends_with("root.json")) {
                let kept = after.iter().find(|(other, _)| other == role);
                let kept = kept.is_some_and(|(_, kept)| kept >= version);
                assert!(kept, "{role} went back");
            }
            count += 1;
        }
    }
    let peak = peak_kib();
    println!("fuzz: trust checks={count} accepted={accepted} peak={peak} KiB");
    assert!(peak <= MOST_MEMORY_KIB, "{peak} KiB");
}

/// A repository with everything in it that a reader has to understand.
fn repository() -> (Publisher, SigningKey) {
    let mut publisher = Publisher::new();
    publisher.rotate(|_| ());
    let vendor = new_key();
    let role = |name: &str, paths: Paths| DelegationPlan {
        name: name.to_owned(),
        keys: vec![vendor.public().clone()],
        threshold: 1,
        terminating: false,
        paths,
    };
    let listing = |path: &str| RolePlan {
        targets: vec![target(path, b"x")],
        delegations: Vec::new(),
    };
    let patterns = ["drivers/[!a-f]?*", "drivers/*"].map(str::to_owned);
    let digits = (0..16).map(|digit| format!("{digit:x}"));
    publisher.publish_plan(&Plan {
        targets: Some(RolePlan {
            targets: vec![edge()],
            delegations: vec![
                role("vendor", Paths::Patterns(patterns.to_vec())),
                role("bins", Paths::HashPrefixes(digits.collect())),
            ],
        }),
        delegated: vec![
            ("vendor".to_owned(), listing("drivers/gpu"), vec![&vendor]),
            ("bins".to_owned(), listing("bins/1"), vec![&vendor]),
        ],
    });
    (publisher, vendor)
}

fn versions(machine: &Machine) -> Vec<(String, i64)> {
    let roles = machine
        .kept
        .0
        .iter()
        .filter_map(|(entry, bytes)| match entry {
            Entry::Role(role) => Some((role.clone(), stage::version_of(bytes))),
            Entry::Root(_) => None,
        });
    roles.collect()
}

/// What is read is written and read as the same.
fn read(bytes: &[u8]) {
    let limits = Limits::default();
    let Ok(value) = Value::parse(bytes, &limits) else {
        return;
    };
    for text in [value.text(), value.pretty()] {
        assert_eq!(Value::parse(text.as_bytes(), &limits), Ok(value.clone()));
    }
    let canonical = value.canonical();
    if let Ok(again) = Value::parse(&canonical, &limits) {
        assert_eq!(again.canonical(), canonical);
    }
}

fn changed_bytes(honest: &[u8], files: &Files, random: &mut Random) -> Vec<u8> {
    let mut bytes = honest.to_vec();
    for _ in 0..=random.below(4) {
        let (a, b) = (random.below(bytes.len()), random.below(bytes.len()));
        let (from, to) = (a.min(b), a.max(b));
        match random.below(6) {
            0 if !bytes.is_empty() => bytes[from] ^= 1 << random.below(8),
            1 => bytes.truncate(from),
            2 => drop(bytes.drain(from..to)),
            3 => {
                let again = bytes[from..to].to_vec();
                bytes.splice(to..to, again);
            }
            4 => {
                let token = *random.pick(&[&b"{"[..], b"[", b"\"", b"\\u", b"-", b"1e9", b"\0"]);
                bytes.splice(from..from, token.iter().copied());
            }
            _ => {
                let others: Vec<&Vec<u8>> = files.values().collect();
                let other = *random.pick(&others);
                let start = random.below(other.len());
                bytes.splice(from..to, other[start..].iter().copied());
            }
        }
    }
    bytes
}

/// Changes what the file says, and signs it with the role's keys.
fn changed_structure(
    name: &str,
    honest: &[u8],
    publisher: &Publisher,
    vendor: &SigningKey,
    random: &mut Random,
) -> Vec<u8> {
    let mut file = Value::Map(stage::parse(honest));
    for _ in 0..=random.below(3) {
        change(&mut file, random);
    }
    let Value::Map(mut map) = file else {
        return file.text().into_bytes();
    };
    if random.below(8) > 0 {
        map.set("signatures", Value::List(Vec::new()));
    }
    let keys: Vec<&SigningKey> = match name {
        "timestamp.json" => vec![&publisher.timestamp],
        name if name.ends_with("root.json") => publisher.root.iter().collect(),
        name if name.ends_with("snapshot.json") => vec![&publisher.snapshot],
        name if name.ends_with("targets.json") => vec![&publisher.targets],
        _ => vec![vendor],
    };
    let mut bytes = Value::Map(map).text().into_bytes();
    for key in keys {
        bytes = sign(&bytes, key).unwrap_or(bytes);
    }
    bytes
}

/// Changes one value somewhere inside.
fn change(value: &mut Value, random: &mut Random) {
    let inside = random.below(6) > 0;
    match value {
        Value::Map(map) if inside && !map.is_empty() => {
            let names: Vec<String> = map.iter().map(|(name, _)| name.to_owned()).collect();
            let name = random.pick(&names).clone();
            match random.below(12) {
                0 => drop(map.remove(&name)),
                1 => {
                    let value = map.remove(&name).unwrap_or(Value::Null);
                    map.set(&format!("{name}x"), value);
                }
                2 => map.set("another", odd(random)),
                _ => {
                    if let Some(inner) = map.get_mut(&name) {
                        change(inner, random);
                    }
                }
            }
        }
        Value::List(list) if inside && !list.is_empty() => {
            let at = random.below(list.len());
            match random.below(6) {
                0 => drop(list.remove(at)),
                1 => {
                    let again = list[at].clone();
                    list.push(again);
                }
                _ => change(&mut list[at], random),
            }
        }
        Value::Text(text) if inside => {
            let at = random.below(text.len());
            if text.is_char_boundary(at) {
                let letters = ['a', '0', '*', '[', ']', 'é', '/', '.', '\0'];
                text.insert(at, *random.pick(&letters));
            }
        }
        other => *other = odd(random),
    }
}

fn odd(random: &mut Random) -> Value {
    match random.below(8) {
        0 => Value::Null,
        1 => Value::Bool(random.below(2) == 0),
        2 => Value::Int(*random.pick(&[0, 1, -1, i64::MAX, i64::MIN, 1 << 32])),
        3 => Value::from(*random.pick(&["", "root", "1.0", "9999-12-31T23:59:59Z", "-----"])),
        4 => Value::from("9".repeat(random.below(5_000)).as_str()),
        5 => Value::List(vec![Value::Null; random.below(300)]),
        6 => Value::Map(Map::default()),
        _ => (0..random.below(100)).fold(Value::Null, |inner, _| Value::List(vec![inner])),
    }
}
