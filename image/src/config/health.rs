//! `health` of a container: what is asked, how often, and how many failures it may have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use berth_containers::spec::{Health, Probe};

use super::table::{Located, Table, positive};
use super::units::duration_ms;

/// From one probe to the next.
const DEFAULT_EVERY_MS: u64 = 10_000;
/// What one probe may take, unless the next is due before.
const DEFAULT_TIMEOUT_MS: u64 = 5_000;
/// Failures in a row.
const DEFAULT_FAILS: u32 = 3;
/// After a start, in which failures do not count.
const DEFAULT_START_MS: u64 = 20_000;

/// A probe is a process: more often than this it would be the machine's main work.
const LEAST_EVERY_MS: u64 = 1_000;
/// Less time than this a busy machine needs for the process alone.
const LEAST_TIMEOUT_MS: u64 = 100;
/// More failures than this are no check.
const MOST_FAILS: u64 = 100;
/// The longest path of a probe, bytes.
const MOST_PATH: usize = 1024;
/// The longest command of a probe, bytes.
const MOST_COMMAND: usize = 64 << 10;

pub(super) fn read(container: &mut Table<'_>) -> Option<Located<Health>> {
    let at = container.key_span("health")?;
    let mut table = container.table("health")?;
    let http = table.parse("http", http);
    let tcp = table.parse("tcp", |text| {
        endpoint(text).map(|(address, port)| Probe::Tcp { address, port })
    });
    let exec = exec(&mut table);
    let every = table.parse("every", |text| at_least(text, LEAST_EVERY_MS));
    let timeout = table.parse("timeout", |text| at_least(text, LEAST_TIMEOUT_MS));
    let fails = table.read("fails", |value| positive(value, MOST_FAILS));
    let start = table.parse("start", duration_ms);
    let asked = ["http", "tcp", "exec"].map(|key| table.key_span(key));
    let mut asked = asked.into_iter().flatten();
    match (asked.next(), asked.next()) {
        (None, _) => table.wrong(
            &at,
            "health: expected what is asked: http = \"http://:80/\", tcp = \":5432\" or \
             exec = [\"PROGRAM\", …]",
        ),
        (Some(_), Some(second)) => table.wrong(
            &second,
            "health: a container has one probe: http, tcp or exec, not two of them",
        ),
        (Some(_), None) => {}
    }
    let every_ms = every.map_or(DEFAULT_EVERY_MS, |every| every.value);
    let given_ms = timeout.map(|timeout| timeout.value);
    if given_ms.is_some_and(|timeout_ms| timeout_ms > every_ms) {
        let at = table.key_span("timeout").unwrap_or_default();
        table.wrong(
            &at,
            format!("timeout: longer than from one probe to the next, which is {every_ms} ms"),
        );
    }
    let place = table.place_of(&at);
    table.finish();
    let probe = http.map(|http| http.value).or(tcp.map(|tcp| tcp.value));
    Some(Located {
        value: Health {
            probe: probe.or(exec)?,
            every_ms,
            timeout_ms: given_ms.unwrap_or(DEFAULT_TIMEOUT_MS.min(every_ms)),
            fails: fails.map_or(DEFAULT_FAILS, |fails| {
                u32::try_from(fails.value).unwrap_or(DEFAULT_FAILS) // at most MOST_FAILS
            }),
            start_ms: start.map_or(DEFAULT_START_MS, |start| start.value),
        },
        place,
    })
}

fn at_least(text: &str, least_ms: u64) -> Result<u64, String> {
    match duration_ms(text)? {
        ms if ms < least_ms => Err(format!("{text:?} is less than {least_ms} ms")),
        ms => Ok(ms),
    }
}

/// `http://[ADDRESS]:PORT[/PATH][?QUERY]`.
fn http(text: &str) -> Result<Probe, String> {
    let wrong = |why: &str| {
        format!("expected {why}, like \"http://:80/\" or \"http://:8080/healthz\", found {text:?}")
    };
    if text.starts_with("https://") {
        return Err(format!(
            "https is not asked, for nothing says which certificate the container should have: \
             use http on a port of its own, tcp, or exec with a client of the image, found {text:?}"
        ));
    }
    let rest = text
        .strip_prefix("http://")
        .ok_or_else(|| wrong("an address that starts with \"http://\""))?;
    let split = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(split);
    let (address, port) = endpoint(authority).map_err(|_| {
        wrong(
            "the port that the container listens on, after nothing or its IP address (names are \
             not looked up)",
        )
    })?;
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) || path.contains('#') {
        return Err(wrong("a path of printable ASCII without \"#\""));
    }
    if path.len() > MOST_PATH {
        return Err(format!("the path is longer than {MOST_PATH} bytes"));
    }
    let path = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("/{path}"),
    };
    Ok(Probe::Http {
        address,
        port,
        path,
    })
}

