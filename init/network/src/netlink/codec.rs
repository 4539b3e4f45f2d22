//! Netlink messages and attributes as bytes (netlink(7)): native byte order, everything padded
//! to four bytes.

use super::address::Address;
use super::link::Link;
use super::route::Route;

const HEADER_LEN: usize = 16;
const ATTRIBUTE_HEADER_LEN: usize = 4;
/// Flag bits in an attribute's type.
const TYPE_MASK: u16 = 0x3fff;

/// One message from the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A link, new or changed or dumped.
    Link(Link),
    /// The link with this number is gone.
    LinkGone(u32),
    /// An IPv4 address.
    Address(Address),
    /// An IPv4 unicast route of the main table.
    Route(Route),
    /// The end of a dump or the answer to a change.
    Finished(Outcome),
    /// Anything else.
    Other,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As asked.
    Done,
    /// Dumped, but things changed meanwhile: to be asked again.
    Interrupted,
    /// Refused, with this error number.
    Failed(i32),
}

/// The messages in a received buffer with their sequence numbers. What is cut short ends it.
#[derive(Clone, Copy, Debug)]
pub struct Messages<'a>(&'a [u8]);

impl<'a> Messages<'a> {
    /// The messages in `buffer`.
    pub fn new(buffer: &'a [u8]) -> Self {
        Self(buffer)
    }
}

impl Iterator for Messages<'_> {
    type Item = (u32, Message);

    fn next(&mut self) -> Option<Self::Item> {
        let len = usize::try_from(u32_at(self.0, 0)?).ok()?;
        let message = self.0.get(..len)?;
        let kind = u16_at(message, 4)?;
        let flags = u16_at(message, 6)?;
        let sequence = u32_at(message, 8)?;
        let body = message.get(HEADER_LEN..)?;
        self.0 = self.0.get(aligned(len)..).unwrap_or_default();
        Some((sequence, read(kind, flags, body).unwrap_or(Message::Other)))
    }
}

fn read(kind: u16, flags: u16, body: &[u8]) -> Option<Message> {
    let interrupted = i32::from(flags) & libc::NLM_F_DUMP_INTR != 0;
    Some(match kind {
        libc::RTM_NEWLINK => Message::Link(Link::read(body)?),
        libc::RTM_DELLINK => Message::LinkGone(u32_at(body, 4)?),
        libc::RTM_NEWADDR => Message::Address(Address::read(body)?),
        libc::RTM_NEWROUTE => Message::Route(Route::read(body)?),
        _ if i32::from(kind) == libc::NLMSG_DONE && interrupted => {
            Message::Finished(Outcome::Interrupted)
        }
        _ if i32::from(kind) == libc::NLMSG_DONE => Message::Finished(Outcome::Done),
        _ if i32::from(kind) == libc::NLMSG_ERROR => {
            Message::Finished(match u32_at(body, 0)?.cast_signed() {
                0 => Outcome::Done,
                error => Outcome::Failed(error.saturating_neg()),
            })
        }
        _ => return None,
    })
}

/// The attributes in `body` behind its fixed part, as (type, value).
pub(super) fn attributes(body: &[u8], fixed_len: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = body.get(fixed_len..).unwrap_or_default();
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & TYPE_MASK;
        let value = rest.get(ATTRIBUTE_HEADER_LEN..len)?;
        rest = rest.get(aligned(len)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The text of an attribute, without its final zero.
pub(super) fn text(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?.trim_end_matches('\0');
    Some(text.to_owned())
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u16::from_ne_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u32::from_ne_bytes)
}

const fn aligned(len: usize) -> usize {
    len.saturating_add(3) & !3
}

/// A request being put together.
pub(super) struct Writer {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Writer {
    /// A request to change something, acknowledged by the kernel.
    pub(super) fn change(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let flags = flags | (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        Self {
            kind,
            flags,
            body: fixed.to_vec(),
        }
    }

    /// A request for everything of a kind, IPv4 where there is a choice; its fixed part has
    /// `fixed_len` bytes, the address family first.
    pub(super) fn dump(kind: u16, fixed_len: usize) -> Self {
        let mut body = vec![libc::AF_INET as u8];
        body.resize(fixed_len, 0);
        Self {
            kind,
            flags: (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16,
            body,
        }
    }

    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let len = (ATTRIBUTE_HEADER_LEN + value.len()) as u16;
        self.body.extend(len.to_ne_bytes());
        self.body.extend(kind.to_ne_bytes());
        self.body.extend(value);
        self.body.resize(aligned(self.body.len()), 0);
    }

    pub(super) fn finish(&mut self, sequence: u32) -> Vec<u8> {
        let len = (HEADER_LEN + self.body.len()) as u32;
        let mut bytes = Vec::with_capacity(HEADER_LEN + self.body.len());
        bytes.extend(len.to_ne_bytes());
        bytes.extend(self.kind.to_ne_bytes());
        bytes.extend(self.flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.append(&mut self.body);
        bytes
    }
}
