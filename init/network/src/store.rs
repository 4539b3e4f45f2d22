//! Files: leases kept in /run (as they are, for the agent's next process) and in /state (for the
//! next boot), and how a file is replaced.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::dhcp::Lease;
use crate::hardware::HardwareAddress;

/// No lease of ours is longer; a longer file is not one.
const MAX_LEASE_FILE: u64 = 64 << 10;

/// Where the agent keeps things between its lives.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    run: PathBuf,
    state: PathBuf,
}

impl Store {
    pub(crate) fn new(run: PathBuf, state: PathBuf) -> Self {
        Self { run, state }
    }

    /// The lease that an earlier process of this boot kept for this interface. Only a running
    /// kernel's /run is believed: its times count from this boot.
    pub(crate) fn lease(&self, hardware: HardwareAddress) -> Option<Lease> {
        read(&self.run.join(file_name(hardware)))
    }

    /// The address of the lease that an earlier boot kept.
    pub(crate) fn last_address(&self, hardware: HardwareAddress) -> Option<Ipv4Addr> {
        let lease: Lease = read(&self.state.join(file_name(hardware)))?;
        Some(lease.address.address)
    }

    /// Keeps a lease for the agent's next process.
    pub(crate) fn keep(&self, hardware: HardwareAddress, lease: &Lease) -> io::Result<()> {
        let text = serde_json::to_vec(lease).map_err(io::Error::other)?;
        fs::create_dir_all(&self.run)?;
        replace(&self.run.join(file_name(hardware)), &text, Durability::Fast)
    }

    /// Keeps a lease for the next boot. Fails while /state is not mounted (the root below it
    /// cannot be written), and is tried again later.
    pub(crate) fn keep_for_reboot(
        &self,
        hardware: HardwareAddress,
        lease: &Lease,
    ) -> io::Result<()> {
        if self.last_address(hardware) == Some(lease.address.address) {
            return Ok(());
        }
        let text = serde_json::to_vec(lease).map_err(io::Error::other)?;
        fs::create_dir_all(&self.state)?;
        replace(
            &self.state.join(file_name(hardware)),
            &text,
            Durability::Durable,
        )
    }

    /// Forgets a lease that is not ours any more.
    pub(crate) fn forget(&self, hardware: HardwareAddress) {
        // Neither file need be there; one that cannot be removed only costs a refused question.
        let _ = fs::remove_file(self.run.join(file_name(hardware)));
        let _ = fs::remove_file(self.state.join(file_name(hardware)));
    }
}

fn file_name(hardware: HardwareAddress) -> String {
    format!("{}.lease", hardware.to_string().replace(':', ""))
}

fn read(path: &Path) -> Option<Lease> {
    let fits = fs::metadata(path).ok()?.len() <= MAX_LEASE_FILE;
    serde_json::from_slice(&fits.then(|| fs::read(path).ok())??).ok()
}

/// Whether a file must survive the power going out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Durability {
    /// It lives in memory.
    Fast,
    /// It is on a disk.
    Durable,
}

/// Replaces a file: a reader sees the old content or the new, never a part.
fn replace(path: &Path, content: &[u8], durability: Durability) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(content)?;
    if durability == Durability::Durable {
        file.sync_all()?;
    }
    fs::rename(&new, path)?;
    if durability == Durability::Durable
        && let Some(directory) = path.parent()
    {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> Lease {
        Lease {
            address: "10.0.2.15/24".parse().unwrap(),
            server: Ipv4Addr::new(10, 0, 2, 2),
            began_ms: 1,
            lasts: 60,
            renew: 30,
            rebind: 50,
            routes: vec![],
            dns: vec![],
            ntp: vec![],
            domain: None,
            mtu: None,
        }
    }

    #[test]
    fn a_kept_lease_is_found_again_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().join("run"), dir.path().join("state/network"));
        let hardware = HardwareAddress([2, 0, 0, 0, 0, 1]);
        assert_eq!(store.lease(hardware), None);
        store.keep(hardware, &lease()).unwrap();
        store.keep_for_reboot(hardware, &lease()).unwrap();
        assert_eq!(store.lease(hardware), Some(lease()));
        assert_eq!(
            store.last_address(hardware),
            Some(Ipv4Addr::new(10, 0, 2, 15))
        );
        assert_eq!(store.lease(HardwareAddress([2, 0, 0, 0, 0, 2])), None);
        store.forget(hardware);
        assert_eq!(store.lease(hardware), None);
        assert_eq!(store.last_address(hardware), None);
    }

    #[test]
    fn a_lease_file_that_is_not_one_is_as_good_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().into(), dir.path().into());
        let hardware = HardwareAddress([2, 0, 0, 0, 0, 1]);
        let path = dir.path().join(file_name(hardware));
        let whole = serde_json::to_vec(&lease()).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(store.lease(hardware), None);
        }
        fs::write(&path, vec![b' '; MAX_LEASE_FILE as usize + 1]).unwrap();
        assert_eq!(store.lease(hardware), None);
    }
}
