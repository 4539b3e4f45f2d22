//! URLs of files on web servers: `http://HOST[:PORT]/PATH`, nothing more.

use std::fmt;

/// Longer ones are no file's.
const MOST_BYTES: usize = 2048;

/// Where a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// By TLS.
    pub secure: bool,
    /// Name or IPv4 address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path with the slash it starts with, and query.
    pub path: String,
}

/// Why a text is no URL of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a URL like http://updates.example/edge")]
pub struct UrlError(String);

impl Url {
    /// Reads one.
    ///
    /// # Errors
    /// When it is another kind of URL.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let wrong = || UrlError(text.chars().take(100).collect());
        let (secure, rest) = if let Some(rest) = text.strip_prefix("http://") {
            (false, rest)
        } else if let Some(rest) = text.strip_prefix("https://") {
            (true, rest)
        } else {
            return Err(wrong());
        };
        let rest = rest.split('#').next().unwrap_or(rest);
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
            None => (authority, if secure { 443 } else { 80 }),
        };
        let host_fits = (1..=253).contains(&host.len())
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
        let fits = host_fits
            && port != 0
            && text.len() <= MOST_BYTES
            && path.bytes().all(|byte| byte.is_ascii_graphic());
        match fits {
            true => Ok(Self {
                secure,
                host: host.to_owned(),
                port,
                path: path.to_owned(),
            }),
            false => Err(wrong()),
        }
    }

    /// A file below this one, which stands for a directory.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        let mut url = self.clone();
        url.path = format!("{}/{name}", self.path.trim_end_matches('/'));
        url
    }

    /// Where a `Location` field points, seen from here.
    pub(crate) fn follow(&self, location: &str) -> Result<Self, UrlError> {
        if location.contains("://") {
            return Self::parse(location);
        }
        let scheme = if self.secure { "https" } else { "http" };
        let path = match location.strip_prefix('/') {
            Some(_) => location.to_owned(),
            None => {
                let directory = self.path.rsplit_once('/').map_or("", |(before, _)| before);
                format!("{directory}/{location}")
            }
        };
        Self::parse(&format!("{scheme}://{}{path}", self.authority()))
    }

    /// Host and port, as they stand in the Host field.
    #[must_use]
    pub fn authority(&self) -> String {
        match (self.secure, self.port) {
            (false, 80) | (true, 443) => self.host.clone(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }

    /// Whether one connection serves both.
    pub(crate) fn same_server(&self, other: &Self) -> bool {
        self.secure == other.secure && self.host == other.host && self.port == other.port
    }
}

impl fmt::Display for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(out, "{scheme}://{}{}", self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_joined() {
        let url = Url::parse("http://updates.example/edge").expect("a URL");
        assert_eq!((url.port, url.path.as_str()), (80, "/edge"));
        let below = url.join("metadata/1.root.json");
        assert_eq!(
            below.to_string(),
            "http://updates.example/edge/metadata/1.root.json"
        );
        let url = Url::parse("https://10.0.2.2:8443").expect("a URL");
        assert_eq!(url.join("x").to_string(), "https://10.0.2.2:8443/x");
    }

    #[test]
    fn what_a_request_line_cannot_carry_is_refused() {
        for text in [
            "ftp://x/",
            "http://",
            "http:///x",
            "http://x:0/",
            "http://x:99999/",
            "http://user@x/",
            "http://x/a b",
            "http://x/\r\nHost: y",
            "http://[::1]/",
        ] {
            assert!(Url::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn redirects_are_seen_from_where_they_came() {
        let url = Url::parse("http://a:81/x/y").expect("a URL");
        let to = |location| url.follow(location).map(|url| url.to_string());
        assert_eq!(to("/z"), Ok("http://a:81/z".to_owned()));
        assert_eq!(to("z"), Ok("http://a:81/x/z".to_owned()));
        assert_eq!(to("http://b/z"), Ok("http://b/z".to_owned()));
        assert!(to("gopher://b/z").is_err());
    }
}
