//! The options of a server's message (RFC 2132), and every cap on what is taken from them.

use std::net::Ipv4Addr;

use super::{COOKIE, FIXED_LEN, MAX_MESSAGE, Malformed, code, usable};
use crate::dhcp::lease::LeasedRoute;

const MAX_SERVERS: usize = 8;
const MAX_ROUTES: usize = 64;
const MAX_TEXT: usize = 253;
/// Smaller values are servers' mistakes; IPv4's own minimum would make a network unusable.
const MIN_MTU: u16 = 576;

/// A message's options in order: those of the options field and, when option 52 says so, of the
/// `file` and `sname` fields.
pub(super) struct Options<'a>(Vec<(u8, &'a [u8])>);

impl<'a> Options<'a> {
    pub(super) fn find(bytes: &'a [u8]) -> Result<Self, Malformed> {
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

    pub(super) fn byte(&self, code: u8) -> Result<Option<u8>, Malformed> {
        Ok(self.fixed(code)?.map(|[byte]| byte))
    }

    pub(super) fn seconds(&self, code: u8) -> Result<Option<u32>, Malformed> {
        Ok(self.fixed(code)?.map(u32::from_be_bytes))
    }

    pub(super) fn address(&self, code: u8) -> Result<Option<Ipv4Addr>, Malformed> {
        match self.fixed::<4>(code)?.map(Ipv4Addr::from) {
            Some(address) if !usable(address) => Err(Malformed::Value(code)),
            address => Ok(address),
        }
    }

    pub(super) fn prefix(&self) -> Result<Option<u8>, Malformed> {
        let Some(mask) = self.seconds(code::SUBNET_MASK)? else {
            return Ok(None);
        };
        let ones = mask.leading_ones();
        if mask.checked_shl(ones).unwrap_or(0) != 0 || ones == 0 {
            return Err(Malformed::Value(code::SUBNET_MASK));
        }
        Ok(u8::try_from(ones).ok())
    }

    pub(super) fn addresses(&self, code: u8) -> Vec<Ipv4Addr> {
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
    pub(super) fn routes(&self) -> Option<Vec<LeasedRoute>> {
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

    pub(super) fn domain(&self) -> Option<String> {
        let text = String::from_utf8(self.get(code::DOMAIN)?).ok()?;
        let text = text.trim_end_matches('\0').trim_end_matches('.');
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let fits = !text.is_empty() && text.len() <= MAX_TEXT && text.chars().all(allowed);
        fits.then(|| text.to_owned())
    }

    pub(super) fn mtu(&self) -> Option<u16> {
        let mtu = self.fixed(code::MTU).ok()??;
        Some(u16::from_be_bytes(mtu)).filter(|mtu| *mtu >= MIN_MTU)
    }

    pub(super) fn text(&self) -> Option<String> {
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
