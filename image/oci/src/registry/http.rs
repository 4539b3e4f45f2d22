//! Requests to one repository: scheme, tokens, redirects, retries.
//!
//! Plain HTTP is used for loopback and for registries that the options name, nowhere else, not
//! even when a server sends us there. `Authorization` goes to the registry itself and, when it
//! holds a password, to the token server that the registry names; never along a redirect.

use std::cell::{Cell, RefCell};
use std::io::Read;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::{Response, Uri, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, Proxy};

use super::auth::{self, Credentials, Found};
use super::challenge::Challenge;
use super::error::RegistryError;
use crate::options::{Options, RegistryOptions};
use crate::reference::RegistryName;

/// Talks to one repository.
#[derive(Debug)]
pub(super) struct Client {
    /// Through the proxy, if there is one.
    agent: Agent,
    /// For loopback, which is never behind a proxy.
    direct: Agent,
    host: String,
    repository: String,
    /// `None` until the first answer: a registry on loopback may speak TLS or not.
    scheme: Cell<Option<Scheme>>,
    credentials: Found,
    authorization: RefCell<Option<String>>,
    options: RegistryOptions,
    token_limit: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

type Answer = Response<Body>;

const MAX_REDIRECTS: usize = 5;
/// Longest pause that a server may ask for.
const MAX_PAUSE: Duration = Duration::from_secs(30);
const USER_AGENT: &str = concat!("berth/", env!("CARGO_PKG_VERSION"));

impl Client {
    pub(super) fn new(name: &RegistryName, options: &Options) -> Result<Self, RegistryError> {
        let registry = &options.registry;
        let credentials = match &registry.auth_file {
            Some(path) => auth::load(path, name)?,
            None => Found::Nothing,
        };
        let tls = tls(registry)?;
        let scheme = match registry.plain_http.contains(&name.registry) {
            true => Some(Scheme::Http),
            false if is_loopback(&name.registry) => None,
            false => Some(Scheme::Https),
        };
        Ok(Self {
            agent: agent(registry, tls.clone(), Proxy::try_from_env()),
            direct: agent(registry, tls, None),
            // Docker Hub's API has another name than its images.
            host: match name.registry.as_str() {
                "docker.io" => "registry-1.docker.io".to_owned(),
                host => host.to_owned(),
            },
            repository: name.repository.clone(),
            scheme: Cell::new(scheme),
            credentials,
            authorization: RefCell::new(None),
            options: registry.clone(),
            token_limit: options.limits.token_bytes,
        })
    }

    /// Fetches something small whole; one byte more than `limit` at most.
    pub(super) fn get_small(
        &self,
        path: &str,
        accept: &str,
        limit: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        let mut failures = Failures::new(&self.options);
        loop {
            let answer = self.get(path, accept, None)?;
            let mut bytes = Vec::new();
            let body = answer
                .into_body()
                .into_with_config()
                .limit(u64::MAX)
                .reader();
            match body.take(limit + 1).read_to_end(&mut bytes) {
                Ok(_) => return Ok(bytes),
                Err(error) => failures.pause(None, || RegistryError::Unreachable {
                    url: self.url(path),
                    why: error.to_string(),
                })?,
            }
        }
    }

    /// Asks for `path` below the repository, from byte `from` on. The answer's status is 200 or
    /// 206.
    pub(super) fn get(
        &self,
        path: &str,
        accept: &str,
        from: Option<u64>,
    ) -> Result<Answer, RegistryError> {
        let mut failures = Failures::new(&self.options);
        let mut refreshed = false;
        loop {
            let url = self.url(path);
            let answer = match self.follow(&url, accept, from) {
                Ok(answer) => answer,
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Plain) => {
                    self.scheme.set(Some(Scheme::Http));
                    continue;
                }
                Err(Failure::Passing(error)) => {
                    failures.pause(None, || error)?;
                    continue;
                }
            };
            if self.scheme.get().is_none() {
                self.scheme.set(Some(Scheme::Https));
            }
            match answer.status().as_u16() {
                200 | 206 => return Ok(answer),
                401 if !refreshed => {
                    refreshed = true;
                    let header = self.answer_challenge(&url, &answer)?;
                    *self.authorization.borrow_mut() = Some(header);
                }
                401 | 403 => {
                    return Err(RegistryError::Denied {
                        url,
                        why: self.said_about_credentials(answer),
                    });
                }
                404 => {
                    return Err(RegistryError::NotFound {
                        url,
                        why: said(answer),
                    });
                }
                status @ (408 | 425 | 429 | 500..=599) => {
                    let wait = retry_after(&answer);
                    let why = said(answer);
                    failures.pause(wait, || RegistryError::Status { url, status, why })?;
                }
                status => {
                    let why = said(answer);
                    return Err(RegistryError::Status { url, status, why });
                }
            }
        }
    }

