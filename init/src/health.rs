//! The health of the containers as PID 1 sees it: it starts a prober's process when one is due,
//! and reads one record of fixed size when that has ended. What is decided is in
//! `berth_containers::health`, what is asked in `berth_containers::probe`; no byte that came from
//! a container or a network is read here.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_containers::health::{Action, Event, Monitor, Outcome, State};
use berth_containers::probe::{self, Answer, Asked, LEN};
use berth_containers::spec::Container;
use berth_containers::supervise::Id;
use berth_provision::status::{HealthState, HealthStatus};

use crate::failure::{Doing, Failure};
use crate::kernel_log::{KernelLog, Urgency, now_us};
use crate::roles::Role;
use crate::sys::How;
use crate::{PROBE_ROLE, cgroups, machine, sys};

/// Probers' cgroup below /system.
const GROUP: &str = "probe";
/// What all probers together may take, whatever comes over their connections.
const LIMITS: [(&str, &str); 2] = [("memory.max", "16M"), ("pids.max", "32")];

/// The health of all containers, in the order of the file.
#[derive(Debug)]
pub(crate) struct Health {
    monitor: Monitor,
    units: Vec<Unit>,
    /// The probers' cgroup has its limits.
    limited: bool,
}

#[derive(Debug)]
struct Unit {
    name: String,
    /// What its prober is started with; empty without a check.
    arguments: Vec<String>,
    prober: Option<Role>,
    /// Why the last probe failed.
    sentence: Option<String>,
}

/// What came of an event, for the supervisor and the status.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Containers that are healthy now.
    pub(crate) healthy: Vec<Id>,
    /// A sentence about one that is not.
    pub(crate) trouble: Option<String>,
    /// Something that the status shows is different.
    pub(crate) changed: bool,
}

impl Health {
    /// Takes the machine's containers.
    pub(crate) fn new(specs: &[Container]) -> Self {
        let unit = |spec: &Container| Unit {
            name: spec.name.clone(),
            arguments: match &spec.health {
                Some(health) => Asked::arguments(&spec.name, health),
                None => Vec::new(),
            },
            prober: None,
            sentence: None,
        };
        Self {
            monitor: Monitor::new(specs),
            units: specs.iter().map(unit).collect(),
            limited: false,
        }
    }

    /// When [`Event::Tick`] is due.
    pub(crate) fn deadline_us(&self) -> u64 {
        self.monitor.deadline_us().unwrap_or(u64::MAX)
    }

