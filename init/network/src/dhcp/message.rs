//! The DHCP message (RFC 2131 section 2): requests written, replies read.
//!
//! A reply becomes checked types here or is refused with the reason. An option that the client
//! can do without and that is malformed is left out; one it needs refuses the message.

use std::net::Ipv4Addr;

use super::lease::LeasedRoute;
use crate::hardware::HardwareAddress;

/// The longest message we take, and say so (option 57): what fits an Ethernet frame.
pub const MAX_MESSAGE: usize = 1472;

const FIXED_LEN: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// BOOTP's length; some relays drop what is shorter.
const MIN_MESSAGE: usize = 300;
const MAX_SERVERS: usize = 8;
const MAX_ROUTES: usize = 64;
const MAX_TEXT: usize = 253;
/// Smaller values are servers' mistakes; IPv4's own minimum would make a network unusable.
const MIN_MTU: u16 = 576;

const OP_REQUEST: u8 = 1;
const OP_REPLY: u8 = 2;
const ETHERNET: u8 = 1;
const HARDWARE_LEN: u8 = 6;

mod code {
    pub(super) const PAD: u8 = 0;
    pub(super) const SUBNET_MASK: u8 = 1;
    pub(super) const ROUTER: u8 = 3;
    pub(super) const DNS: u8 = 6;
    pub(super) const HOST_NAME: u8 = 12;
    pub(super) const DOMAIN: u8 = 15;
    pub(super) const MTU: u8 = 26;
    pub(super) const NTP: u8 = 42;
    pub(super) const REQUESTED_ADDRESS: u8 = 50;
    pub(super) const LEASE_TIME: u8 = 51;
    pub(super) const OVERLOAD: u8 = 52;
    pub(super) const MESSAGE_TYPE: u8 = 53;
    pub(super) const SERVER: u8 = 54;
    pub(super) const PARAMETERS: u8 = 55;
    pub(super) const ERROR_TEXT: u8 = 56;
    pub(super) const MAX_SIZE: u8 = 57;
    pub(super) const RENEWAL: u8 = 58;
    pub(super) const REBINDING: u8 = 59;
    pub(super) const CLIENT: u8 = 61;
    pub(super) const CLASSLESS_ROUTES: u8 = 121;
    pub(super) const END: u8 = 255;
}

/// What is asked for; RFC 3442 wants the classless routes before the router.
const WANTED: [u8; 10] = [
    code::SUBNET_MASK,
    code::CLASSLESS_ROUTES,
    code::ROUTER,
    code::DNS,
    code::DOMAIN,
    code::MTU,
    code::NTP,
    code::LEASE_TIME,
    code::RENEWAL,
    code::REBINDING,
];

/// What a client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Who has an address for me?
    Discover,
    /// I take this one, or want to keep it.
    Request,
}

/// A message to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// What it says.
    pub kind: RequestKind,
    /// The transaction.
    pub xid: u32,
    /// Seconds since the client began to ask.
    pub secs: u16,
    /// The client's own address, when it has and uses it.
    pub client: Option<Ipv4Addr>,
    /// The client's hardware address; with its type in front it is also the client identifier,
    /// as firmware and most other clients send it, so that they all get the same lease.
    pub hardware: HardwareAddress,
    /// The address it would like (option 50).
    pub requested: Option<Ipv4Addr>,
    /// The server it means (option 54).
    pub server: Option<Ipv4Addr>,
    /// The machine's name (option 12).
    pub hostname: Option<&'a str>,
}

impl Request<'_> {
    /// The message's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MIN_MESSAGE);
        out.extend([OP_REQUEST, ETHERNET, HARDWARE_LEN, 0]);
        out.extend(self.xid.to_be_bytes());
        out.extend(self.secs.to_be_bytes());
        // No broadcast flag: packets are read below IP, so a reply may be unicast to an address
        // that the interface has not got yet.
        out.extend([0, 0]);
        out.extend(self.client.map_or([0; 4], |client| client.octets()));
        out.extend([0; 12]);
        out.extend(self.hardware.0);
        out.resize(FIXED_LEN, 0);
        out.extend(COOKIE);
        let kind = match self.kind {
            RequestKind::Discover => 1,
            RequestKind::Request => 3,
        };
        put(&mut out, code::MESSAGE_TYPE, &[kind]);
        let [a, b, c, d, e, f] = self.hardware.0;
        put(&mut out, code::CLIENT, &[ETHERNET, a, b, c, d, e, f]);
        if let Some(requested) = self.requested {
            put(&mut out, code::REQUESTED_ADDRESS, &requested.octets());
        }
        if let Some(server) = self.server {
            put(&mut out, code::SERVER, &server.octets());
        }
        put(
            &mut out,
            code::MAX_SIZE,
            &(MAX_MESSAGE as u16).to_be_bytes(),
        );
        if let Some(hostname) = self.hostname {
            put(&mut out, code::HOST_NAME, hostname.as_bytes());
        }
        put(&mut out, code::PARAMETERS, &WANTED);
        out.push(code::END);
        if out.len() < MIN_MESSAGE {
            out.resize(MIN_MESSAGE, 0);
        }
        out
    }
}