    pub(super) fn url(&self, path: &str) -> String {
        let scheme = match self.scheme.get() {
            Some(Scheme::Http) => "http",
            Some(Scheme::Https) | None => "https",
        };
        format!("{scheme}://{}/v2/{}/{path}", self.host, self.repository)
    }

    /// Follows redirects by hand: each target must be as safe as the registry itself, and gets no
    /// credentials.
    fn follow(&self, url: &str, accept: &str, from: Option<u64>) -> Result<Answer, Failure> {
        let mut at = url.to_owned();
        for hop in 0..=MAX_REDIRECTS {
            let authorization = self.authorization.borrow().clone().filter(|_| hop == 0);
            let answer = self.send(&at, accept, from, authorization.as_deref())?;
            if !answer.status().is_redirection() {
                return Ok(answer);
            }
            let location = answer.headers().get(header::LOCATION);
            let location = location.and_then(|value| value.to_str().ok());
            let Some(next) = location.and_then(|location| joined(&at, location)) else {
                return Err(Failure::Final(RegistryError::Protocol {
                    url: at,
                    why: "a redirect to nowhere".to_owned(),
                }));
            };
            self.check_target(&next, "a redirect")?;
            at = next;
        }
        Err(Failure::Final(RegistryError::Protocol {
            url: url.to_owned(),
            why: format!("more than {MAX_REDIRECTS} redirects"),
        }))
    }

    fn send(
        &self,
        url: &str,
        accept: &str,
        from: Option<u64>,
        authorization: Option<&str>,
    ) -> Result<Answer, Failure> {
        let mut request = self.agent_for(url).get(url).header(header::ACCEPT, accept);
        if let Some(value) = authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        if let Some(from) = from {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        request.call().map_err(|error| self.failure(url, error))
    }

    fn agent_for(&self, url: &str) -> &Agent {
        let authority = url
            .parse::<Uri>()
            .ok()
            .and_then(|uri| uri.authority().cloned());
        match authority.is_some_and(|authority| is_loopback(authority.as_str())) {
            true => &self.direct,
            false => &self.agent,
        }
    }

    /// What to do about a request that had no answer.
    fn failure(&self, url: &str, error: ureq::Error) -> Failure {
        let (url, why) = (url.to_owned(), error.to_string());
        let unreachable = |url, why| RegistryError::Unreachable { url, why };
        match error {
            ureq::Error::Rustls(_) | ureq::Error::Tls(_)
                if why.contains("certificate") || why.contains("Certificate") =>
            {
                Failure::Final(RegistryError::Certificate { url, why })
            }
            ureq::Error::Timeout(_) => Failure::Passing(unreachable(url, why)),
            ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                Failure::Passing(unreachable(url, why))
            }
            // rustls reports bad certificates as I/O errors, too.
            ureq::Error::Io(_) if why.contains("certificate") => {
                Failure::Final(RegistryError::Certificate { url, why })
            }
            // A loopback registry that was tried with TLS first, and did not understand it.
            _ if self.scheme.get().is_none() && url.starts_with("https:") => Failure::Plain,
            ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => {
                Failure::Final(unreachable(url, why))
            }
            _ => Failure::Passing(unreachable(url, why)),
        }
    }

    /// The header with which to ask again.
    fn answer_challenge(&self, url: &str, answer: &Answer) -> Result<String, RegistryError> {
        let protocol = |why: &str| RegistryError::Protocol {
            url: url.to_owned(),
            why: why.to_owned(),
        };
        let values = answer.headers().get_all(header::WWW_AUTHENTICATE);
        let texts: Vec<&str> = values
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        match Challenge::parse(&texts.join(", ")) {
            None => Err(protocol(
                "it wants to know who we are, in no way that we know",
            )),
            Some(Challenge::Basic) => match &self.credentials {
                Found::Credentials(credentials) => credentials
                    .basic()
                    .ok_or_else(|| protocol("it wants a password, and we only have a token")),
                other => Err(RegistryError::Denied {
                    url: url.to_owned(),
                    why: without_credentials(other),
                }),
            },
            Some(Challenge::Bearer {
                realm,
                service,
                scope,
            }) => self.token(&realm, service, scope),
        }
    }

