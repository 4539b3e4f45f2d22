//! The client: one connection at a time, kept while the server lets it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::answer::{Answer, Framing};
use crate::head::{self, Head};
use crate::limits::{HEAD_BYTES, INTERIM, REDIRECTS};
use crate::names::Resolver;
use crate::pace::Pace;
use crate::{Error, Url};

/// What is kept of a connection's bytes that were read and not yet used.
const BUFFER: usize = 16 << 10;

/// A connection, secure or not.
pub trait Connection: Read + Write {}
impl<T: Read + Write> Connection for T {}

/// Makes a connection secure.
pub trait Tls {
    /// Speaks TLS with `host` over a connection to it.
    ///
    /// # Errors
    /// Why it cannot, as a clause.
    fn secure(&self, host: &str, over: TcpStream) -> Result<Box<dyn Connection>, String>;
}

/// How a client behaves.
pub struct Settings {
    /// The proxy that all requests go through, `HOST:PORT`.
    pub proxy: Option<String>,
    /// Most bytes per second of a body.
    pub most_per_second: Option<u64>,
    /// Fewer bytes per second than this, over half a minute, are not waited for.
    pub least_per_second: u64,
    /// How long to wait for a connection, and for the next bytes of an answer.
    pub patience: Duration,
    /// Finds addresses.
    pub resolver: Resolver,
    /// For `https`; without it such URLs cannot be fetched.
    pub tls: Option<Box<dyn Tls>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            proxy: None,
            most_per_second: None,
            least_per_second: 1024,
            patience: Duration::from_secs(30),
            resolver: Resolver::default(),
            tls: None,
        }
    }
}

/// Gets files.
pub struct Client {
    pub(crate) settings: Settings,
    open: Option<Open>,
}

/// A connection that may serve the next request.
pub(crate) struct Open {
    to: Url,
    connection: Box<dyn Connection>,
    buffer: Vec<u8>,
    /// What of the buffer is used already.
    used: usize,
}

