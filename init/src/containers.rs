//! The containers of this machine: carries out what the supervisor decides and tells it what
//! came of it. Every decision is in `berth_containers::supervise`; the loop only passes by here.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_containers::launch::{self, Child, Launch, Native, Streams};
use berth_containers::plan::Plan;
use berth_containers::report::Progress;
use berth_containers::spec::{Container, Resources};
use berth_containers::supervise::{Action, End, Event, Id, Supervisor};
use berth_containers::{Errno, health};
use berth_provision::status::ContainerStatus;

use crate::failure::{Doing, Failure};
use crate::health::Health;
use crate::kernel_log::{KernelLog, Urgency, now_us};
use crate::roles::Role;
use crate::sys::How;
use crate::{LOG_ROLE, cgroups, container_logs};

/// All containers, in the order of the file.
#[derive(Debug)]
pub(crate) struct Containers {
    supervisor: Supervisor,
    health: Health,
    units: Vec<Unit>,
    null: OwnedFd,
    /// Every container that should run has started.
    pub(crate) ready_us: Option<u64>,
    /// Every container has stopped, after [`Containers::stop`].
    pub(crate) stopped: bool,
    /// A sentence about the last thing that went wrong, taken by the loop.
    pub(crate) trouble: Option<String>,
    /// Something that the status shows is different.
    pub(crate) changed: bool,
}

/// One container.
#[derive(Debug)]
struct Unit {
    name: String,
    image: String,
    /// What is launched, or why it never can be.
    plan: Result<Plan, String>,
    resources: Option<Resources>,
    keep_bytes: u64,
    /// Its pipes, which outlive both it and the log role.
    pipes: Option<Pipes>,
    child: Option<Child>,
    /// Its program has taken over, and the supervisor knows.
    runs: bool,
    started_us: Option<u64>,
    last_exit: Option<String>,
}

/// What a container writes to and the log role reads: (read, write).
#[derive(Debug)]
struct Pipes {
    out: (OwnedFd, OwnedFd),
    err: (OwnedFd, OwnedFd),
}

impl Containers {
    /// Takes the machine's containers; starts nothing yet.
    pub(crate) fn new(specs: &[Container]) -> Result<Self, Failure> {
        Ok(Self {
            supervisor: Supervisor::new(specs).doing(|| "order the containers".to_owned())?,
            health: Health::new(specs),
            units: specs.iter().map(Unit::new).collect(),
            null: launch::null().doing(|| "open /dev/null".to_owned())?,
            ready_us: None,
            stopped: false,
            trouble: None,
            changed: true,
        })
    }

    /// Tells the supervisor what happened and does what it wants, until it wants nothing more.
    pub(crate) fn handle(&mut self, event: Event, log: &mut KernelLog) {
        let mut events = VecDeque::from([event]);
        let mut actions = Vec::new();
        while let Some(event) = events.pop_front() {
            if let Some(event) = health_event(event) {
                events.extend(self.watch(event, log));
            }
            self.supervisor.handle(now_us(), event, &mut actions);
            for action in actions.drain(..) {
                self.changed = true;
                match action {
                    Action::Launch(id) => events.push_back(self.launch(id, log)),
                    Action::Signal(id, signal) => self.signal(id, signal, log),
                    Action::Kill(id) => self.kill(id, log),
                    Action::GiveUp(id) => {
                        let name = self.name(id);
                        let line = format!(
                            "container={name} stuck : it was killed and does not go away; the \
                             machine goes on without it"
                        );
                        self.report(log, line);
                    }
                    Action::Ready => {
                        let now = now_us();
                        self.ready_us = Some(now);
                        log.line(Urgency::Notice, &format!("ready t={now}"));
                    }
                    Action::Stopped => self.stopped = true,
                }
            }
        }
    }

    /// Tells the monitor what happened; what the supervisor has to know of it.
    fn watch(&mut self, event: health::Event, log: &mut KernelLog) -> Vec<Event> {
        let units = &self.units;
        let container = |id: Id| units.get(id.0)?.child.as_ref().map(Child::pidfd);
        let news = self.health.handle(event, container, log);
        self.changed |= news.changed;
        if news.trouble.is_some() {
            self.trouble = news.trouble;
        }
        news.healthy.into_iter().map(Event::Healthy).collect()
    }

    /// When [`Event::Tick`] is due.
    pub(crate) fn deadline_us(&self) -> u64 {
        let supervisor = self.supervisor.deadline_us().unwrap_or(u64::MAX);
        supervisor.min(self.health.deadline_us())
    }