/// Appends an option; a value too long for one is left out (ours are names of at most 63 bytes).
fn put(out: &mut Vec<u8>, code: u8, value: &[u8]) {
    if let Ok(len) = u8::try_from(value.len()) {
        out.extend([code, len]);
        out.extend(value);
    }
}

/// What a server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// This address is to be had.
    Offer,
    /// It is yours.
    Ack,
    /// You cannot have it.
    Nak,
}

/// A message from a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What it says.
    pub kind: Kind,
    /// The transaction it answers.
    pub xid: u32,
    /// Whom it is for.
    pub hardware: HardwareAddress,
    /// The address it gives.
    pub address: Ipv4Addr,
    /// The server's identifier.
    pub server: Option<Ipv4Addr>,
    /// Prefix length of the subnet.
    pub prefix: Option<u8>,
    /// Lease, renewal and rebinding times in seconds.
    pub lasts: Option<u32>,
    /// Renewal time in seconds.
    pub renew: Option<u32>,
    /// Rebinding time in seconds.
    pub rebind: Option<u32>,
    /// Routers, best first.
    pub routers: Vec<Ipv4Addr>,
    /// Classless routes; when present, routers do not count (RFC 3442).
    pub routes: Option<Vec<LeasedRoute>>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Time servers.
    pub ntp: Vec<Ipv4Addr>,
    /// Domain name; letters, digits, `-`, `.` and `_` only.
    pub domain: Option<String>,
    /// MTU.
    pub mtu: Option<u16>,
    /// A refusal's reason, printable.
    pub text: Option<String>,
}

/// Why bytes are not a server's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Shorter than the fixed part.
    #[error("the message is too short")]
    Short,
    /// Not a BOOTP reply over Ethernet with DHCP's cookie.
    #[error("the message is not a DHCP reply")]
    NotReply,
    /// An option's length points past the end.
    #[error("option {0} runs past the end of the message")]
    Truncated(u8),
    /// A needed option has a wrong length or value.
    #[error("option {0} has a value that is not allowed")]
    Value(u8),
}

impl Reply {
    /// Reads a server's message.
    ///
    /// # Errors
    /// [`Malformed`] when it is not one or lacks sense where the client needs it.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let options = Options::find(bytes)?;
        let [op, kind, len, _] = field(bytes, 0)?;
        if op != OP_REPLY || kind != ETHERNET || len != HARDWARE_LEN {
            return Err(Malformed::NotReply);
        }
        let kind = match options.byte(code::MESSAGE_TYPE)? {
            Some(2) => Kind::Offer,
            Some(5) => Kind::Ack,
            Some(6) => Kind::Nak,
            _ => return Err(Malformed::Value(code::MESSAGE_TYPE)),
        };
        Ok(Self {
            kind,
            xid: u32::from_be_bytes(field(bytes, 4)?),
            address: field(bytes, 16).map(<[u8; 4]>::into)?,
            hardware: HardwareAddress(field(bytes, 28)?),
            server: options.address(code::SERVER)?,
            prefix: options.prefix()?,
            lasts: options.seconds(code::LEASE_TIME)?,
            renew: options.seconds(code::RENEWAL).unwrap_or_default(),
            rebind: options.seconds(code::REBINDING).unwrap_or_default(),
            routers: options.addresses(code::ROUTER),
            routes: options.routes(),
            dns: options.addresses(code::DNS),
            ntp: options.addresses(code::NTP),
            domain: options.domain(),
            mtu: options.mtu(),
            text: options.text(),
        })
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Malformed> {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .copied()
        .ok_or(Malformed::Short)
}

/// A message's options in order: those of the options field and, when option 52 says so, of the
/// `file` and `sname` fields.
struct Options<'a>(Vec<(u8, &'a [u8])>);

impl<'a> Options<'a> {
    fn find(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (fixed, rest) = bytes.split_at_checked(FIXED_LEN).ok_or(Malformed::Short)?;
        let (cookie, rest) = rest.split_first_chunk().ok_or(Malformed::Short)?;
        if *cookie != COOKIE || bytes.len() > MAX_MESSAGE {
            return Err(Malformed::NotReply);
        }
        let mut options = Self(Vec::new());
        options.read(rest)?;
        let overload = options.byte(code::OVERLOAD)?.unwrap_or(0);
        if overload > 3 {
            return Err(Malformed::Value(code::OVERLOAD));
        }
        // RFC 3396 section 5: options, then file, then sname.
        if overload & 1 != 0 {
            options.read(fixed.get(108..236).unwrap_or_default())?;
        }
        if overload & 2 != 0 {
            options.read(fixed.get(44..108).unwrap_or_default())?;
        }
        Ok(options)
    }

