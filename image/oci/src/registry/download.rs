//! One blob from a registry into the cache. A transfer that breaks off is continued where it
//! stopped; only tries that bring nothing count against the limit.

use std::fs::File;
use std::io::Read;

use ureq::Body;
use ureq::http::{Response, header};

use super::Registry;
use super::error::RegistryError;
use super::retry::Failures;
use crate::error::Error;
use crate::manifest::Descriptor;
use crate::options::Step;

impl Registry {
    /// Fetches a blob that is not in the cache; what is returned has its digest.
    pub(super) fn download(&self, wanted: &Descriptor) -> Result<File, Error> {
        let path = format!("blobs/{}", wanted.digest);
        let what = format!("blob {}", wanted.digest);
        let total = wanted.size;
        let mut download = self.cache.begin()?;
        let mut failures = Failures::new(&self.options.registry);
        while download.len() < total {
            let have = download.len();
            let from = (have > 0).then_some(have);
            let answer = self.client.get(&path, "*/*", from)?;
            if !continues_at(&answer, have) {
                download.restart()?;
            }
            // More than was announced is not even read: it is somebody else's blob.
            let left = total - download.len();
            let body = answer
                .into_body()
                .into_with_config()
                .limit(u64::MAX)
                .reader();
            let mut body = body.take(left);
            let mut buffer = vec![0; 128 * 1024];
            let why = loop {
                match body.read(&mut buffer) {
                    Ok(0) => break "the server ended it".to_owned(),
                    Ok(n) => download.write(buffer.get(..n).unwrap_or_default())?,
                    Err(error) => break error.to_string(),
                }
                self.options.progress.tell(Step::Download {
                    digest: &wanted.digest,
                    bytes: download.len(),
                    total,
                });
            };
            if download.len() > have {
                failures = Failures::new(&self.options.registry);
            }
            if download.len() < total {
                failures.pause(None, || RegistryError::Transfer {
                    url: self.client.url(&path),
                    bytes: download.len(),
                    total,
                    why,
                })?;
            }
        }
        download.finish(wanted, &self.place, &what)
    }
}

/// Whether the answer starts at byte `have`, rather than at the beginning.
fn continues_at(answer: &Response<Body>, have: u64) -> bool {
    let range = answer.headers().get(header::CONTENT_RANGE);
    let start = range
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("bytes "))
        .and_then(|value| value.split('-').next())
        .and_then(|start| start.parse::<u64>().ok());
    match answer.status().as_u16() {
        206 => start == Some(have),
        _ => have == 0,
    }
}
