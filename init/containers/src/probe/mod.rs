//! The prober: asks one container once, in a process of its own that PID 1 starts and that ends
//! with the answer.
//!
//! What comes from the container is read here, after this process has given up every privilege,
//! and PID 1 gets one [`Answer`] of fixed size. A probe over the network is made from inside the
//! container's network namespace; a program runs inside the container, confined as the container
//! is. Nothing here outlives its time.

mod answer;
mod asked;
mod confine;
mod http;
mod inside;
mod network;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use crate::plan::Plan;
use crate::spec::{Container, Probe};
use crate::sys::files;

pub use answer::{Answer, LEN};
pub use asked::Asked;
use inside::Place;

/// Takes over a descriptor that the prober was started with. To be called before the process
/// opens anything.
///
/// # Errors
/// When there is no such descriptor.
pub fn inherited(number: i32) -> io::Result<OwnedFd> {
    Ok(files::take(number)?)
}

/// Asks over the network. `container` is a pidfd of the container's first process.
#[must_use]
pub fn over_network(asked: &Asked<'_>, container: &OwnedFd) -> Answer {
    network::enter(container.as_fd())
        .and_then(|()| network::ask(asked))
        .into()
}

/// Runs the program of a container's check inside it, in the cgroup `cgroup` (a directory below
/// the container's own), in which nothing is left alive afterwards.
///
/// Another process comes back from this with the answer, and the caller, which waits for its end,
/// with none.
#[must_use]
pub fn inside(container: &Container, pidfd: &OwnedFd, cgroup: &OwnedFd) -> Option<Answer> {
    let (plan, timeout) = match program(container) {
        Ok(program) => program,
        Err(why) => return Some(Answer::bad(&why)),
    };
    match inside::enter(pidfd.as_fd(), &plan) {
        Ok(Place::Outside) => None,
        Ok(Place::Inside) => {
            let found = inside::ask(&plan, timeout, pidfd.as_fd(), cgroup.as_fd());
            Some(found.into())
        }
        Err(why) => Some(Answer::bad(&why)),
    }
}

/// The plan of the container with the check's program in the place of its own.
fn program(container: &Container) -> Result<(Plan, Duration), String> {
    let health = container.health.as_ref();
    let Some((health, Probe::Exec(command))) = health.map(|health| (health, &health.probe)) else {
        return Err("the container has no program as its check".to_owned());
    };
    let mut asked = container.clone();
    asked.oci.process.args.clone_from(command);
    let plan = Plan::new(&asked).map_err(|why| why.to_string())?;
    Ok((plan, Duration::from_millis(health.timeout_ms)))
}