    fn read(&mut self, mut rest: &'a [u8]) -> Result<(), Malformed> {
        while let Some((&code, tail)) = rest.split_first() {
            rest = match code {
                code::PAD => tail,
                code::END => return Ok(()),
                _ => {
                    let cut = Malformed::Truncated(code);
                    let (&len, tail) = tail.split_first().ok_or(cut)?;
                    let (value, tail) = tail.split_at_checked(usize::from(len)).ok_or(cut)?;
                    self.0.push((code, value));
                    tail
                }
            };
        }
        Ok(())
    }

    /// An option's value; the parts of one that was split are joined (RFC 3396).
    fn get(&self, code: u8) -> Option<Vec<u8>> {
        let mut parts = self.0.iter().filter(|(found, _)| *found == code).peekable();
        parts.peek()?;
        Some(parts.flat_map(|(_, value)| value.iter().copied()).collect())
    }

    fn fixed<const N: usize>(&self, code: u8) -> Result<Option<[u8; N]>, Malformed> {
        let value = self.get(code).map(<[u8; N]>::try_from).transpose();
        value.map_err(|_| Malformed::Value(code))
    }

    fn byte(&self, code: u8) -> Result<Option<u8>, Malformed> {
        Ok(self.fixed(code)?.map(|[byte]| byte))
    }

    fn seconds(&self, code: u8) -> Result<Option<u32>, Malformed> {
        Ok(self.fixed(code)?.map(u32::from_be_bytes))
    }

    fn address(&self, code: u8) -> Result<Option<Ipv4Addr>, Malformed> {
        match self.fixed::<4>(code)?.map(Ipv4Addr::from) {
            Some(address) if !usable(address) => Err(Malformed::Value(code)),
            address => Ok(address),
        }
    }

    fn prefix(&self) -> Result<Option<u8>, Malformed> {
        let Some(mask) = self.seconds(code::SUBNET_MASK)? else {
            return Ok(None);
        };
        let ones = mask.leading_ones();
        if mask.checked_shl(ones).unwrap_or(0) != 0 || ones == 0 {
            return Err(Malformed::Value(code::SUBNET_MASK));
        }
        Ok(u8::try_from(ones).ok())
    }

    fn addresses(&self, code: u8) -> Vec<Ipv4Addr> {
        let value = self.get(code).unwrap_or_default();
        let (chunks, []) = value.as_chunks::<4>() else {
            return Vec::new();
        };
        let addresses = chunks.iter().map(|chunk| Ipv4Addr::from(*chunk));
        addresses
            .filter(|address| usable(*address))
            .take(MAX_SERVERS)
            .collect()
    }

    /// RFC 3442: prefix length, as many bytes of the destination as it needs, next hop.
    fn routes(&self) -> Option<Vec<LeasedRoute>> {
        let value = self.get(code::CLASSLESS_ROUTES)?;
        let mut rest = value.as_slice();
        let mut routes = Vec::new();
        while let Some((&prefix, tail)) = rest.split_first() {
            if prefix > 32 || routes.len() == MAX_ROUTES {
                return None;
            }
            let (known, tail) = tail.split_at_checked(usize::from(prefix.div_ceil(8)))?;
            let (via, tail) = tail.split_first_chunk::<4>()?;
            let mut to = [0; 4];
            to.iter_mut()
                .zip(known)
                .for_each(|(to, known)| *to = *known);
            routes.push(LeasedRoute::new(
                Ipv4Addr::from(to),
                prefix,
                Ipv4Addr::from(*via),
            ));
            rest = tail;
        }
        Some(routes)
    }

    fn domain(&self) -> Option<String> {
        let text = String::from_utf8(self.get(code::DOMAIN)?).ok()?;
        let text = text.trim_end_matches('\0').trim_end_matches('.');
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let fits = !text.is_empty() && text.len() <= MAX_TEXT && text.chars().all(allowed);
        fits.then(|| text.to_owned())
    }

    fn mtu(&self) -> Option<u16> {
        let mtu = self.fixed(code::MTU).ok()??;
        Some(u16::from_be_bytes(mtu)).filter(|mtu| *mtu >= MIN_MTU)
    }

    fn text(&self) -> Option<String> {
        let text = self.get(code::ERROR_TEXT)?;
        let printable = |byte: &u8| (0x20..0x7f).contains(byte);
        let text: String = text
            .into_iter()
            .filter(printable)
            .map(char::from)
            .take(MAX_TEXT)
            .collect();
        (!text.is_empty()).then_some(text)
    }
}

/// An address that one host may have.
pub(super) fn usable(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && first < 224 && !address.is_loopback()
}
