//! What the agent lets others know: records to PID 1, names to the programs on the machine.

use std::io::{self, Write};

use berth_provision::Network;

use super::Agent;
use crate::hardware::HardwareAddress;
use crate::report::{Record, State};
use crate::resolver::{self, Names};
use crate::sys;

impl Agent {
    /// Tells PID 1 what it does not know yet. What does not fit into the pipe now is told when
    /// there is room, as it is then.
    pub(super) fn tell(&mut self) {
        self.behind = false;
        let now = sys::boottime();
        let at_us = sys::monotonic_us();
        while let Some(record) = self.gone.pop() {
            if !self.send_record(&Record {
                at_us,
                ..record.clone()
            }) {
                self.gone.push(record);
                return;
            }
        }
        for place in 0..self.interfaces.len() {
            let Some(interface) = self.interfaces.get(place) else {
                break;
            };
            let mut record = interface.record(now, at_us);
            if let (true, Some(trouble)) = (record.state != State::Failed, &self.trouble) {
                record.state = State::Failed;
                record.sentence.clone_from(trouble);
            }
            let news = interface.is_known() && differs(interface.told.as_ref(), &record);
            if news
                && self.send_record(&record)
                && let Some(interface) = self.interfaces.get_mut(place)
            {
                interface.told = Some(record);
                interface.carrier_by = None;
            }
        }
        for position in 0..self.networks.len() {
            let claimed = self
                .interfaces
                .iter()
                .any(|interface| interface.position == position);
            let Some(network) = self.networks.get(position) else {
                break;
            };
            let record = (!claimed).then(|| absent(network, at_us));
            let told = self.told_absent.get(position).and_then(Option::as_ref);
            let sent = match &record {
                Some(record) => differs(told, record) && self.send_record(record),
                None => true,
            };
            if let (true, Some(told)) = (sent, self.told_absent.get_mut(position)) {
                *told = record;
            }
        }
    }

    /// Whether the record is in the pipe.
    fn send_record(&mut self, record: &Record) -> bool {
        let Some(report) = &mut self.report else {
            return true;
        };
        match report.write_all(&record.encode()) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.behind = true;
                false
            }
            // PID 1 has closed its end: the networks are still served.
            Err(_) => {
                self.report = None;
                true
            }
        }
    }

    /// Brings resolv.conf up to date.
    pub(super) fn names(&mut self) {
        let mut order: Vec<_> = self.interfaces.iter().collect();
        order.sort_by_key(|interface| (interface.position, interface.link.index));
        let mut names = Names::default();
        for interface in order {
            let domain = interface.lease().and_then(|lease| lease.domain.as_deref());
            names.add(interface.dns(), domain);
        }
        if self.names.as_ref() != Some(&names) {
            let path = self.etc.join("resolv.conf");
            let written = resolver::write(&path, &names.resolv_conf());
            // What could not be written is written with the next change of any link or lease.
            self.names = written.is_ok().then_some(names);
            self.trouble = written
                .err()
                .map(|error| format!("cannot write {}: {error}", path.display()));
        }
    }
}

fn differs(told: Option<&Record>, record: &Record) -> bool {
    let told = told.map(|told| Record {
        at_us: record.at_us,
        ..told.clone()
    });
    told.as_ref() != Some(record)
}

/// The record of a network that no interface fits.
fn absent(network: &Network, at_us: u64) -> Record {
    let wrong = network
        .matches
        .mac
        .as_ref()
        .and_then(|mac| mac.parse::<HardwareAddress>().err());
    let (state, sentence) = match wrong {
        Some(wrong) => (
            State::Failed,
            format!("no interface can fit the network's match: {wrong}"),
        ),
        None => {
            let sentence = "no interface fits the network's match yet; waiting for one";
            (State::Absent, sentence.to_owned())
        }
    };
    Record {
        at_us,
        state,
        network: network.name.clone(),
        sentence,
        ..Record::default()
    }
}
