//! resolv.conf: where programs on the machine look names up.

use std::fs::{self, OpenOptions};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The C library reads no more (MAXNS in resolv.h).
const MAX_SERVERS: usize = 3;
const MAX_DOMAINS: usize = 6;
/// No text of ours is longer.
const MAX_LEN: usize = 4096;

/// What the networks offer, best first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) servers: Vec<Ipv4Addr>,
    pub(crate) domains: Vec<String>,
}

impl Names {
    /// Adds what one more network offers.
    pub(crate) fn add(&mut self, servers: &[Ipv4Addr], domain: Option<&str>) {
        for server in servers {
            if !self.servers.contains(server) {
                self.servers.push(*server);
            }
        }
        if let Some(domain) = domain
            && !self.domains.iter().any(|known| known == domain)
        {
            self.domains.push(domain.to_owned());
        }
    }

    /// The text of resolv.conf (resolv.conf(5)).
    pub(crate) fn resolv_conf(&self) -> String {
        let mut text = String::new();
        for server in self.servers.iter().take(MAX_SERVERS) {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.domains.is_empty() {
            let domains = self.domains.iter().take(MAX_DOMAINS);
            text.push_str("search");
            domains.for_each(|domain| text.push_str(&format!(" {domain}")));
            text.push('\n');
        }
        text
    }
}

/// Writes resolv.conf, in place: containers have this very file bound into their /etc. A reader
/// in between sees one text or the other: what is left of a longer old one is first overwritten
/// with empty lines and then cut off.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    let old_len = usize::try_from(file.metadata()?.len())
        .unwrap_or(0)
        .min(MAX_LEN);
    let mut padded = text.as_bytes().to_vec();
    padded.resize(old_len.max(text.len()), b'\n');
    file.write_all_at(&padded, 0)?;
    file.set_len(text.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_network_s_servers_come_first_and_none_comes_twice() {
        let mut names = Names::default();
        let ip = |last| Ipv4Addr::new(10, 0, 0, last);
        names.add(&[ip(1), ip(2)], Some("a.example"));
        names.add(&[ip(2), ip(3), ip(4)], Some("b.example"));
        names.add(&[], Some("a.example"));
        assert_eq!(
            names.resolv_conf(),
            "nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n\
             search a.example b.example\n"
        );
    }

    #[test]
    fn a_file_that_is_bound_elsewhere_gets_every_new_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etc/resolv.conf");
        write(&path, "nameserver 10.0.0.1\nnameserver 10.0.0.2\n").unwrap();
        let bound = fs::File::open(&path).unwrap();
        for text in [
            "nameserver 10.0.0.3\n",
            "",
            "nameserver 10.0.0.4\nsearch example\n",
        ] {
            write(&path, text).unwrap();
            let mut seen = vec![0; 4096];
            let len = bound.read_at(&mut seen, 0).unwrap();
            assert_eq!(std::str::from_utf8(&seen[..len]).unwrap(), text);
        }
    }
}