    /// Distribution specification, "Token Authentication", and its OAuth 2 variant.
    fn token(
        &self,
        realm: &str,
        service: Option<String>,
        scope: Option<String>,
    ) -> Result<String, RegistryError> {
        self.check_target(realm, "its token server")?;
        let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.repository));
        let mut fields = vec![("scope", scope)];
        fields.extend(service.map(|service| ("service", service)));
        let agent = self.agent_for(realm);
        let mut failures = Failures::new(&self.options);
        loop {
            let sent = match &self.credentials {
                Found::Credentials(Credentials::IdentityToken(token)) => {
                    let mut form = fields.clone();
                    form.push(("grant_type", "refresh_token".to_owned()));
                    form.push(("client_id", "berth".to_owned()));
                    form.push(("refresh_token", token.clone()));
                    agent.post(realm).send_form(form)
                }
                found => {
                    let pairs = fields.iter().map(|(key, value)| (*key, value.as_str()));
                    let mut request = agent.get(realm).query_pairs(pairs);
                    if let Found::Credentials(credentials) = found
                        && let Some(header) = credentials.basic()
                    {
                        request = request.header(header::AUTHORIZATION, header);
                    }
                    request.call()
                }
            };
            let url = realm.to_owned();
            let answer = match sent.map_err(|error| self.failure(realm, error)) {
                Ok(answer) => answer,
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(error)) => {
                    failures.pause(None, || error)?;
                    continue;
                }
                Err(Failure::Plain) => {
                    return Err(RegistryError::Protocol {
                        url,
                        why: "the token server does not speak TLS".to_owned(),
                    });
                }
            };
            match answer.status().as_u16() {
                200 => return self.token_of(url, answer),
                status @ (429 | 500..=599) => {
                    let wait = retry_after(&answer);
                    let why = said(answer);
                    failures.pause(wait, || RegistryError::Status { url, status, why })?;
                }
                _ => {
                    let why = self.said_about_credentials(answer);
                    return Err(RegistryError::Denied { url, why });
                }
            }
        }
    }

    fn token_of(&self, url: String, answer: Answer) -> Result<String, RegistryError> {
        #[derive(Deserialize)]
        struct Token {
            token: Option<String>,
            access_token: Option<String>,
        }
        let body = answer
            .into_body()
            .into_with_config()
            .limit(self.token_limit)
            .reader();
        let token: Option<Token> = serde_json::from_reader(body).ok();
        let text = token
            .and_then(|token| token.token.or(token.access_token))
            .filter(|token| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()));
        match text {
            Some(token) => Ok(format!("Bearer {token}")),
            None => Err(RegistryError::Protocol {
                url,
                why: "the token server's answer holds no token".to_owned(),
            }),
        }
    }

    /// TLS, or loopback, or a host that may do without.
    fn check_target(&self, url: &str, what: &str) -> Result<(), RegistryError> {
        let uri = url.parse::<Uri>().ok();
        let scheme = uri.as_ref().and_then(Uri::scheme_str);
        let authority = uri.as_ref().and_then(Uri::authority).map(|a| a.as_str());
        let may_be_plain = authority.is_some_and(|authority| {
            is_loopback(authority) || self.options.plain_http.iter().any(|host| host == authority)
        });
        match scheme {
            Some("https") => Ok(()),
            Some("http") if may_be_plain => Ok(()),
            _ => Err(RegistryError::Unsafe {
                url: url.to_owned(),
                why: format!("{what} must use https"),
            }),
        }
    }

    fn said_about_credentials(&self, answer: Answer) -> String {
        let who = match &self.credentials {
            Found::Credentials(_) => "with the credentials that we have".to_owned(),
            other => without_credentials(other),
        };
        format!("{who}{}", said(answer))
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self::Final(error)
    }
}

