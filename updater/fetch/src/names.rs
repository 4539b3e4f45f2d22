//! Names to IPv4 addresses: literals, the hosts file, then the name servers of resolv.conf by UDP
//! (RFC 1035). A static program has no other name service.
//!
//! An answer is matched by its random number, the question it repeats and its sender. A forged
//! one leads to a server whose files do not verify, no further.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::limits::{ADDRESSES, DNS_BYTES};

/// How long one server has, the first time and the second.
const PATIENCE: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(5)];
/// A name server's port.
const PORT: u16 = 53;
/// Text files are read to here.
const MOST_TEXT: u64 = 64 << 10;

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// There is nobody to ask.
    #[error("the machine knows no name server")]
    NoServers,
    /// The servers say that there is none.
    #[error("no name server knows it (code {0})")]
    Unknown(u8),
    /// Nobody answered.
    #[error("no name server answered")]
    NoAnswer,
    /// It is none.
    #[error("it is not a name")]
    NotAName,
    /// The question could not be sent.
    #[error("cannot ask: {0}")]
    Ask(#[from] io::Error),
}

/// Finds addresses.
#[derive(Clone, Debug)]
pub struct Resolver {
    hosts: PathBuf,
    servers: PathBuf,
    port: u16,
}

impl Default for Resolver {
    fn default() -> Self {
        Self::reading("/etc/hosts", "/etc/resolv.conf")
    }
}

impl Resolver {
    /// With these files in the place of the system's. They are read at each question: the network
    /// changes under a running program.
    pub fn reading(hosts: impl Into<PathBuf>, servers: impl Into<PathBuf>) -> Self {
        Self {
            hosts: hosts.into(),
            servers: servers.into(),
            port: PORT,
        }
    }

    /// Addresses of `host`, at least one.
    ///
    /// # Errors
    /// See [`NameError`].
    pub fn find(&self, host: &str) -> Result<Vec<Ipv4Addr>, NameError> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let known = in_hosts(&text(&self.hosts), host);
        if !known.is_empty() {
            return Ok(known);
        }
        let servers = servers(&text(&self.servers));
        if servers.is_empty() {
            return Err(NameError::NoServers);
        }
        let mut last = NameError::NoAnswer;
        for patience in PATIENCE {
            for server in &servers {
                match self.ask(SocketAddr::new(*server, self.port), host, patience) {
                    Ok(addresses) => return Ok(addresses),
                    // Another server may know better; what was said counts more than silence.
                    Err(NameError::NoAnswer) => {}
                    Err(why) => last = why,
                }
            }
            if matches!(last, NameError::Unknown(_) | NameError::NotAName) {
                break;
            }
        }
        Err(last)
    }

    fn ask(
        &self,
        server: SocketAddr,
        host: &str,
        patience: Duration,
    ) -> Result<Vec<Ipv4Addr>, NameError> {
        let number = random()?;
        let question = question(number, host).ok_or(NameError::NotAName)?;
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
        socket.connect(server)?; // answers of others are dropped by the kernel
        socket.send(&question)?;
        let until = Instant::now() + patience;
        let mut answer = [0; DNS_BYTES];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(NameError::NoAnswer);
            }
            socket.set_read_timeout(Some(left))?;
            let Ok(length) = socket.recv(&mut answer) else {
                return Err(NameError::NoAnswer); // time is over, or nobody is there
            };
            if let Some(found) = answer.get(..length).and_then(|got| read(got, &question)) {
                return found;
            }
        }
    }
}

fn text(path: &PathBuf) -> String {
    let mut text = String::new();
    if let Ok(file) = File::open(path) {
        // A file that is not text has no addresses.
        let _ = file.take(MOST_TEXT).read_to_string(&mut text);
    }
    text
}

fn in_hosts(hosts: &str, host: &str) -> Vec<Ipv4Addr> {
    let lines = hosts
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words
                .any(|name| name.eq_ignore_ascii_case(host))
                .then_some(address)
        })
        .take(ADDRESSES)
        .collect()
}

fn servers(resolv_conf: &str) -> Vec<IpAddr> {
    resolv_conf
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok())
        .take(3)
        .collect()
}

fn random() -> io::Result<u16> {
    let mut bytes = [0; 2];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u16::from_be_bytes(bytes))
}

/// A question for the address of `host`; `None` when it is no name.
fn question(number: u16, host: &str) -> Option<Vec<u8>> {
    let [high, low] = number.to_be_bytes();
    // Recursion desired, one question.
    let mut bytes = vec![high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in host.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|length| (1..=63).contains(length))?;
        bytes.push(length);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0, 0, 1, 0, 1]); // the root, type A, class IN
    (bytes.len() <= 12 + 255 + 4).then_some(bytes)
}

