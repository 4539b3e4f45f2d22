//! `berth keys` and `berth sign`: what was made, what is missing, and what to do with it now.

use std::path::PathBuf;

use berth::keys::{self, Change, Description, NewSet, Signed};
use berth::say;
use berth_trust::write::RootStatus;
use serde_json::json;

use super::print;
use crate::cli::{self, KeysCommand};
use crate::exit::Failure;

/// Who holds the root's keys when nobody is named.
const HOLDERS: [&str; 3] = ["holder-1", "holder-2", "holder-3"];

/// `berth keys`.
pub(crate) fn run(arguments: &cli::Keys) -> Result<(), Failure> {
    match &arguments.command {
        KeysCommand::New(arguments) => new(arguments),
        KeysCommand::Make(arguments) => make(arguments),
        KeysCommand::Show(arguments) => show(arguments),
        KeysCommand::Next(arguments) => next(arguments),
    }
}

/// `berth sign`.
pub(crate) fn sign(arguments: &cli::Sign) -> Result<(), Failure> {
    let signed = keys::sign(&arguments.root, &arguments.key)?;
    report(&signed);
    Ok(())
}

fn new(arguments: &cli::KeysNew) -> Result<(), Failure> {
    let mut holders = arguments.holders.clone();
    if holders.is_empty() && arguments.public.is_empty() {
        holders = HOLDERS.map(str::to_owned).to_vec();
    }
    let set = keys::new_set(
        &arguments.directory,
        &NewSet {
            holders,
            public: arguments.public.clone(),
            threshold: arguments.threshold,
            good_for_days: arguments.good_for,
        },
    )?;
    for path in set.root_keys.iter().chain(&set.online_keys) {
        say(format_args!("{}", path.display()));
    }
    let (path, status) = (set.root, set.status);
    report(&Signed { path, status });
    for path in &set.root_keys {
        say(format_args!(
            "note: give {} to its holder and delete it here; the keys in online/ are all \
             that publishing needs",
            path.display()
        ));
    }
    Ok(())
}

fn make(arguments: &cli::KeysMake) -> Result<(), Failure> {
    let key = keys::new_key(&arguments.file)?;
    say(format_args!(
        "{} is yours alone; hand over {}",
        arguments.file.display(),
        arguments.file.with_extension("pub").display()
    ));
    print(&format!("{}\n", key.id()))
}

fn show(arguments: &cli::KeysShow) -> Result<(), Failure> {
    let mut shown = Vec::new();
    for path in &arguments.files {
        let file = path.display().to_string();
        if let Some(Description { status, roles }) = keys::describe(path)? {
            if !arguments.json {
                print(&format!("{file}: {}\n", state(&status)))?;
                for (role, ids) in &roles {
                    for id in ids {
                        print(&format!("  {role:<9} {id}{}\n", mark(&status, id)))?;
                    }
                }
            }
            let roles = roles
                .iter()
                .map(|(role, ids)| (role.name().to_owned(), json!(ids)));
            let roles: serde_json::Map<_, _> = roles.collect();
            shown.push(json!({
                "file": file,
                "version": status.version,
                "expires": status.expires.to_string(),
                "threshold": status.threshold,
                "signed_by": status.signed_by,
                "roles": roles,
            }));
        } else {
            let key = keys::read_public(path)?;
            if !arguments.json {
                print(&format!("{file}: {} key {}\n", key.kind(), key.id()))?;
            }
            shown.push(json!({ "file": file, "kind": key.kind(), "id": key.id() }));
        }
    }
    if arguments.json {
        print(&format!("{}\n", json!({ "files": shown })))?;
    }
    Ok(())
}

fn next(arguments: &cli::KeysNext) -> Result<(), Failure> {
    let add = arguments.add.iter();
    let change = Change {
        add: add
            .map(|(role, path)| (*role, PathBuf::from(path)))
            .collect(),
        remove: arguments.remove.clone(),
        threshold: arguments.threshold,
        good_for_days: arguments.good_for,
    };
    report(&keys::next_root(&arguments.root, &change)?);
    Ok(())
}

/// Says how far a root is, and who has to sign it yet.
fn report(signed: &Signed) {
    let Signed { path, status } = signed;
    say(format_args!("{}: {}", path.display(), state(status)));
    if status.complete() {
        return;
    }
    let mut missing = status.unsigned_by.clone();
    if let Some(old) = &status.previous {
        missing.extend(old.unsigned_by.iter().cloned());
    }
    missing.sort();
    missing.dedup();
    for id in missing {
        say(format_args!("note: {id} has not signed it"));
    }
}

fn state(status: &RootStatus) -> String {
    let mut text = format!(
        "root {}, good until {}, signed by {} keys where {} are needed",
        status.version,
        status.expires,
        status.signed_by.len(),
        status.threshold
    );
    if let Some(old) = &status.previous {
        text += &format!(
            " and by {} of the {} that root {} asks for",
            old.signed_by.len(),
            old.threshold,
            status.version.saturating_sub(1)
        );
    }
    text
}

fn mark(status: &RootStatus, id: &str) -> &'static str {
    let signed = status.signed_by.iter().any(|signer| signer == id);
    if signed { " (has signed)" } else { "" }
}
