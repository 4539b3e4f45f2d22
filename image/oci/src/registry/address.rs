//! Where a URL leads.

use std::net::IpAddr;

use ureq::http::Uri;

/// Whether `host[:port]` never leaves this computer.
pub(super) fn is_loopback(authority: &str) -> bool {
    let host = match authority
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((address, _)) => address,
        None => authority
            .rsplit_once(':')
            .map_or(authority, |(host, _)| host),
    };
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// A redirect's target, which may leave out scheme and host.
pub(super) fn joined(base: &str, location: &str) -> Option<String> {
    if location.contains("://") {
        return Some(location.to_owned());
    }
    let base = base.parse::<Uri>().ok()?;
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    if let Some(rest) = location.strip_prefix("//") {
        return Some(format!("{scheme}://{rest}"));
    }
    location
        .starts_with('/')
        .then(|| format!("{scheme}://{authority}{location}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_computer_is_loopback() {
        for yes in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:5000",
        ] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in [
            "localhost.evil.io",
            "127.0.0.1.nip.io",
            "10.0.0.1:5000",
            "[::2]:1",
            "0.0.0.0",
        ] {
            assert!(!is_loopback(no), "{no}");
        }
    }

    #[test]
    fn redirects_may_be_relative_to_the_host() {
        let base = "https://r.io:444/v2/x/blobs/y";
        assert_eq!(
            joined(base, "/b?c").as_deref(),
            Some("https://r.io:444/b?c")
        );
        assert_eq!(joined(base, "//s.io/b").as_deref(), Some("https://s.io/b"));
        assert_eq!(
            joined(base, "http://s.io/b").as_deref(),
            Some("http://s.io/b")
        );
        assert_eq!(joined(base, ""), None);
    }
}