/// `:PORT`, `127.0.0.1:PORT`, `[::1]:PORT`.
fn endpoint(text: &str) -> Result<(Option<IpAddr>, u16), String> {
    let wrong = || {
        format!(
            "expected a port like \":5432\", which may have the container's IP address in front, \
             found {text:?}"
        )
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let address = match host {
        "" => None,
        "localhost" => None,
        _ => Some(ip_address(host).ok_or_else(wrong)?),
    };
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|port| digits && *port != 0);
    Ok((address, port.ok_or_else(wrong)?))
}

/// An address that can be connected to: IPv6 in brackets.
fn ip_address(host: &str) -> Option<IpAddr> {
    let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let address = match inner {
        Some(inner) => IpAddr::V6(inner.parse::<Ipv6Addr>().ok()?),
        None => IpAddr::V4(host.parse::<Ipv4Addr>().ok()?),
    };
    (!address.is_unspecified() && !address.is_multicast()).then_some(address)
}

fn exec(table: &mut Table<'_>) -> Option<Probe> {
    let what = "a list of strings, like [\"pg_isready\"]";
    let at = table.key_span("exec")?;
    let command = table.strings("exec", what)?;
    let program = command.first().map(String::as_str).unwrap_or_default();
    let bytes: usize = command.iter().map(String::len).sum();
    let wrong = match program {
        "" => Some("expected a program and its arguments, like [\"pg_isready\"]".to_owned()),
        "CMD" | "CMD-SHELL" | "NONE" => Some(format!(
            "{program:?} is Compose's; here stand a program of the image and its arguments, like \
             [\"sh\", \"-c\", \"test -e /run/ready\"]"
        )),
        _ if bytes > MOST_COMMAND => Some(format!("longer than {MOST_COMMAND} bytes")),
        _ if command.iter().any(|part| part.contains('\0')) => {
            Some("an argument cannot hold NUL".to_owned())
        }
        _ => None,
    };
    if let Some(why) = wrong {
        table.wrong(&at, format!("exec: {why}"));
        return None;
    }
    Some(Probe::Exec(command))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn read(line: &str) -> Result<Health, Vec<String>> {
        let head = "schema = 1\n[image]\nname = \"t\"\nversion = \"1\"\n";
        let text = format!("{head}[container.a]\nimage = \"oci:a\"\nhealth = {line}\n");
        match parse("berth.toml", &text) {
            Ok(config) => Ok(config.containers[0].health.clone().expect("read").value),
            Err(mistakes) => Err(mistakes.to_string().lines().map(str::to_owned).collect()),
        }
    }

    fn probe(line: &str) -> Probe {
        read(&format!("{{ {line} }}")).expect(line).probe
    }

    #[test]
    fn what_the_file_leaves_open_has_the_documented_defaults() {
        assert_eq!(
            read("{ tcp = \":5432\" }"),
            Ok(Health {
                probe: Probe::Tcp {
                    address: None,
                    port: 5432
                },
                every_ms: 10_000,
                timeout_ms: 5_000,
                fails: 3,
                start_ms: 20_000,
            })
        );
        let quick = read("{ tcp = \":1\", every = \"1s\", start = \"0s\", fails = 1 }");
        let quick = quick.expect("good");
        assert_eq!(
            (quick.timeout_ms, quick.start_ms, quick.fails),
            (1_000, 0, 1)
        );
    }

    #[test]
    fn addresses_and_paths_are_read_as_they_are_meant() {
        let http = |address: Option<&str>, port, path: &str| Probe::Http {
            address: address.map(|address| address.parse().expect("an address")),
            port,
            path: path.to_owned(),
        };
        for (url, expected) in [
            ("http://:80/", http(None, 80, "/")),
            ("http://:80", http(None, 80, "/")),
            ("http://localhost:80/a", http(None, 80, "/a")),
            ("http://:80?ready", http(None, 80, "/?ready")),
            (
                "http://127.0.0.2:8080/a/b?c=d",
                http(Some("127.0.0.2"), 8080, "/a/b?c=d"),
            ),
            ("http://[::1]:65535/", http(Some("::1"), 65535, "/")),
        ] {
            assert_eq!(probe(&format!("http = \"{url}\"")), expected, "{url}");
        }
        assert_eq!(
            probe("exec = [\"pg_isready\", \"-q\"]"),
            Probe::Exec(vec!["pg_isready".into(), "-q".into()])
        );
    }

    #[test]
    fn what_cannot_be_asked_is_refused_with_its_place_and_a_way_out() {
        for (line, expected) in [
            ("{}", "7:1: health: expected what is asked: http = "),
            (
                "{ every = \"5s\" }",
                "7:1: health: expected what is asked: http = ",
            ),
            (
                "{ tcp = \":1\", exec = [\"x\"] }",
                "7:24: health: a container has one probe",
            ),
            ("\"http://:80/\"", "7:10: health: expected a table"),
            (
                "{ htp = \"http://:80/\", tcp = \":1\" }",
                "7:12: unknown key \"htp\" in health of [container.a]; did you mean \"http\"?",
            ),
            ("{ http = \"http:///\" }", "7:19: http: expected the port"),
            (
                "{ http = \"http://127.0.0.1/\" }",
                "7:19: http: expected the port",
            ),
            (
                "{ http = \"http://web:80/\" }",
                "7:19: http: expected the port",
            ),
            (
                "{ http = \"http://me@:80/\" }",
                "7:19: http: expected the port",
            ),
            ("{ http = \"http://:0/\" }", "7:19: http: expected the port"),
            (
                "{ http = \"http://:80/#a\" }",
                "7:19: http: expected a path of printable",
            ),
            (
                "{ http = \"http://:80/a b\" }",
                "7:19: http: expected a path of printable",
            ),
            (
                "{ http = \"https://:443/\" }",
                "7:19: http: https is not asked",
            ),
            (
                "{ http = \":80\" }",
                "7:19: http: expected an address that starts with \"http://\"",
            ),
            ("{ tcp = \"5432\" }", "7:18: tcp: expected a port like"),
            ("{ tcp = \":+1\" }", "7:18: tcp: expected a port like"),
            ("{ tcp = \":65536\" }", "7:18: tcp: expected a port like"),
            ("{ tcp = \"::1:80\" }", "7:18: tcp: expected a port like"),
            (
                "{ tcp = \"0.0.0.0:80\" }",
                "7:18: tcp: expected a port like",
            ),
            ("{ tcp = 5432 }", "7:18: tcp: expected a string"),
            ("{ exec = [] }", "7:12: exec: expected a program"),
            ("{ exec = [\"\"] }", "7:12: exec: expected a program"),
            (
                "{ exec = \"pg_isready\" }",
                "7:19: exec: expected a list of strings",
            ),
            (
                "{ exec = [\"CMD\", \"true\"] }",
                "7:12: exec: \"CMD\" is Compose's",
            ),
            (
                "{ exec = [\"a\", \"\\u0000\"] }",
                "7:12: exec: an argument cannot hold NUL",
            ),
            (
                "{ tcp = \":1\", every = \"500ms\" }",
                "7:32: every: \"500ms\" is less than 1000 ms",
            ),
            (
                "{ tcp = \":1\", timeout = \"1ms\" }",
                "7:34: timeout: \"1ms\" is less than 100 ms",
            ),
            (
                "{ tcp = \":1\", every = \"2s\", timeout = \"3s\" }",
                "7:38: timeout: longer than from one probe to the next, which is 2000 ms",
            ),
            (
                "{ tcp = \":1\", fails = 0 }",
                "7:32: fails: expected a whole number from 1 to 100",
            ),
            (
                "{ tcp = \":1\", start = \"20\" }",
                "7:32: start: expected a duration like",
            ),
        ] {
            let found = read(line).expect_err(line);
            assert_eq!(found.len(), 1, "{line}: {found:?}");
            let expected = format!("berth.toml:{expected}");
            assert!(found[0].starts_with(&expected), "{line}: {found:?}");
        }
    }
}