    /// How long stopping everything may take.
    pub(crate) fn longest_stop_ms(&self) -> u64 {
        self.supervisor.longest_stop_us() / 1000
    }

    /// Starts the log role, if any container can write something.
    pub(crate) fn start_log_role(&self) -> Option<Result<Role, Failure>> {
        let mut arguments = vec![LOG_ROLE.to_owned()];
        let mut passed = Vec::new();
        for unit in &self.units {
            if let Some(pipes) = &unit.pipes {
                arguments.push(container_logs::argument(&unit.name, unit.keep_bytes));
                passed.extend([pipes.out.0.as_fd(), pipes.err.0.as_fd()]);
            }
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        (!passed.is_empty()).then(|| Role::start(container_logs::GROUP, &arguments, &passed))
    }

    /// What to poll: pipes that tell how far a start has come.
    pub(crate) fn reports(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.units
            .iter()
            .filter_map(|unit| unit.child.as_ref()?.reports())
    }

    /// Whether anything was started.
    pub(crate) fn have_processes(&self) -> bool {
        self.units.iter().any(|unit| unit.child.is_some())
    }

    /// Whether a start is under way.
    pub(crate) fn is_setting_up(&self) -> bool {
        self.reports().next().is_some()
    }

    /// Looks at starts that may have come further.
    pub(crate) fn read_reports(&mut self, log: &mut KernelLog) {
        for index in 0..self.units.len() {
            self.look_at(Id(index), log);
        }
    }

    /// A process has ended: whether it was a container's first, or a prober.
    pub(crate) fn reaped(&mut self, pid: i32, how: How, log: &mut KernelLog) -> bool {
        if let Some((event, shown)) = self.health.reaped(pid, how) {
            self.changed |= shown;
            for event in self.watch(event, log) {
                self.handle(event, log);
            }
            return true;
        }
        let is_it = |unit: &Unit| unit.child.as_ref().is_some_and(|child| child.pid() == pid);
        let Some(index) = self.units.iter().position(is_it) else {
            return false;
        };
        let id = Id(index);
        // It may have started and ended between two looks.
        let failure = self.look_at(id, log);
        let Some(unit) = self.units.get_mut(index) else {
            return false;
        };
        // Also when nothing follows from it: one that ends for good.
        self.changed = true;
        unit.child = None;
        unit.started_us = None;
        let end = match (std::mem::take(&mut unit.runs), how) {
            (true, How::Exited(status)) => End::Exited(status),
            (true, How::Signaled(signal)) => End::Signaled(signal),
            (false, _) => End::NotStarted,
        };
        let name = unit.name.clone();
        let now = now_us();
        match (end, how) {
            (End::NotStarted, _) => {
                let why = failure.unwrap_or_else(|| "it was killed while it was set up".to_owned());
                unit.last_exit = Some(why.clone());
                self.report(log, format!("container={name} failed t={now} : {why}"));
            }
            (_, How::Exited(status)) => {
                unit.last_exit = Some(format!("status {status}"));
                let line = format!("container={name} exited status={status} t={now}");
                log.line(Urgency::Notice, &line);
            }
            (_, How::Signaled(signal)) => {
                unit.last_exit = Some(format!("signal {signal}"));
                let line = format!("container={name} exited signal={signal} t={now}");
                log.line(Urgency::Notice, &line);
            }
        }
        // What its first process left behind does not outlive it.
        self.kill(id, log);
        self.handle(Event::Ended(id, end), log);
        true
    }

    /// What the status says about the containers.
    pub(crate) fn status(&self) -> Vec<ContainerStatus> {
        self.units
            .iter()
            .enumerate()
            .map(|(index, unit)| self.unit_status(index, unit))
            .collect()
    }

    fn launch(&mut self, id: Id, log: &mut KernelLog) -> Event {
        let Some(unit) = self.units.get_mut(id.0) else {
            return Event::LaunchFailed(id);
        };
        match unit.launch(&self.null) {
            Ok(pid) => {
                let now = now_us();
                unit.started_us = Some(now);
                let line = format!("container={} started pid={pid} t={now}", unit.name);
                log.line(Urgency::Notice, &line);
                Event::Launched(id)
            }
            Err(why) => {
                unit.last_exit = Some(why.to_string());
                let line = format!("container={} failed t={} : {why}", unit.name, now_us());
                self.report(log, line);
                Event::LaunchFailed(id)
            }
        }
    }

    /// Reads how far a start has come; gives the reason when it has failed.
    fn look_at(&mut self, id: Id, log: &mut KernelLog) -> Option<String> {
        let unit = self.units.get_mut(id.0)?;
        if unit.runs {
            return None;
        }
        match unit.child.as_mut()?.progress() {
            Progress::SettingUp => None,
            Progress::Failed(why) => Some(why.to_string()),
            Progress::Running => {
                unit.runs = true;
                let line = format!("container={} exec t={}", unit.name, now_us());
                log.line(Urgency::Notice, &line);
                self.handle(Event::Executed(id), log);
                None
            }
        }
    }

    fn signal(&mut self, id: Id, signal: i32, log: &mut KernelLog) {
        let Some(child) = self.units.get(id.0).and_then(|unit| unit.child.as_ref()) else {
            return;
        };
        if let Err(why) = child.signal(signal) {
            let name = self.name(id);
            let line = format!("container={name} : signal {signal} cannot be sent: {why}");
            self.report(log, line);
        }
    }

    /// Kills everything in a container.
    fn kill(&mut self, id: Id, log: &mut KernelLog) {
        let Some(unit) = self.units.get(id.0) else {
            return;
        };
        if let Err(why) = cgroups::kill_container(&unit.name) {
            let line = format!("container={} : {why}", unit.name);
            self.report(log, line);
        }
    }

    fn report(&mut self, log: &mut KernelLog, line: String) {
        log.line(Urgency::Error, &line);
        self.trouble = Some(line);
    }

    fn name(&self, id: Id) -> String {
        let unit = self.units.get(id.0);
        unit.map(|unit| unit.name.clone()).unwrap_or_default()
    }

    fn unit_status(&self, index: usize, unit: &Unit) -> ContainerStatus {
        let (state, restarts) = match self.supervisor.state(Id(index)) {
            Some((state, restarts)) => (state.name(), restarts),
            None => ("failed", 0),
        };
        ContainerStatus {
            name: unit.name.clone(),
            image: unit.image.clone(),
            state: state.to_owned(),
            pid: unit.child.as_ref().map(Child::pid),
            restarts: u32::try_from(restarts).unwrap_or(u32::MAX),
            started_us: unit.started_us,
            health: self.health.status(Id(index)),
            last_exit: unit.last_exit.clone(),
            memory: None,
        }
    }
}

/// What an event about containers means for their health.
fn health_event(event: Event) -> Option<health::Event> {
    match event {
        Event::Executed(id) => Some(health::Event::Executed(id)),
        Event::Ended(id, _) => Some(health::Event::Ended(id)),
        Event::StopAll | Event::KillAll => Some(health::Event::StopAll),
        Event::Tick => Some(health::Event::Tick),
        _ => None,
    }
}

impl Pipes {
    fn new(plan: &Plan) -> Result<Self, Errno> {
        Ok(Self {
            out: launch::output_pipe(plan)?,
            err: launch::output_pipe(plan)?,
        })
    }
}

impl Unit {
    fn new(spec: &Container) -> Self {
        let plan = Plan::new(spec).map_err(|why| why.to_string());
        Self {
            name: spec.name.clone(),
            image: spec.image.clone(),
            resources: spec.oci.linux.resources.clone(),
            keep_bytes: spec.log.keep_bytes,
            pipes: plan.as_ref().ok().and_then(|plan| Pipes::new(plan).ok()),
            plan,
            child: None,
            runs: false,
            started_us: None,
            last_exit: None,
        }
    }

    fn launch(&mut self, null: &OwnedFd) -> Result<i32, Failure> {
        let plan = self.plan.as_ref().map_err(Failure::new)?;
        let pipes = self.pipes.as_ref();
        let pipes = pipes.ok_or_else(|| Failure::new("there are no pipes left for its output"))?;
        let cgroup = cgroups::container(&self.name, self.resources.as_ref())?;
        let streams = Streams {
            stdin: null.as_fd(),
            stdout: pipes.out.1.as_fd(),
            stderr: pipes.err.1.as_fd(),
        };
        let child = Native
            .launch(plan, &streams, Some(cgroup.as_fd()))
            .map_err(|why| Failure::new(why.to_string()))?;
        let pid = child.pid();
        self.child = Some(child);
        Ok(pid)
    }
}
