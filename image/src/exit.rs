//! What each kind of failure means for the exit code; the numbers are those of `berth --help`.

use std::fmt;
use std::io::ErrorKind;
use std::process::ExitCode;

use berth::assets::AssetError;
use berth::build::{self, BuildError};
use berth::config::{ConfigError, Mistakes};
use berth::delta;
use berth::diff::DiffError;
use berth::faults;
use berth::inspect::InspectError;
use berth::keys::KeysError;
use berth::lock::LockError;
use berth::publish::{BundleError, PublishError};
use berth::run;
use berth_kernel_config::Error as KernelError;

/// A failure as the user sees it.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    message: String,
}

/// The exit codes besides 0 and 2, which the argument parser uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    System = 1,
    Config = 3,
    Input = 4,
    Output = 5,
    Missing = 6,
    Check = 7,
    Different = 8,
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl fmt::Display) -> Self {
        Self {
            kind,
            message: message.to_string(),
        }
    }

    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.kind as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let kind = match &error {
            ConfigError::Read { .. } => Kind::Input,
            ConfigError::NotText { .. }
            | ConfigError::TooLarge { .. }
            | ConfigError::Mistakes(_) => Kind::Config,
        };
        Self::new(kind, error)
    }
}

impl From<Mistakes> for Failure {
    fn from(mistakes: Mistakes) -> Self {
        Self::new(Kind::Config, mistakes)
    }
}

impl From<DiffError> for Failure {
    fn from(error: DiffError) -> Self {
        match error {
            DiffError::Publish(error) => error.into(),
            other => Self::new(Kind::Input, other),
        }
    }
}

impl From<InspectError> for Failure {
    fn from(error: InspectError) -> Self {
        Self::new(Kind::Input, error)
    }
}

impl From<KernelError> for Failure {
    fn from(error: KernelError) -> Self {
        let kind = match &error {
            KernelError::MissingTools { .. } => Kind::Missing,
            KernelError::UnknownVersion { .. }
            | KernelError::Fetch { .. }
            | KernelError::WrongSource { .. } => Kind::Input,
            KernelError::Io { .. } => Kind::Output,
            _ => Kind::System,
        };
        Self::new(kind, error)
    }
}

impl From<AssetError> for Failure {
    fn from(error: AssetError) -> Self {
        let kind = match &error {
            AssetError::NotEmbedded(_) => Kind::Missing,
            AssetError::Read { .. } | AssetError::UnknownStub { .. } => Kind::Input,
        };
        Self::new(kind, error)
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        let kind = match &error {
            LockError::File { doing: "write", .. } => Kind::Output,
            _ => Kind::Input,
        };
        Self::new(kind, error)
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Mistakes(mistakes) => mistakes.into(),
            BuildError::Asset(error) => error.into(),
            BuildError::Lock(error) => error.into(),
            BuildError::Kernel(error) => error.into(),
            other => {
                let kind = match other.blame() {
                    build::Blame::Input => Kind::Input,
                    build::Blame::Output => Kind::Output,
                };
                Self::new(kind, other)
            }
        }
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        let kind = match &error {
            PublishError::Write { .. } | PublishError::NoLocks { .. } => Kind::Output,
            _ => Kind::Input,
        };
        Self::new(kind, error)
    }
}

impl From<BundleError> for Failure {
    fn from(error: BundleError) -> Self {
        match error {
            BundleError::Published(error) => error.into(),
            other => Self::new(Kind::Input, other),
        }
    }
}

impl From<KeysError> for Failure {
    fn from(error: KeysError) -> Self {
        let kind = match &error {
            KeysError::Exists(_) | KeysError::Write { .. } => Kind::Output,
            KeysError::NoKey(_) => Kind::System,
            _ => Kind::Input,
        };
        Self::new(kind, error)
    }
}

impl From<faults::Error> for Failure {
    fn from(error: faults::Error) -> Self {
        match error {
            faults::Error::Build(error) => error.into(),
            faults::Error::Keys(error) => error.into(),
            faults::Error::Publish(error) => error.into(),
            faults::Error::Run(error) => error.into(),
            faults::Error::Stopped => Self::new(Kind::System, error),
        }
    }
}

impl From<run::Error> for Failure {
    fn from(error: run::Error) -> Self {
        let kind = match &error {
            run::Error::Missing { .. } => Kind::Missing,
            run::Error::Check(_) => Kind::Check,
            run::Error::File {
                doing: "read" | "find",
                source,
                ..
            } if source.kind() == ErrorKind::NotFound => Kind::Input,
            run::Error::File { .. } => Kind::Output,
            _ => Kind::System,
        };
        Self::new(kind, error)
    }
}

impl From<delta::Error> for Failure {
    fn from(error: delta::Error) -> Self {
        let kind = match &error {
            delta::Error::Write { .. } => Kind::Output,
            delta::Error::Encode(_) => Kind::System,
            _ => Kind::Input,
        };
        Self::new(kind, error)
    }
}
