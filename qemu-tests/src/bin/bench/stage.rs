//! What the parts of the bench share: the report, a scratch directory, and Berth's machines,
//! each built once and only when a part asks for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use berth_qemu_tests::Error;
use tempfile::TempDir;

use crate::berth::Berth;
use crate::report::Report;

/// What every part is given.
pub(crate) struct Stage {
    /// Where a part says what it measured.
    pub(crate) report: Report,
    scratch: TempDir,
    built: BTreeMap<&'static str, Rc<Berth>>,
}

impl Stage {
    /// Nothing built, nothing measured.
    pub(crate) fn new() -> Result<Self, Error> {
        Ok(Self {
            report: Report::default(),
            scratch: TempDir::new().map_err(Error::file("creating", "a scratch directory"))?,
            built: BTreeMap::new(),
        })
    }

    /// A directory that is gone when the bench ends.
    pub(crate) fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Berth's machine with a kernel profile.
    pub(crate) fn berth(&mut self, profile: &'static str) -> Result<Rc<Berth>, Error> {
        if let Some(built) = self.built.get(profile) {
            return Ok(Rc::clone(built));
        }
        let built = Rc::new(Berth::build(profile, self.scratch.path())?);
        self.built.insert(profile, Rc::clone(&built));
        Ok(built)
    }
}