    /// Tells the monitor what happened and does what it wants. `container` gives the pidfd of a
    /// container's first process.
    pub(crate) fn handle<'a>(
        &mut self,
        event: Event,
        container: impl Fn(Id) -> Option<BorrowedFd<'a>>,
        log: &mut KernelLog,
    ) -> News {
        let mut news = News::default();
        let mut events = vec![event];
        let mut actions = Vec::new();
        while let Some(event) = events.pop() {
            self.monitor.handle(now_us(), event, &mut actions);
            for action in actions.drain(..) {
                match action {
                    Action::Probe(id) => {
                        if let Err(why) = self.start(id, container(id)) {
                            self.found(id, &Answer::bad(&why.to_string()));
                            events.push(Event::Probed(id, Outcome::Bad));
                        }
                    }
                    Action::Kill(id) => self.kill(id),
                    Action::Turned(id, state) => self.turned(id, state, &mut news, log),
                }
            }
        }
        news
    }

    /// A process has ended: if it was a prober, what that means, and whether the status shows it.
    pub(crate) fn reaped(&mut self, pid: i32, how: How) -> Option<(Event, bool)> {
        let is_it = |unit: &Unit| unit.prober.as_ref().is_some_and(|role| role.pid == pid);
        let index = self.units.iter().position(is_it)?;
        let mut prober = self.units.get_mut(index)?.prober.take()?;
        let mut record = [0; LEN];
        let length = prober.read(&mut record);
        let answer = match how {
            How::Exited(0) => Answer::decode(record.get(..length).unwrap_or_default()),
            How::Exited(status) => Answer::bad(&format!("the probe ended with status {status}")),
            How::Signaled(libc::SIGKILL) => Answer::bad("the probe took too long and was killed"),
            How::Signaled(signal) => {
                Answer::bad(&format!("the probe was ended by signal {signal}"))
            }
        };
        let id = Id(index);
        let shown = self.found(id, &answer);
        Some((Event::Probed(id, answer.outcome), shown))
    }

    /// What the status says about a container that has a check.
    pub(crate) fn status(&self, id: Id) -> Option<HealthStatus> {
        let health = self.monitor.health(id)?;
        let unit = self.units.get(id.0)?;
        Some(HealthStatus {
            state: match health.state {
                State::Down => HealthState::Down,
                State::Starting => HealthState::Starting,
                State::Healthy => HealthState::Healthy,
                State::Unhealthy => HealthState::Unhealthy,
            },
            since_us: health.since_us,
            fails: health.fails,
            sentence: unit.sentence.clone(),
        })
    }

    /// Keeps what a probe found; whether the status is different for it. One good probe after
    /// another is no news.
    fn found(&mut self, id: Id, answer: &Answer) -> bool {
        let Some(unit) = self.units.get_mut(id.0) else {
            return false;
        };
        let sentence = match answer.outcome {
            Outcome::Good => None,
            Outcome::Bad => Some(answer.sentence.clone()),
        };
        let shown = sentence.is_some() || unit.sentence.is_some();
        unit.sentence = sentence;
        shown
    }

    fn start(&mut self, id: Id, container: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
        let (Some(unit), Some(container)) = (self.units.get_mut(id.0), container) else {
            return Err(Failure::new("it does not run"));
        };
        if !self.limited {
            cgroups::limit_role(GROUP, &LIMITS)?;
            self.limited = true;
        }
        let group = cgroups::probe(&unit.name)?;
        let mut arguments = vec![PROBE_ROLE];
        arguments.extend(unit.arguments.iter().map(String::as_str));
        let passed = [container, group.as_fd()];
        unit.prober = Some(Role::start(GROUP, &arguments, &passed)?);
        Ok(())
    }

    /// Kills a prober and what it started. Either may be gone.
    fn kill(&mut self, id: Id) {
        if let Some(unit) = self.units.get(id.0) {
            if let Some(prober) = &unit.prober {
                prober.kill();
            }
            let _ = cgroups::kill_probe(&unit.name);
        }
    }

    fn turned(&mut self, id: Id, state: State, news: &mut News, log: &mut KernelLog) {
        let Some(unit) = self.units.get_mut(id.0) else {
            return;
        };
        news.changed = true;
        let line = format!(
            "container={} health={} t={}",
            unit.name,
            state.name(),
            now_us()
        );
        match state {
            // The container's own lines say the same.
            State::Down | State::Starting => unit.sentence = None,
            State::Healthy => {
                news.healthy.push(id);
                log.line(Urgency::Notice, &line);
            }
            State::Unhealthy => {
                let why = unit.sentence.as_deref().unwrap_or("it does not answer");
                log.line(Urgency::Error, &format!("{line} : {why}"));
                news.trouble = Some(format!("container {} is unhealthy: {why}", unit.name));
            }
        }
    }
}

/// The prober's process: `/init probe …`, with the container's pidfd and the cgroup for what it
/// starts. It writes one record.
pub(crate) fn run_prober(arguments: &[&str]) -> Result<(), Failure> {
    let answer = ask(arguments).unwrap_or_else(|why| Some(Answer::bad(&why.to_string())));
    let Some(answer) = answer else {
        return Ok(()); // another process has told it
    };
    std::io::stdout()
        .write_all(&answer.encode())
        .doing(|| "tell PID 1".to_owned())
}

fn ask(arguments: &[&str]) -> Result<Option<Answer>, Failure> {
    let inherited = |number: i32| -> Result<OwnedFd, Failure> {
        probe::inherited(number).doing(|| "take over what PID 1 passed".to_owned())
    };
    let container = inherited(sys::FIRST_PASSED)?;
    let cgroup = inherited(sys::FIRST_PASSED.saturating_add(1))?;
    let asked = Asked::parse(arguments).ok_or_else(|| Failure::new("there is no such probe"))?;
    match asked {
        Asked::Network { .. } => Ok(Some(probe::over_network(&asked, &container))),
        Asked::Inside(name) => {
            let machine = machine::read()?;
            let spec = machine.containers.iter().find(|spec| spec.name == name);
            let spec = spec.ok_or_else(|| Failure::new(format!("there is no container {name}")))?;
            Ok(probe::inside(spec, &container, &cgroup))
        }
    }
}
