//! What PID 1 is told, and when it is told again.

use std::fs::File;
use std::io::Write;

use berth_slots::record::Rejection;
use berth_slots::state::News;

use crate::report::{Record, Request, State};

/// Tells PID 1.
pub(crate) struct Teller {
    pipe: File,
    /// When the source of versions last answered, seconds since 1970; 0 for never.
    pub(crate) checked: u64,
    last: Record,
}

impl Teller {
    /// By this pipe.
    pub(crate) fn by(pipe: File) -> Self {
        Self {
            pipe,
            checked: 0,
            last: Record::default(),
        }
    }

    /// The state that was told last.
    pub(crate) fn last(&self) -> State {
        self.last.state
    }

    /// Tells how things stand, unless that is known.
    pub(crate) fn say(&mut self, state: State, version: &str, sentence: String) {
        let record = self.record(Request::Show, state, version, sentence);
        // The time of the last look is no news.
        let same = Record {
            checked: self.last.checked,
            ..record.clone()
        };
        if same != self.last {
            self.last = record.clone();
            self.send(&record);
        }
    }

    /// Tells how far something is, which is not how things stand.
    pub(crate) fn progress(&mut self, state: State, version: &str, sentence: String) {
        let record = self.record(Request::Show, state, version, sentence);
        self.send(&record);
    }

    /// Asks for a restart.
    pub(crate) fn restart(&mut self, state: State, version: &str, sentence: String) {
        let record = self.record(Request::Restart, state, version, sentence);
        self.send(&record);
    }

    /// Lists what is not tried again.
    pub(crate) fn list(&mut self, rejected: &[Rejection]) {
        for one in rejected {
            let version = one.version.as_str();
            let reason = one.reason.clone();
            let record = self.record(Request::List, State::Rejected, version, reason);
            self.send(&record);
        }
    }

    /// Tells what became of a trial.
    pub(crate) fn news(&mut self, news: &News) {
        let (state, version) = match news {
            News::Committed(version) | News::Untried(version) => (State::Committed, version),
            News::Failed(one) => (State::Rejected, &one.version),
            News::Ignored(version) | News::Lost(version) => (State::Trouble, version),
        };
        self.say(state, version.as_str(), news.to_string());
    }

    fn record(&self, request: Request, state: State, version: &str, sentence: String) -> Record {
        Record {
            request,
            state,
            version: version.to_owned(),
            sentence,
            checked: self.checked,
        }
    }

    fn send(&mut self, record: &Record) {
        // PID 1 reads as long as it lives; without it nobody is left to tell.
        let _ = self.pipe.write_all(&record.encode());
    }
}
