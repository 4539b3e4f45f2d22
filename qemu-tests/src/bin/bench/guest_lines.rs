//! The `guest: …` lines that the guests' program writes.

use std::collections::BTreeMap;
use std::time::Duration;

use berth_qemu_tests::{Builder, Error};

/// Both clocks as the guest read them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// Time stamp counter.
    pub(crate) ticks: u64,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub(crate) ns: u64,
}

/// The readings that a console shows, by label, in order.
pub(crate) fn readings(text: &str) -> BTreeMap<String, Vec<Reading>> {
    let mut found: BTreeMap<String, Vec<Reading>> = BTreeMap::new();
    for line in text.lines() {
        let Some((_, said)) = line.split_once("guest: ") else {
            continue;
        };
        let value = |key: &str| {
            let mut words = said.split_whitespace();
            words.find_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
        };
        let label = said.split_whitespace().next().unwrap_or_default();
        if let (Some(ticks), Some(ns)) = (value("ticks"), value("ns")) {
            let reading = Reading { ticks, ns };
            found.entry(label.to_owned()).or_default().push(reading);
        }
    }
    found
}

/// Starts a machine, waits until it ends and returns what its console said; an error when
/// something in the guest failed.
pub(crate) fn run(machine: Builder, deadline: Duration) -> Result<String, Error> {
    let machine = machine.start()?;
    machine.ended(deadline)?;
    let text = machine.console().text();
    let failed = |line: &&str| {
        let said = line.split_once("guest: ").map_or("", |(_, said)| said);
        let mut words = said.split_whitespace();
        said.starts_with("error")
            || words.any(|word| word.starts_with("status=") && word != "status=0")
    };
    match text.lines().find(failed) {
        Some(line) => Err(Error::broken(format!(
            "something in the guest failed: {line}; its console:\n{text}"
        ))),
        None => Ok(text),
    }
}

/// A label's first reading.
pub(crate) fn first(text: &str, label: &str) -> Result<Reading, Error> {
    let readings = readings(text);
    let first = readings.get(label).and_then(|all| all.first()).copied();
    first.ok_or_else(|| {
        Error::broken(format!(
            "the guest did not say when it reached {label}; its console:\n{text}"
        ))
    })
}

/// When PID 1 gave way to the machine's own init: its second reading, and as much again as the
/// first one's writing took.
pub(crate) fn gave_way(text: &str) -> Result<Reading, Error> {
    let readings = readings(text);
    let said = readings.get("pid1").map(Vec::as_slice).unwrap_or_default();
    let [first, second, ..] = said else {
        return Err(Error::broken(format!(
            "PID 1 did not say twice when it arrived; its console:\n{text}"
        )));
    };
    Ok(Reading {
        ticks: 2 * second.ticks - first.ticks,
        ns: 2 * second.ns - first.ns,
    })
}

/// The median of a label's ticks.
pub(crate) fn median(text: &str, label: &str) -> Result<u64, Error> {
    let mut readings = readings(text);
    let mut ticks: Vec<u64> = readings
        .remove(label)
        .unwrap_or_default()
        .iter()
        .map(|reading| reading.ticks)
        .collect();
    ticks.sort_unstable();
    ticks.get(ticks.len() / 2).copied().ok_or_else(|| {
        Error::broken(format!(
            "the guest did not say how long {label} took; its console:\n{text}"
        ))
    })
}
