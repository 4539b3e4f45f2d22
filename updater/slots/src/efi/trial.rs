//! Arming, disarming and looking at the one-shot boot of entry 2.
//!
//! The order of arming makes the last write the one that counts: an old option of ours is
//! removed, `BootNext` is set, then the option is written. A cut before that leaves a `BootNext`
//! that names nothing, which firmware ignores and removes. Firmware removes `BootNext` before it
//! starts the option, so an option of this trial without a `BootNext` is a trial that was spent.
//! The option is in no `BootOrder`: firmware never starts it by itself.

use std::collections::BTreeSet;
use std::io;

use super::{HardDrive, LoadOption, Variables, boot_file_on, numbers, option_name, option_number};
use crate::gpt::Extent;
use crate::layout::{BOOT_B, BOOT_B_GUID};
use crate::verity::RootHash;

const NEXT: &str = "BootNext";
const CURRENT: &str = "BootCurrent";
const ORDER: &str = "BootOrder";

/// Numbers tried for our option, lowest first: below are those that firmware counts up for the
/// disks it finds, above are ranges that some firmware keeps for itself.
const OPTION_NUMBERS: std::ops::RangeInclusive<u16> = 0x80..=0xfff;

/// Most variables that are looked at.
const OPTIONS_MAX: usize = 1024;

/// What the variables say about a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Armed {
    /// The next boot is the trial.
    Yes,
    /// The firmware has taken the trial's `BootNext`.
    Spent,
    /// There is nothing of this trial.
    No,
}

/// What boot menus show for the trial of `root`: the version cannot be confused with another.
fn description(root: &RootHash) -> String {
    let mut short = root.hex();
    short.truncate(16);
    format!("Berth trial {short}")
}

/// Looks at the trial of `root`.
///
/// # Errors
/// When the variables cannot be read.
pub fn look(variables: &mut impl Variables, root: &RootHash) -> io::Result<Armed> {
    let wanted = description(root);
    let mut armed = Armed::No;
    let next = one_number(variables, NEXT)?;
    for (number, option) in ours(variables)? {
        if option.description != wanted {
            continue;
        }
        if next == Some(number) {
            return Ok(Armed::Yes);
        }
        armed = Armed::Spent;
    }
    Ok(armed)
}

/// Asks for one boot of entry 2, which is at `boot`.
///
/// # Errors
/// When the firmware does not take or keep the variables; [`disarm`] then removes what is left.
pub fn arm(variables: &mut impl Variables, root: &RootHash, boot: Extent) -> io::Result<()> {
    let mut number = None;
    for (ours, _) in ours(variables)? {
        variables.delete(&option_name(ours))?;
        number = number.or(Some(ours));
    }
    let number = match number {
        Some(number) => number,
        None => free_number(variables)?,
    };
    let option = LoadOption {
        description: description(root),
        path: boot_file_on(&HardDrive {
            entry: BOOT_B as u32,
            extent: boot,
            guid: BOOT_B_GUID,
        }),
    };
    variables.set(NEXT, &number.to_le_bytes())?;
    variables.set(&option_name(number), &option.encode())?;
    // Some firmware says that it keeps a variable and does not.
    match look(variables, root)? {
        Armed::Yes => Ok(()),
        Armed::Spent | Armed::No => Err(io::Error::other(
            "the firmware said that it keeps the boot variables and does not have them",
        )),
    }
}

/// Removes every trial: our options, then `BootNext` if it names one of them or none at all. In this
/// order, so that what a cut leaves is a `BootNext` that names nothing, and not a trial that looks
/// spent. Whether there was something to remove.
///
/// # Errors
/// When the firmware keeps them.
pub fn disarm(variables: &mut impl Variables) -> io::Result<bool> {
    let ours = ours(variables)?;
    let next = one_number(variables, NEXT)?;
    let mut removed = false;
    for (number, _) in &ours {
        variables.delete(&option_name(*number))?;
        removed = true;
    }
    if let Some(next) = next {
        let named = ours.iter().any(|(number, _)| *number == next);
        let stale = OPTION_NUMBERS.contains(&next) && variables.get(&option_name(next))?.is_none();
        if named || stale {
            variables.delete(NEXT)?;
            removed = true;
        }
    }
    Ok(removed)
}

/// Whether the firmware says that it started an option of ours: this boot is a trial. A hint for
/// people; what is decided follows from the root that runs.
///
/// # Errors
/// When the variables cannot be read.
pub fn is_current(variables: &mut impl Variables) -> io::Result<bool> {
    let current = one_number(variables, CURRENT)?;
    let ours = ours(variables)?;
    Ok(ours.iter().any(|(number, _)| Some(*number) == current))
}

/// The options that start from entry 2's GUID.
fn ours(variables: &mut impl Variables) -> io::Result<Vec<(u16, LoadOption)>> {
    let mut ours = Vec::new();
    for number in option_numbers(variables)? {
        let Some(data) = variables.get(&option_name(number))? else {
            continue;
        };
        // Somebody else's option that cannot be understood is none of ours.
        let Ok(option) = LoadOption::decode(&data) else {
            continue;
        };
        if option.description.starts_with("Berth trial ")
            && option.partition().is_some_and(|p| p.guid == BOOT_B_GUID)
        {
            ours.push((number, option));
        }
    }
    Ok(ours)
}

fn option_numbers(variables: &mut impl Variables) -> io::Result<BTreeSet<u16>> {
    let names = variables.list()?;
    let numbers = names.iter().filter_map(|name| option_number(name));
    Ok(numbers.take(OPTIONS_MAX).collect())
}

fn free_number(variables: &mut impl Variables) -> io::Result<u16> {
    let mut used = option_numbers(variables)?;
    used.extend(numbers(&variables.get(ORDER)?.unwrap_or_default()));
    OPTION_NUMBERS
        .into_iter()
        .find(|number| !used.contains(number))
        .ok_or_else(|| io::Error::other("all numbers of boot options are in use"))
}

fn one_number(variables: &mut impl Variables, name: &str) -> io::Result<Option<u16>> {
    let data = variables.get(name)?.unwrap_or_default();
    Ok(numbers(&data).first().copied())
}
