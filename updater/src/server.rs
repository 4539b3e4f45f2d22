//! Where published files come from: a web server, or a bundle on a disk ([`crate::bundle`]).

use std::io::Read;
use std::ops::Range;

use berth_fetch::{Client, Settings, Url};

/// A source of published files. Paths are relative to the published directory.
pub trait Server {
    /// What it is, for sentences: "the server".
    fn who(&self) -> &str;

    /// A whole file of at most `most` bytes; `None` when there is no such file.
    ///
    /// # Errors
    /// A sentence.
    fn whole(&mut self, path: &str, most: u64) -> Result<Option<Vec<u8>>, String>;

    /// Bytes of a file, exactly those of `range`; `None` when there is no such file, or not in that
    /// length.
    ///
    /// # Errors
    /// A sentence.
    fn range<'a>(
        &'a mut self,
        path: &str,
        range: Range<u64>,
    ) -> Result<Option<Box<dyn Read + 'a>>, String>;
}

/// A web server.
pub struct Web {
    client: Client,
    base: Url,
}

impl Web {
    /// The published directory at `url`.
    ///
    /// # Errors
    /// When it is no URL.
    pub fn new(url: &str, settings: Settings) -> Result<Self, String> {
        Ok(Self {
            client: Client::new(settings),
            base: Url::parse(url).map_err(|why| why.to_string())?,
        })
    }
}

impl Server for Web {
    fn who(&self) -> &str {
        "the server"
    }

    fn whole(&mut self, path: &str, most: u64) -> Result<Option<Vec<u8>>, String> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let answer = self.client.get(&self.base.join(path), None);
        match answer.and_then(|mut answer| answer.read_whole(most)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(why) if says_that_it_has_none(&why) => Ok(None),
            Err(why) => Err(why.to_string()),
        }
    }

    fn range<'a>(
        &'a mut self,
        path: &str,
        range: Range<u64>,
    ) -> Result<Option<Box<dyn Read + 'a>>, String> {
        match self.client.get(&self.base.join(path), Some(range)) {
            Ok(answer) => Ok(Some(Box::new(answer))),
            Err(why) if says_that_it_has_none(&why) || is_another(&why) => Ok(None),
            Err(why) => Err(why.to_string()),
        }
    }
}

/// A file of another length, or a server that knows nothing of ranges.
fn is_another(why: &berth_fetch::Error) -> bool {
    matches!(why, berth_fetch::Error::Range { .. }) || why.status() == Some(416)
}

/// 403: object stores say so of what is not there to those who may not list it.
fn says_that_it_has_none(why: &berth_fetch::Error) -> bool {
    matches!(why.status(), Some(403 | 404 | 410))
}
