//! The server's side of DHCP for the tests: replies put together byte by byte, and requests taken
//! apart, independently of the client's own codec.

use std::net::Ipv4Addr;

pub(crate) const DISCOVER: u8 = 1;
pub(crate) const OFFER: u8 = 2;
pub(crate) const REQUEST: u8 = 3;
pub(crate) const ACK: u8 = 5;
pub(crate) const NAK: u8 = 6;

/// A reply being put together.
#[derive(Clone)]
pub(crate) struct Reply {
    pub(crate) xid: u32,
    pub(crate) hardware: [u8; 6],
    pub(crate) address: Ipv4Addr,
    pub(crate) sname: Vec<u8>,
    pub(crate) file: Vec<u8>,
    pub(crate) options: Vec<(u8, Vec<u8>)>,
}

impl Reply {
    /// A reply of `kind` to `asked`, with nothing but the message type.
    pub(crate) fn bare(kind: u8, asked: &Asked) -> Self {
        Self {
            xid: asked.xid,
            hardware: asked.hardware,
            address: Ipv4Addr::UNSPECIFIED,
            sname: vec![],
            file: vec![],
            options: vec![(53, vec![kind])],
        }
    }

    /// A reply that gives `address`/24 for `lasts` seconds.
    pub(crate) fn giving(
        kind: u8,
        asked: &Asked,
        server: [u8; 4],
        address: [u8; 4],
        lasts: u32,
    ) -> Self {
        let mut reply = Self::bare(kind, asked)
            .option(54, &server)
            .option(1, &[255, 255, 255, 0])
            .option(3, &server)
            .option(51, &lasts.to_be_bytes());
        reply.address = address.into();
        reply
    }

    pub(crate) fn option(mut self, code: u8, value: &[u8]) -> Self {
        self.options.push((code, value.to_vec()));
        self
    }

    pub(crate) fn without(mut self, code: u8) -> Self {
        self.options.retain(|(found, _)| *found != code);
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = vec![2, 1, 6, 0];
        out.extend(self.xid.to_be_bytes());
        out.extend([0; 8]);
        out.extend(self.address.octets());
        out.extend([0; 8]);
        out.extend(self.hardware);
        out.extend([0; 10]);
        out.extend(padded(&self.sname, 64));
        out.extend(padded(&self.file, 128));
        out.extend([99, 130, 83, 99]);
        out.extend(options(&self.options));
        out
    }
}

/// Options as bytes, END at the end.
pub(crate) fn options(options: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![];
    for (code, value) in options {
        out.extend([*code, value.len() as u8]);
        out.extend(value);
    }
    out.push(255);
    out
}

fn padded(bytes: &[u8], len: usize) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out.resize(len, 0);
    out
}

/// A client's message taken apart.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) kind: u8,
    pub(crate) xid: u32,
    pub(crate) secs: u16,
    pub(crate) flags: u16,
    pub(crate) client: Ipv4Addr,
    pub(crate) hardware: [u8; 6],
    pub(crate) options: Vec<(u8, Vec<u8>)>,
}

impl Asked {
    /// Panics when the message is not one that a server would take.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        assert_eq!(bytes[..4], [1, 1, 6, 0], "BOOTREQUEST over Ethernet");
        assert_eq!(bytes[236..240], [99, 130, 83, 99], "magic cookie");
        assert!(bytes.len() >= 300, "as long as BOOTP's");
        let mut found = vec![];
        let mut at = 240;
        while bytes[at] != 255 {
            if bytes[at] == 0 {
                at += 1;
                continue;
            }
            let len = usize::from(bytes[at + 1]);
            found.push((bytes[at], bytes[at + 2..at + 2 + len].to_vec()));
            at += 2 + len;
        }
        let mut asked = Self {
            kind: 0,
            xid: u32::from_be_bytes(bytes[4..8].try_into().unwrap()),
            secs: u16::from_be_bytes(bytes[8..10].try_into().unwrap()),
            flags: u16::from_be_bytes(bytes[10..12].try_into().unwrap()),
            client: <[u8; 4]>::try_from(&bytes[12..16]).unwrap().into(),
            hardware: bytes[28..34].try_into().unwrap(),
            options: found,
        };
        asked.kind = asked.option(53).expect("message type")[0];
        asked
    }

    pub(crate) fn option(&self, code: u8) -> Option<&[u8]> {
        let found = self.options.iter().find(|(found, _)| *found == code);
        found.map(|(_, value)| value.as_slice())
    }

    pub(crate) fn address(&self, code: u8) -> Option<Ipv4Addr> {
        let octets: [u8; 4] = self.option(code)?.try_into().unwrap();
        Some(octets.into())
    }
}
