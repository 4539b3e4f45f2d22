//! The machine's configuration, as the builder put it into the verified root.

use std::fs;

use berth_provision::{MACHINE_PATH, Machine, SCHEMA};

use crate::failure::{Doing, Failure};

/// Reads it.
pub(crate) fn read() -> Result<Machine, Failure> {
    let text = fs::read(MACHINE_PATH).doing(|| format!("read {MACHINE_PATH}"))?;
    let machine: Machine = serde_json::from_slice(&text)
        .doing(|| format!("understand {MACHINE_PATH}, which the image was built with"))?;
    if machine.schema != SCHEMA {
        return Err(Failure::new(format!(
            "{MACHINE_PATH} has schema {} and this machine knows {SCHEMA}: the image was put \
             together from parts of different versions",
            machine.schema
        )));
    }
    Ok(machine)
}
