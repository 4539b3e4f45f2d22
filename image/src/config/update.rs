//! `[update]`: where newer versions come from, and what the machine does about them by itself.

use berth_provision::{Update, UpdatePolicy, Window};

use super::table::{Located, Table, expected, positive, string};
use super::units::{duration_ms, size_bytes};

/// Pause between two looks at the server when the file says none.
const DEFAULT_EVERY_MS: u64 = 3_600_000;
/// A million machines that look more often than this are no static file server's work.
const LEAST_EVERY_MS: u64 = 10_000;
/// How long a new version must be healthy when the file does not say.
const DEFAULT_HOLD_MS: u64 = 10_000;
/// How long a new version has to become healthy when the file does not say.
const DEFAULT_WITHIN_MS: u64 = 300_000;
/// Slower than this nobody wants an update, and the updater takes the server for stuck.
const LEAST_RATE: u64 = 16 << 10;

/// A checked `[update]`.
#[derive(Clone, Debug)]
pub struct UpdateSection {
    /// What the machine needs to know.
    pub update: Update,
    /// The file with the root of trust (`root.json`), relative to the configuration.
    pub trust: Located<String>,
    /// The file with the certificates (PEM) that vouch for the server.
    pub ca: Option<Located<String>>,
}

pub(super) fn read(top: &mut Table<'_>, containers: &[&str]) -> Option<UpdateSection> {
    let mut table = top.table("update")?;
    let url = table.parse("url", check_url);
    let policy = table.parse("policy", policy);
    let trust = table.string("trust");
    let bundles = table.boolean("bundles").unwrap_or(false);
    let without_trial = table.boolean("without_trial").unwrap_or(false);
    if table.key_span("trust").is_none() {
        table.wrong_here(
            "[update] needs trust, like trust = \"keys/1.root.json\", made by `berth keys`",
        );
    }
    if table.key_span("url").is_none() && !bundles {
        table.wrong_here(
            "[update] needs url, like url = \"http://updates.example/edge\", or bundles = true \
             for a machine that is updated by what is plugged into it",
        );
    }
    let window = table.parse("window", window);
    let every = table.parse("every", |text| {
        at_least(duration_ms(text)?, LEAST_EVERY_MS, "10s")
    });
    let wave = table.read("wave", |value| positive(value, 100));
    let proxy = table.parse("proxy", check_proxy);
    let ca = table.string("ca");
    let rate = table.parse("rate", |text| {
        at_least(size_bytes(text)?, LEAST_RATE, "16K")
    });
    let commit = commit(&mut table, containers);

    let misread = policy.is_none() && table.key_span("policy").is_some();
    let policy = policy.map_or(UpdatePolicy::Stage, |policy| policy.value);
    if policy != UpdatePolicy::Auto
        && !misread
        && let Some(at) = table.key_span("window")
    {
        table.wrong(
            &at,
            "window: only policy = \"auto\" restarts by itself, and then in the window",
        );
    }
    if table.key_span("url").is_none() {
        for key in ["wave", "proxy", "ca", "rate"] {
            if let Some(at) = table.key_span(key) {
                table.wrong(&at, format!("{key}: without url there is no server"));
            }
        }
    }
    if let Some(url) = &url {
        let secure = url.value.starts_with("https://");
        let span = table.key_span(if secure { "url" } else { "ca" });
        match (secure, &ca, span) {
            (true, None, Some(at)) => table.wrong(
                &at,
                "url: https needs ca = \"FILE\", the certificates (PEM) that vouch for the server",
            ),
            (false, Some(_), Some(at)) => {
                table.wrong(
                    &at,
                    "ca: only a url with https:// has a certificate to check",
                );
            }
            _ => {}
        }
    }
    let wrong_url = url.is_none() && table.key_span("url").is_some();
    table.finish();
    if wrong_url {
        return None;
    }
    Some(UpdateSection {
        update: Update {
            url: url.map(|url| url.value),
            bundles,
            policy,
            window: window.map(|window| window.value),
            every_ms: every.map_or(DEFAULT_EVERY_MS, |every| every.value),
            wave: wave.and_then(|wave| u32::try_from(wave.value).ok()),
            healthy: commit.healthy,
            hold_ms: commit.hold_ms,
            within_ms: commit.within_ms,
            proxy: proxy.map(|proxy| proxy.value),
            ca: ca.is_some(),
            rate: rate.map(|rate| rate.value),
            without_trial,
        },
        trust: trust?,
        ca,
    })
}

