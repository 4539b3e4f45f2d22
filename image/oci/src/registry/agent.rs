//! The HTTP library's settings: trusted authorities, timeouts, no redirects of its own.

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Proxy};

use super::error::RegistryError;
use crate::options::RegistryOptions;

const USER_AGENT: &str = concat!("berth/", env!("CARGO_PKG_VERSION"));

pub(super) fn agent(options: &RegistryOptions, tls: TlsConfig, proxy: Option<Proxy>) -> Agent {
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
pub(super) fn tls(options: &RegistryOptions) -> Result<TlsConfig, RegistryError> {
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