impl Client {
    /// A client without a connection.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            open: None,
        }
    }

    /// A client that has a connection to the server of `url` already.
    #[must_use]
    pub fn connected(settings: Settings, url: &Url, connection: Box<dyn Connection>) -> Self {
        Self {
            settings,
            open: Some(Open::new(url.clone(), connection)),
        }
    }

    /// Asks for a file, or for a range of its bytes. The status is 200, or 206 with exactly the
    /// range that was asked for; anything else is an error.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn get(&mut self, url: &Url, range: Option<Range<u64>>) -> Result<Answer<'_>, Error> {
        let mut url = url.clone();
        for _ in 0..REDIRECTS {
            let (open, head) = self.exchange(&url, range.as_ref())?;
            match head.status {
                301 | 302 | 303 | 307 | 308 => url = redirected(&url, &head)?,
                _ => return self.answer(open, head, url, range),
            }
        }
        Err(Error::Redirect {
            authority: url.authority(),
            path: url.path.clone(),
            to: url.to_string(),
            reason: "it does not come to an end",
        })
    }

    /// Keeps a connection whose answer was read to its end.
    pub(crate) fn keep(&mut self, open: Open) {
        self.open = Some(open);
    }

    fn answer(
        &mut self,
        open: Open,
        head: Head,
        url: Url,
        range: Option<Range<u64>>,
    ) -> Result<Answer<'_>, Error> {
        let fits = match (head.status, &range, head.content_range) {
            (200, None, _) => true,
            (206, Some(range), Some((first, last, _))) => {
                first == range.start && last.checked_add(1) == Some(range.end)
            }
            (200 | 206, _, _) => false,
            (status, _, _) => {
                return Err(Error::Status {
                    authority: url.authority(),
                    path: url.path,
                    status,
                });
            }
        };
        if !fits {
            return Err(Error::Range {
                authority: url.authority(),
                path: url.path,
            });
        }
        let framing = match (head.chunked, head.content_length) {
            (true, _) => Framing::Chunks {
                left: 0,
                first: true,
            },
            (false, Some(length)) => Framing::Length { left: length },
            (false, None) => Framing::UntilClosed,
        };
        if let (Some(range), Framing::Length { left }) = (&range, &framing)
            && *left != range.end.saturating_sub(range.start)
        {
            return Err(Error::Range {
                authority: url.authority(),
                path: url.path,
            });
        }
        let pace = Pace::new(
            self.settings.most_per_second,
            self.settings.least_per_second,
            Instant::now(),
        );
        Ok(Answer::new(self, open, url, framing, head.close, pace))
    }

    /// Sends a request and reads the head of its answer. A kept connection that the server has
    /// given up in the meantime is replaced once.
    fn exchange(&mut self, url: &Url, range: Option<&Range<u64>>) -> Result<(Open, Head), Error> {
        if let Some(mut open) = self.open.take().filter(|open| open.to.same_server(url))
            && let Ok(head) = self.ask(&mut open, url, range)
        {
            return Ok((open, head));
        }
        let mut open = self.connect(url)?;
        let head = self.ask(&mut open, url, range)?;
        Ok((open, head))
    }

    fn ask(&self, open: &mut Open, url: &Url, range: Option<&Range<u64>>) -> Result<Head, Error> {
        let path = match (&self.settings.proxy, url.secure) {
            (Some(_), false) => url.to_string(), // RFC 9112, 3.2.2: a proxy needs all of it
            _ => url.path.clone(),
        };
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: berth\r\nAccept-Encoding: identity\r\n",
            url.authority()
        );
        if let Some(range) = range {
            let last = range.end.saturating_sub(1);
            request.push_str(&format!("Range: bytes={}-{last}\r\n", range.start));
        }
        request.push_str("\r\n");
        let sent = open.connection.write_all(request.as_bytes());
        sent.and_then(|()| open.connection.flush())
            .map_err(|source| broken(url, self.settings.patience, source))?;
        for _ in 0..=INTERIM {
            let head = open.head(url, self.settings.patience)?;
            if head.status >= 200 {
                return Ok(head); // before that: 100 Continue and its like
            }
        }
        Err(Error::Protocol {
            authority: url.authority(),
            what: "it does not come to its answer",
        })
    }

    fn connect(&self, url: &Url) -> Result<Open, Error> {
        let (host, port) = match &self.settings.proxy {
            Some(proxy) => {
                let (host, port) = proxy.split_once(':').unwrap_or((proxy, "3128"));
                (host, port.parse().unwrap_or(3128))
            }
            None => (url.host.as_str(), url.port),
        };
        let stream = self.reach(host, port)?;
        let connection: Box<dyn Connection> = match url.secure {
            false => Box::new(stream),
            true => {
                let refused = |reason: String| Error::Tls {
                    authority: url.authority(),
                    reason,
                };
                let tls = self.settings.tls.as_ref();
                let tls = tls.ok_or_else(|| refused("this machine has no certificates".into()))?;
                let stream = match &self.settings.proxy {
                    Some(proxy) => self.tunnel(stream, proxy, url)?,
                    None => stream,
                };
                tls.secure(&url.host, stream).map_err(refused)?
            }
        };
        Ok(Open::new(url.clone(), connection))
    }

    fn reach(&self, host: &str, port: u16) -> Result<TcpStream, Error> {
        let addresses = self
            .settings
            .resolver
            .find(host)
            .map_err(|source| Error::Name {
                host: host.to_owned(),
                source,
            })?;
        let authority = format!("{host}:{port}");
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in addresses {
            let address = SocketAddr::from((address, port));
            let stream = TcpStream::connect_timeout(&address, self.settings.patience);
            let ready = stream.and_then(|stream| {
                stream.set_read_timeout(Some(self.settings.patience))?;
                stream.set_write_timeout(Some(self.settings.patience))?;
                stream.set_nodelay(true)?;
                Ok(stream)
            });
            match ready {
                Ok(stream) => return Ok(stream),
                Err(why) => last = why,
            }
        }
        Err(Error::Connect {
            authority,
            source: last,
        })
    }

    /// Asks the proxy for a connection to the server (RFC 9110, 9.3.6).
    fn tunnel(&self, stream: TcpStream, proxy: &str, url: &Url) -> Result<TcpStream, Error> {
        let target = format!("{}:{}", url.host, url.port);
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        let copy = stream.try_clone().and_then(|mut copy| {
            copy.write_all(request.as_bytes())?;
            Ok(copy)
        });
        let copy = copy.map_err(|source| broken(url, self.settings.patience, source))?;
        let mut open = Open::new(url.clone(), Box::new(copy));
        let head = open.head(url, self.settings.patience)?;
        // The server speaks only after we do: what is in the buffer now is nobody's.
        match head.status {
            200..300 => Ok(stream),
            status => Err(Error::Proxy {
                proxy: proxy.to_owned(),
                authority: url.authority(),
                status,
            }),
        }
    }
}