/// When a new version is kept.
struct Commit {
    healthy: Option<Vec<String>>,
    hold_ms: u64,
    within_ms: u64,
}

fn commit(table: &mut Table<'_>, containers: &[&str]) -> Commit {
    let mut rule = Commit {
        healthy: None,
        hold_ms: DEFAULT_HOLD_MS,
        within_ms: DEFAULT_WITHIN_MS,
    };
    let Some(mut commit) = table.table("commit") else {
        return rule;
    };
    let healthy = commit.list("healthy", "a list of containers, like [\"web\"]", |value| {
        let name = string(value)?;
        match containers.contains(&name.as_str()) {
            true => Ok(name),
            false => Err(format!(
                "there is no [container.{name}], which a new version would wait for in vain"
            )),
        }
    });
    rule.healthy = healthy.map(|names| names.into_iter().map(|name| name.value).collect());
    if let Some(hold) = commit.parse("for", duration_ms) {
        rule.hold_ms = hold.value;
    }
    if let Some(within) = commit.parse("within", duration_ms) {
        rule.within_ms = within.value;
    }
    if rule.within_ms <= rule.hold_ms {
        let at = commit.key_span("within").or(commit.key_span("for"));
        commit.wrong(
            &at.unwrap_or_default(),
            "within: a new version needs more time than it must be healthy for",
        );
    }
    commit.finish();
    rule
}

fn at_least(number: u64, least: u64, least_text: &str) -> Result<u64, String> {
    match number >= least {
        true => Ok(number),
        false => Err(format!("expected at least \"{least_text}\"")),
    }
}

/// A URL that a request line can carry: no user, no query, no fragment.
fn check_url(text: &str) -> Result<String, String> {
    let wrong = || {
        format!(
            "expected http://HOST/PATH or https://HOST/PATH, without user, query or fragment, \
             found {text:?}"
        )
    };
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"))
        .ok_or_else(wrong)?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path_fits = path
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&byte));
    match check_authority(authority) && path_fits {
        true => Ok(text.trim_end_matches('/').to_owned()),
        false => Err(wrong()),
    }
}

fn check_proxy(text: &str) -> Result<String, String> {
    let authority = text.strip_prefix("http://").unwrap_or(text);
    let authority = authority.trim_end_matches('/');
    let has_port = authority.contains(':');
    match has_port && check_authority(authority) {
        true => Ok(authority.to_owned()),
        false => Err(format!(
            "expected http://HOST:PORT of an HTTP proxy, found {text:?}"
        )),
    }
}

/// `HOST` or `HOST:PORT`.
fn check_authority(text: &str) -> bool {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let host_fits = (1..=253).contains(&host.len())
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
    host_fits && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0))
}

fn policy(text: &str) -> Result<UpdatePolicy, String> {
    match text {
        "off" => Ok(UpdatePolicy::Off),
        "stage" => Ok(UpdatePolicy::Stage),
        "auto" => Ok(UpdatePolicy::Auto),
        _ => Err(format!(
            "expected \"off\", \"stage\" or \"auto\", found {text:?}"
        )),
    }
}

/// `02:00-05:00`, UTC.
fn window(text: &str) -> Result<Window, String> {
    let wrong = || format!("expected a time of day like \"02:00-05:00\" (UTC), found {text:?}");
    let minutes = |text: &str| -> Option<u16> {
        let (hours, minutes) = text.split_once(':')?;
        let two_digits =
            |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        if !two_digits(hours) || !two_digits(minutes) {
            return None;
        }
        let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
        (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
    };
    let (from, to) = text.split_once('-').ok_or_else(wrong)?;
    let window = Window {
        from: minutes(from).ok_or_else(wrong)?,
        to: minutes(to).ok_or_else(wrong)?,
    };
    match window.from == window.to {
        true => Err(wrong()),
        false => Ok(window),
    }
}

/// `security_version` of `[image]`.
pub(super) fn security_version(table: &mut Table<'_>) -> u64 {
    let read = table.read("security_version", |value| match value {
        toml::de::DeValue::Integer(integer) => {
            u64::from_str_radix(integer.as_str(), integer.radix())
                .ok()
                .filter(|number| *number <= u64::from(u32::MAX))
                .ok_or_else(|| expected("a whole number from 0 to 4294967295", value))
        }
        other => Err(expected("a whole number from 0 to 4294967295", other)),
    });
    read.map_or(0, |number| number.value)
}