/// Why a request has no answer.
enum Failure {
    /// Trying again does not help.
    Final(RegistryError),
    /// Trying again may help.
    Passing(RegistryError),
    /// Trying without TLS may help, and is allowed.
    Plain,
}

/// Failures of one request so far.
pub(super) struct Failures {
    left: u32,
    next_pause: Duration,
}

impl Failures {
    pub(super) fn new(options: &RegistryOptions) -> Self {
        Self {
            left: options.attempts.saturating_sub(1),
            next_pause: options.backoff,
        }
    }

    /// Waits before the next try, or gives up with `error`.
    pub(super) fn pause(
        &mut self,
        asked_for: Option<Duration>,
        error: impl FnOnce() -> RegistryError,
    ) -> Result<(), RegistryError> {
        if self.left == 0 {
            return Err(error());
        }
        self.left -= 1;
        let pause = asked_for.unwrap_or(Duration::ZERO).max(self.next_pause);
        self.next_pause = self.next_pause.saturating_mul(2);
        thread::sleep(pause.min(MAX_PAUSE));
        Ok(())
    }
}

fn agent(options: &RegistryOptions, tls: TlsConfig, proxy: Option<Proxy>) -> Agent {
    Agent::config_builder()
        .tls_config(tls)
        .proxy(proxy)
        .user_agent(USER_AGENT)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .timeout_resolve(Some(options.connect_timeout))
        .timeout_connect(Some(options.connect_timeout))
        .timeout_recv_response(Some(options.response_timeout))
        .timeout_per_read(Some(options.stall_timeout))
        .build()
        .new_agent()
}

/// The computer's own certificate store and the private authorities; the store that is built in
/// when the computer has none (a bare container, say).
fn tls(options: &RegistryOptions) -> Result<TlsConfig, RegistryError> {
    let native = rustls_native_certs::load_native_certs().certs;
    let mut roots: Vec<Certificate<'static>> = native
        .iter()
        .map(|der| Certificate::from_der(der.as_ref()).to_owned())
        .collect();
    for path in &options.ca_files {
        let error = |why: String| RegistryError::CaFile {
            path: path.display().to_string(),
            why,
        };
        let pem = std::fs::read(path).map_err(|source| error(source.to_string()))?;
        let before = roots.len();
        for item in parse_pem(&pem) {
            if let PemItem::Certificate(certificate) = item.map_err(|bad| error(bad.to_string()))? {
                roots.push(certificate);
            }
        }
        if roots.len() == before {
            return Err(error("it holds no certificate".to_owned()));
        }
    }
    let roots = match roots.is_empty() {
        true => RootCerts::WebPki,
        false => RootCerts::new_with_certs(&roots),
    };
    Ok(TlsConfig::builder().root_certs(roots).build())
}

/// Whether `host[:port]` never leaves this computer.
fn is_loopback(authority: &str) -> bool {
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
fn joined(base: &str, location: &str) -> Option<String> {
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

fn retry_after(answer: &Answer) -> Option<Duration> {
    let value = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

fn without_credentials(found: &Found) -> String {
    match found {
        Found::Helper(helper) => format!(
            "the credentials are with the helper program {helper:?}, which is not run; log in with \
             a file of its own: REGISTRY_AUTH_FILE=FILE skopeo login"
        ),
        Found::Credentials(_) | Found::Nothing => "without credentials".to_owned(),
    }
}

/// The messages in a registry's error answer, as ": message".
fn said(answer: Answer) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Item>,
    }
    #[derive(Deserialize)]
    struct Item {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    const LIMIT: u64 = 16 * 1024;
    let mut bytes = Vec::new();
    let body = answer.into_body().into_with_config().limit(LIMIT).reader();
    if body.take(LIMIT).read_to_end(&mut bytes).is_err() {
        return String::new();
    }
    let errors: Option<Errors> = serde_json::from_slice(&bytes).ok();
    let items = errors.map(|errors| errors.errors).unwrap_or_default();
    let texts: Vec<String> = items
        .iter()
        .take(3)
        .map(|item| format!("{} {}", item.code, item.message))
        .map(|text| {
            text.chars()
                .filter(|c| !c.is_control())
                .take(200)
                .collect::<String>()
        })
        .map(|text| text.trim().to_owned())
        .collect();
    match texts.is_empty() {
        true => String::new(),
        false => format!(": {}", texts.join("; ")),
    }
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
