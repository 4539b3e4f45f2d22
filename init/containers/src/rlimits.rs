//! Resource limits of a process, by the names of getrlimit(2).

use crate::plan::Refused;
use crate::spec;

/// One limit, as the kernel numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) resource: u32,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

impl Limit {
    /// The soft limit while the child is set up: until exec it holds what PID 1 holds, which on a
    /// machine with many containers is more descriptors than a program is allowed.
    pub(crate) fn soft_before_exec(self) -> u64 {
        if self.is_of_descriptors() {
            self.hard
        } else {
            self.soft
        }
    }

    /// Whether the child itself lowers it at the end.
    pub(crate) fn is_of_descriptors(self) -> bool {
        self.resource == libc::RLIMIT_NOFILE
    }
}

/// Reads limits; unknown, repeated and contradicting ones are refused.
pub(crate) fn parse(limits: &[spec::Rlimit]) -> Result<Vec<Limit>, Refused> {
    let key = "process.rlimits";
    let mut parsed: Vec<Limit> = Vec::new();
    for limit in limits {
        let resource = number(&limit.kind)
            .ok_or_else(|| Refused::new(key, format!("{:?} is not a limit", limit.kind)))?;
        if parsed.iter().any(|other| other.resource == resource) {
            return Err(Refused::new(key, format!("{} is there twice", limit.kind)));
        }
        if limit.soft > limit.hard {
            return Err(Refused::new(
                key,
                format!("the soft limit of {} is above the hard one", limit.kind),
            ));
        }
        parsed.push(Limit {
            resource,
            soft: limit.soft,
            hard: limit.hard,
        });
    }
    Ok(parsed)
}

fn number(name: &str) -> Option<u32> {
    Some(match name {
        "RLIMIT_CPU" => libc::RLIMIT_CPU,
        "RLIMIT_FSIZE" => libc::RLIMIT_FSIZE,
        "RLIMIT_DATA" => libc::RLIMIT_DATA,
        "RLIMIT_STACK" => libc::RLIMIT_STACK,
        "RLIMIT_CORE" => libc::RLIMIT_CORE,
        "RLIMIT_RSS" => libc::RLIMIT_RSS,
        "RLIMIT_NPROC" => libc::RLIMIT_NPROC,
        "RLIMIT_NOFILE" => libc::RLIMIT_NOFILE,
        "RLIMIT_MEMLOCK" => libc::RLIMIT_MEMLOCK,
        "RLIMIT_AS" => libc::RLIMIT_AS,
        "RLIMIT_LOCKS" => libc::RLIMIT_LOCKS,
        "RLIMIT_SIGPENDING" => libc::RLIMIT_SIGPENDING,
        "RLIMIT_MSGQUEUE" => libc::RLIMIT_MSGQUEUE,
        "RLIMIT_NICE" => libc::RLIMIT_NICE,
        "RLIMIT_RTPRIO" => libc::RLIMIT_RTPRIO,
        "RLIMIT_RTTIME" => libc::RLIMIT_RTTIME,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(kind: &str, soft: u64, hard: u64) -> spec::Rlimit {
        spec::Rlimit {
            kind: kind.into(),
            soft,
            hard,
        }
    }

    #[test]
    fn limits_that_make_no_sense_are_refused() {
        let nofile = limit("RLIMIT_NOFILE", 1024, 4096);
        assert!(parse(std::slice::from_ref(&nofile)).is_ok());
        assert!(parse(&[nofile.clone(), nofile]).is_err());
        assert!(parse(&[limit("RLIMIT_NOFILE", 2, 1)]).is_err());
        assert!(parse(&[limit("NOFILE", 1, 1)]).is_err());
    }
}