/// Reads an answer; `None` when it is to another question.
fn read(answer: &[u8], question: &[u8]) -> Option<Result<Vec<Ipv4Addr>, NameError>> {
    let asked = question.get(12..)?;
    let repeated = answer.get(12..)?.get(..asked.len())?;
    let same = answer.get(..2)? == question.get(..2)? && repeated.eq_ignore_ascii_case(asked);
    let flags = answer.get(2..4)?;
    let is_answer = flags.first()? & 0x80 != 0;
    if !same || !is_answer {
        return None;
    }
    let code = flags.last()? & 0x0f;
    if code != 0 {
        return Some(Err(NameError::Unknown(code)));
    }
    let count = u16::from_be_bytes(answer.get(6..8)?.try_into().ok()?);
    let mut rest = answer.get(12 + asked.len()..)?;
    let mut addresses = Vec::new();
    for _ in 0..count {
        let Some((kind, data, behind)) = record(rest) else {
            break; // cut off: what came before still counts
        };
        if let (Kind::Address, Ok(bytes)) = (kind, <[u8; 4]>::try_from(data)) {
            addresses.push(Ipv4Addr::from(bytes));
        }
        rest = behind;
    }
    addresses.truncate(ADDRESSES);
    Some(match addresses.is_empty() {
        true => Err(NameError::Unknown(0)),
        false => Ok(addresses),
    })
}

enum Kind {
    Address,
    Other,
}

/// One resource record: kind, data, what is behind it.
fn record(bytes: &[u8]) -> Option<(Kind, &[u8], &[u8])> {
    let mut rest = bytes;
    loop {
        let (length, behind) = rest.split_first()?;
        match length {
            0 => {
                rest = behind;
                break;
            }
            0xc0.. => {
                rest = behind.get(1..)?; // a pointer ends the name
                break;
            }
            length => rest = behind.get(usize::from(*length)..)?,
        }
    }
    let (fixed, behind) = rest.split_at_checked(10)?;
    let kind = match fixed.get(..4)? {
        [0, 1, 0, 1] => Kind::Address,
        _ => Kind::Other,
    };
    let length = u16::from_be_bytes(fixed.get(8..10)?.try_into().ok()?);
    let (data, behind) = behind.split_at_checked(usize::from(length))?;
    Some((kind, data, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer to `question` with a CNAME before the address.
    fn answer_to(question: &[u8], address: [u8; 4]) -> Vec<u8> {
        let mut bytes = question.to_vec();
        bytes[2] = 0x81;
        bytes[3] = 0x80;
        bytes[7] = 2;
        bytes.extend_from_slice(&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 4, 1, b'x', 0xc0, 12]);
        bytes.extend_from_slice(&[1, b'x', 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4]);
        bytes.extend_from_slice(&address);
        bytes
    }

    #[test]
    fn an_address_is_found_behind_other_names() {
        let question = question(7, "updates.example").expect("a name");
        let answer = answer_to(&question, [192, 0, 2, 7]);
        let found = read(&answer, &question)
            .expect("an answer")
            .expect("addresses");
        assert_eq!(found, [Ipv4Addr::new(192, 0, 2, 7)]);
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let asked = question(7, "updates.example").expect("a name");
        let other = question(7, "updates.exemple").expect("a name");
        assert!(read(&answer_to(&other, [1, 2, 3, 4]), &asked).is_none());
        let other = question(8, "updates.example").expect("a name");
        assert!(read(&answer_to(&other, [1, 2, 3, 4]), &asked).is_none());
        assert!(read(&asked, &asked).is_none(), "a question is no answer");
    }

    #[test]
    fn any_cut_and_any_flipped_byte_of_an_answer_is_survived() {
        let question = question(7, "updates.example").expect("a name");
        let answer = answer_to(&question, [192, 0, 2, 7]);
        for length in 0..answer.len() {
            let _ = read(&answer[..length], &question);
            for value in 0..=255 {
                let mut flipped = answer.clone();
                flipped[length] = value;
                let _ = read(&flipped, &question);
            }
        }
    }

    #[test]
    fn names_come_from_the_hosts_file_and_a_server() {
        let directory = std::env::temp_dir().join(format!("berth-names-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let (hosts, conf) = (directory.join("hosts"), directory.join("resolv.conf"));
        fs::write(&hosts, "127.0.0.1 localhost\n192.0.2.9 near # next door\n").expect("write");
        fs::write(&conf, "nameserver 127.0.0.1\n").expect("write");
        let server = UdpSocket::bind("127.0.0.1:0").expect("a server");
        let mut resolver = Resolver::reading(&hosts, &conf);
        resolver.port = server.local_addr().expect("its address").port();
        let answering = std::thread::spawn(move || {
            let mut asked = [0; 512];
            let (length, from) = server.recv_from(&mut asked).expect("a question");
            let answer = answer_to(&asked[..length], [192, 0, 2, 8]);
            server.send_to(&answer, from).expect("an answer");
        });
        assert_eq!(
            resolver.find("NEAR").expect("known"),
            [Ipv4Addr::new(192, 0, 2, 9)]
        );
        assert_eq!(
            resolver.find("far.example").expect("asked"),
            [Ipv4Addr::new(192, 0, 2, 8)]
        );
        answering.join().expect("the server");
        fs::write(&conf, "").expect("write");
        assert!(matches!(
            resolver.find("far.example"),
            Err(NameError::NoServers)
        ));
        let _ = fs::remove_dir_all(&directory);
    }
}
