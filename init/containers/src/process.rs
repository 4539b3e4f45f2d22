//! The container's first process: who it is, what it may do and what it runs.

use std::ffi::{CStr, CString};

use crate::capabilities::Sets;
use crate::plan::{Refused, absolute};
use crate::spec;
use crate::sys::process::StringArray;
use crate::sys::{At, Errno, files, process};

/// Most bytes of arguments and environment together (the kernel's own limit is a quarter of the
/// stack limit, 2 MiB by default).
const MOST_BYTES: usize = 1 << 20;

/// Most further groups.
const MOST_GROUPS: usize = 1024;

/// The file mode creation mask when the specification names none.
const DEFAULT_UMASK: u32 = 0o022;

/// Where a program is looked for when the environment has no PATH, as in execvp(3).
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The first process, ready to be run.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) umask: u32,
    pub(crate) directory: CString,
    pub(crate) capabilities: Sets,
    pub(crate) no_new_privileges: bool,
    /// Where the program may be; the first that can be executed is taken.
    candidates: Vec<CString>,
    arguments: StringArray,
    environment: StringArray,
}

impl Process {
    /// Reads the process.
    pub(crate) fn parse(spec: &spec::Process) -> Result<Self, Refused> {
        if spec.terminal {
            return Err(Refused::new(
                "process.terminal",
                "containers get no terminal".into(),
            ));
        }
        let program = spec
            .args
            .first()
            .filter(|program| !program.is_empty())
            .ok_or_else(|| Refused::new("process.args", "there is no program to run".into()))?;
        let bytes = |list: &[String]| list.iter().map(String::len).sum::<usize>();
        if bytes(&spec.args).saturating_add(bytes(&spec.env)) > MOST_BYTES {
            return Err(Refused::new(
                "process.args",
                format!("together with process.env more than {MOST_BYTES} bytes"),
            ));
        }
        if spec.user.additional_gids.len() > MOST_GROUPS {
            return Err(Refused::new(
                "process.user.additionalGids",
                format!("more than {MOST_GROUPS}"),
            ));
        }
        let umask = spec.user.umask.unwrap_or(DEFAULT_UMASK);
        if umask > 0o777 {
            return Err(Refused::new("process.user.umask", "above 0777".into()));
        }
        if let Some(bad) = spec
            .env
            .iter()
            .find(|variable| !variable.contains('=') || variable.starts_with('='))
        {
            return Err(Refused::new(
                "process.env",
                format!("{bad:?} is not NAME=value"),
            ));
        }
        Ok(Self {
            uid: spec.user.uid,
            gid: spec.user.gid,
            groups: spec.user.additional_gids.clone(),
            umask,
            directory: absolute(&spec.cwd, "process.cwd")?,
            capabilities: Sets::parse(&spec.capabilities)?,
            no_new_privileges: spec.no_new_privileges,
            candidates: candidates(program, &spec.env)?,
            arguments: StringArray::new(strings(&spec.args, "process.args")?),
            environment: StringArray::new(strings(&spec.env, "process.env")?),
        })
    }

    /// The program's name as it was asked for, for messages.
    pub(crate) fn program(&self) -> &CStr {
        self.candidates.last().map_or(c"", CString::as_c_str)
    }

    /// Runs the program; returns only when none of the candidates can be executed.
    pub(crate) fn exec(&self) -> Errno {
        let mut worst = Errno(libc::ENOENT);
        for candidate in &self.candidates {
            // `/proc/self/exe` is still the machine's own program: an image must not run it by a
            // link.
            let errno = match files::open(At::Cwd, candidate, libc::O_PATH, files::NO_MAGICLINKS) {
                Ok(_) => process::exec(candidate, &self.arguments, &self.environment),
                Err(errno) => errno,
            };
            match errno {
                Errno(libc::ENOENT | libc::ENOTDIR) => {}
                // As execvp(3): go on looking, but remember it.
                Errno(libc::EACCES) => worst = errno,
                other => return other,
            }
        }
        worst
    }
}

/// Where a program may be: itself if it has a slash, else in each directory of PATH.
fn candidates(program: &str, environment: &[String]) -> Result<Vec<CString>, Refused> {
    let string = |path: String| {
        CString::new(path).map_err(|_| Refused::new("process.args", "it has a NUL byte".into()))
    };
    if program.contains('/') {
        return Ok(vec![string(program.to_owned())?]);
    }
    environment
        .iter()
        .rev()
        .find_map(|variable| variable.strip_prefix("PATH="))
        .unwrap_or(DEFAULT_PATH)
        .split(':')
        .map(|directory| {
            // An empty entry is the working directory.
            let directory = if directory.is_empty() { "." } else { directory };
            string(format!("{}/{program}", directory.trim_end_matches('/')))
        })
        .collect()
}

fn strings(list: &[String], key: &str) -> Result<Vec<CString>, Refused> {
    list.iter()
        .map(|text| {
            CString::new(text.as_str())
                .map_err(|_| Refused::new(key, format!("{text:?} has a NUL byte")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(program: &str, environment: &[&str]) -> Vec<String> {
        let environment: Vec<String> = environment.iter().map(|&text| text.into()).collect();
        candidates(program, &environment)
            .expect("good")
            .into_iter()
            .map(|path| path.into_string().expect("text"))
            .collect()
    }

    #[test]
    fn a_program_is_looked_for_in_the_path_of_its_environment() {
        assert_eq!(
            found("sh", &["PATH=/bin:/usr/bin/:"]),
            ["/bin/sh", "/usr/bin/sh", "./sh"]
        );
        assert_eq!(found("./sh", &["PATH=/bin"]), ["./sh"]);
        assert_eq!(found("sh", &[]), ["/bin/sh", "/usr/bin/sh"]);
    }

    fn process() -> spec::Process {
        spec::Process {
            terminal: false,
            user: spec::User::default(),
            args: vec!["/bin/true".into()],
            env: vec!["A=b".into()],
            cwd: "/".into(),
            capabilities: spec::Capabilities::default(),
            rlimits: Vec::new(),
            no_new_privileges: true,
            oom_score_adj: None,
        }
    }

    #[test]
    fn what_cannot_be_done_exactly_is_refused_with_its_key() {
        let refused = |change: fn(&mut spec::Process)| {
            let mut spec = process();
            change(&mut spec);
            Process::parse(&spec)
                .expect_err("must be refused")
                .to_string()
        };
        assert!(Process::parse(&process()).is_ok());
        assert_eq!(
            refused(|p| p.terminal = true),
            "process.terminal: containers get no terminal"
        );
        assert_eq!(
            refused(|p| p.args.clear()),
            "process.args: there is no program to run"
        );
        assert_eq!(
            refused(|p| p.env.push("=x".into())),
            "process.env: \"=x\" is not NAME=value"
        );
        assert!(refused(|p| p.args.push("a\0b".into())).starts_with("process.args: "));
        assert!(refused(|p| p.cwd = "relative".into()).starts_with("process.cwd: "));
        assert!(refused(|p| p.user.umask = Some(0o1000)).starts_with("process.user.umask: "));
        assert!(
            refused(|p| p.env.push(format!("A={}", "x".repeat(1 << 20))))
                .starts_with("process.args: ")
        );
    }
}