fn redirected(from: &Url, head: &Head) -> Result<Url, Error> {
    let to = head.location.clone().unwrap_or_default();
    let refused = |reason| Error::Redirect {
        authority: from.authority(),
        path: from.path.clone(),
        to: to.chars().take(100).collect(),
        reason,
    };
    let url = from
        .follow(&to)
        .map_err(|_| refused("it is no URL of a file"))?;
    match from.secure && !url.secure {
        true => Err(refused("it leaves the secure connection")),
        false => Ok(url),
    }
}

/// What an error of the connection means.
pub(crate) fn broken(url: &Url, patience: Duration, source: io::Error) -> Error {
    let authority = url.authority();
    match source.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Silent {
            authority,
            waited: patience,
        },
        _ => Error::Broken { authority, source },
    }
}

impl Open {
    fn new(to: Url, connection: Box<dyn Connection>) -> Self {
        Self {
            to,
            connection,
            buffer: Vec::new(),
            used: 0,
        }
    }

    /// Bytes that were read and are not used yet; reads some when there are none. Empty at the
    /// end of the connection.
    pub(crate) fn fill(&mut self) -> io::Result<&[u8]> {
        if self.used >= self.buffer.len() {
            self.used = 0;
            self.buffer.resize(BUFFER, 0);
            let got = loop {
                match self.connection.read(&mut self.buffer) {
                    Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                    other => break other,
                }
            };
            self.buffer.truncate(*got.as_ref().unwrap_or(&0));
            got?;
        }
        Ok(self.buffer.get(self.used..).unwrap_or_default())
    }

    /// Counts bytes of [`Open::fill`] as used.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.used = self.used.saturating_add(bytes).min(self.buffer.len());
    }

    /// Reads one head, byte by byte out of the buffer so that the body stays in it.
    fn head(&mut self, url: &Url, patience: Duration) -> Result<Head, Error> {
        let protocol = |what| Error::Protocol {
            authority: url.authority(),
            what,
        };
        let until = Instant::now() + patience.saturating_mul(2);
        let mut bytes = Vec::new();
        loop {
            let got = self.fill().map_err(|why| broken(url, patience, why))?;
            if got.is_empty() {
                return Err(broken(
                    url,
                    patience,
                    io::Error::from(io::ErrorKind::UnexpectedEof),
                ));
            }
            let before = bytes.len();
            bytes.extend_from_slice(got);
            if let Some(end) = head::end(&bytes).filter(|end| *end <= HEAD_BYTES) {
                self.consume(end.saturating_sub(before));
                bytes.truncate(end);
                break;
            }
            let all = bytes.len().saturating_sub(before);
            self.consume(all);
            if bytes.len() >= HEAD_BYTES {
                return Err(protocol("its head is too long"));
            }
            if Instant::now() >= until {
                return Err(Error::Silent {
                    authority: url.authority(),
                    waited: patience.saturating_mul(2),
                });
            }
        }
        head::parse(&bytes).map_err(protocol)
    }
}
