//! Where published files come from: a web server, or a directory of the same form (what is in a
//! bundle, and what the tests use).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::PathBuf;

use berth_fetch::{Client, Settings, Url};

/// A source of published files. Paths are relative to the published directory.
pub trait Server {
    /// A whole file of at most `most` bytes; `None` when there is no such file.
    ///
    /// # Errors
    /// A sentence.
    fn whole(&mut self, path: &str, most: u64) -> Result<Option<Vec<u8>>, String>;

    /// Bytes of a file, exactly those of `range`.
    ///
    /// # Errors
    /// A sentence.
    fn range<'a>(&'a mut self, path: &str, range: Range<u64>)
    -> Result<Box<dyn Read + 'a>, String>;
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
    fn whole(&mut self, path: &str, most: u64) -> Result<Option<Vec<u8>>, String> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let answer = self.client.get(&self.base.join(path), None);
        match answer.and_then(|mut answer| answer.read_whole(most)) {
            Ok(bytes) => Ok(Some(bytes)),
            // 403: object stores say so of what is not there to those who may not list it.
            Err(why) if matches!(why.status(), Some(403 | 404 | 410)) => Ok(None),
            Err(why) => Err(why.to_string()),
        }
    }

    fn range<'a>(
        &'a mut self,
        path: &str,
        range: Range<u64>,
    ) -> Result<Box<dyn Read + 'a>, String> {
        match self.client.get(&self.base.join(path), Some(range)) {
            Ok(answer) => Ok(Box::new(answer)),
            Err(why) => Err(why.to_string()),
        }
    }
}

/// A published directory on this machine.
#[derive(Clone, Debug)]
pub struct Directory(pub PathBuf);

impl Server for Directory {
    fn whole(&mut self, path: &str, most: u64) -> Result<Option<Vec<u8>>, String> {
        let path = self.0.join(path);
        let failed = |why: io::Error| format!("cannot read {}: {why}", path.display());
        let file = match File::open(&path) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(failed)?,
        };
        let mut bytes = Vec::new();
        let read = file.take(most.saturating_add(1)).read_to_end(&mut bytes);
        match read.map_err(failed)? as u64 > most {
            true => Err(format!("{} is longer than it can be", path.display())),
            false => Ok(Some(bytes)),
        }
    }

    fn range<'a>(
        &'a mut self,
        path: &str,
        range: Range<u64>,
    ) -> Result<Box<dyn Read + 'a>, String> {
        let path = self.0.join(path);
        let opened = File::open(&path).and_then(|mut file| {
            file.seek(SeekFrom::Start(range.start))?;
            Ok(file.take(range.end.saturating_sub(range.start)))
        });
        match opened {
            Ok(file) => Ok(Box::new(file)),
            Err(why) => Err(format!("cannot read {}: {why}", path.display())),
        }
    }
}
