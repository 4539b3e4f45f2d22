//! Runs the network agent by hand in the present network namespace, and prints its records:
//!
//! `network-agent NETWORKS.json DIRECTORY`
//!
//! NETWORKS.json is the `networks` list of a machine.json; leases and resolv.conf go to
//! `run`, `state` and `etc` below DIRECTORY. The tests run this program in namespaces of theirs.

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use berth_network::report::{LEN, Record};
use berth_network::{Places, Setup, run};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(networks), Some(directory)) = (arguments.next(), arguments.next()) else {
        return Err("usage: network-agent NETWORKS.json DIRECTORY".into());
    };
    let networks = serde_json::from_reader(File::open(networks)?)?;
    let directory = PathBuf::from(directory);
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    let (mut records, report) = std::io::pipe()?;
    std::thread::spawn(move || {
        let mut bytes = [0; LEN];
        while records.read_exact(&mut bytes).is_ok() {
            match Record::decode(&bytes) {
                Ok(record) => println!("{record}"),
                Err(malformed) => println!("{malformed}"),
            }
        }
    });
    match run(Setup {
        networks,
        hostname: hostname.trim_end().to_owned(),
        report: report.into(),
        places: Places {
            run: directory.join("run"),
            etc: directory.join("etc"),
            state: directory.join("state"),
        },
    })? {}
}
