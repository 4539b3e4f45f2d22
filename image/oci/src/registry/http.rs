//! Requests to one repository: scheme, tokens, redirects, retries.
//!
//! Plain HTTP is used for loopback and for registries that the options name, nowhere else, not
//! even when a server sends us there. `Authorization` goes to the registry itself and, when it
//! holds a password, to the token server that the registry names; never along a redirect, nor to a
//! token server that is named behind one.

use std::cell::{Cell, RefCell};
use std::io::Read;

use ureq::http::{Response, Uri, header};
use ureq::{Agent, Body, Proxy};

use super::address::{is_loopback, joined};
use super::agent::{agent, tls};
use super::answer::{retry_after, said};
use super::auth::{self, Found};
use super::error::RegistryError;
use super::retry::Failures;
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
    pub(super) repository: String,
    /// `None` until the first answer: a registry on loopback may speak TLS or not.
    scheme: Cell<Option<Scheme>>,
    pub(super) credentials: Found,
    authorization: RefCell<Option<String>>,
    pub(super) options: RegistryOptions,
    pub(super) token_limit: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

pub(super) type Answer = Response<Body>;

const MAX_REDIRECTS: usize = 5;

/// An answer that is no redirect.
struct Followed {
    answer: Answer,
    /// Who gave it.
    url: String,
    /// How many redirects led there.
    hop: usize,
}

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
            let followed = match self.follow(self.url(path), accept, from) {
                Ok(followed) => followed,
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
            let Followed { answer, url, hop } = followed;
            match answer.status().as_u16() {
                200 | 206 => return Ok(answer),
                // Whoever a redirect led to could name a token server of its own, and be told our
                // password by way of it.
                status @ (401 | 403) if hop > 0 => {
                    let why = format!(
                        "{}; a redirect of the registry led there, and no credentials go along \
                         one: try again, or ask who runs the registry",
                        said(answer)
                    );
                    return Err(RegistryError::Status { url, status, why });
                }
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
    fn follow(&self, url: String, accept: &str, from: Option<u64>) -> Result<Followed, Failure> {
        let mut at = url.clone();
        for hop in 0..=MAX_REDIRECTS {
            let authorization = self.authorization.borrow().clone().filter(|_| hop == 0);
            let answer = self.send(&at, accept, from, authorization.as_deref())?;
            if !answer.status().is_redirection() {
                return Ok(Followed {
                    answer,
                    url: at,
                    hop,
                });
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
            url,
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

    pub(super) fn agent_for(&self, url: &str) -> &Agent {
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
    pub(super) fn failure(&self, url: &str, error: ureq::Error) -> Failure {
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

    /// TLS, or loopback, or a host that may do without.
    pub(super) fn check_target(&self, url: &str, what: &str) -> Result<(), RegistryError> {
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
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self::Final(error)
    }
}

/// Why a request has no answer.
pub(super) enum Failure {
    /// Trying again does not help.
    Final(RegistryError),
    /// Trying again may help.
    Passing(RegistryError),
    /// Trying without TLS may help, and is allowed.
    Plain,
}
