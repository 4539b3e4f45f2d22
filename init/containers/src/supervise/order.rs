//! What `after` means: names become places in the list; circles are refused, and so is waiting
//! for the health of a container that has no check.

use super::Id;
use crate::spec::Container;

/// Why containers cannot be ordered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// A name that is not there.
    #[error(
        "container {container} starts after {missing}, which is not a container of this machine"
    )]
    Missing {
        /// Who names it.
        container: String,
        /// The name.
        missing: String,
    },
    /// Waiting for what never comes.
    #[error("container {container} starts when {unchecked} is healthy, which has no health check")]
    Unchecked {
        /// Who waits.
        container: String,
        /// The container without a check.
        unchecked: String,
    },
    /// Two containers of one name.
    #[error("there are two containers named {0}")]
    Twice(String),
    /// Containers that wait for each other.
    #[error("these containers wait for each other in a circle: {}", .0.join(", "))]
    Circle(Vec<String>),
}

/// Which containers one waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct After {
    /// These must have started.
    pub(super) all: Vec<Id>,
    /// These of them must have been healthy.
    pub(super) healthy: Vec<Id>,
}

/// The places of the containers that each container names.
pub(super) fn resolve(containers: &[Container]) -> Result<Vec<After>, OrderError> {
    let mut resolved = Vec::with_capacity(containers.len());
    for (index, container) in containers.iter().enumerate() {
        if place(containers, &container.name) != Some(Id(index)) {
            return Err(OrderError::Twice(container.name.clone()));
        }
        let healthy = places(containers, container, &container.after_healthy)?;
        for id in &healthy {
            let other = containers.get(id.0);
            if let Some(other) = other.filter(|other| other.health.is_none()) {
                return Err(OrderError::Unchecked {
                    container: container.name.clone(),
                    unchecked: other.name.clone(),
                });
            }
        }
        let mut all = places(containers, container, &container.after)?;
        all.extend(&healthy);
        resolved.push(After { all, healthy });
    }
    refuse_circles(containers, &resolved)?;
    Ok(resolved)
}

fn place(containers: &[Container], name: &str) -> Option<Id> {
    let found = containers.iter().position(|other| other.name == name);
    found.map(Id)
}

fn places(
    containers: &[Container],
    container: &Container,
    names: &[String],
) -> Result<Vec<Id>, OrderError> {
    let find = |name: &String| {
        place(containers, name).ok_or_else(|| OrderError::Missing {
            container: container.name.clone(),
            missing: name.clone(),
        })
    };
    names.iter().map(find).collect()
}

/// Takes away whoever waits for nobody, until nobody is left or nobody can go.
fn refuse_circles(containers: &[Container], after: &[After]) -> Result<(), OrderError> {
    let mut left: Vec<Id> = (0..containers.len()).map(Id).collect();
    loop {
        let waits = |id: &Id| {
            after
                .get(id.0)
                .is_some_and(|after| after.all.iter().any(|other| left.contains(other)))
        };
        let still: Vec<Id> = left.iter().copied().filter(waits).collect();
        if still.is_empty() {
            return Ok(());
        }
        if still.len() == left.len() {
            let name = |id: &Id| containers.get(id.0).map(|container| container.name.clone());
            return Err(OrderError::Circle(still.iter().filter_map(name).collect()));
        }
        left = still;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{checked, container};
    use super::*;

    #[test]
    fn circles_strangers_and_namesakes_are_refused_by_name() {
        let resolved = resolve(&[container("a", &["b"]), container("b", &[])]);
        let after_b = After {
            all: vec![Id(1)],
            healthy: vec![],
        };
        assert_eq!(resolved, Ok(vec![after_b, After::default()]));

        let circle = resolve(&[
            container("a", &["c"]),
            container("b", &[]),
            container("c", &["a"]),
        ]);
        assert_eq!(
            circle,
            Err(OrderError::Circle(vec!["a".into(), "c".into()]))
        );
        assert!(matches!(
            resolve(&[container("a", &["a"])]),
            Err(OrderError::Circle(_))
        ));
        assert!(matches!(
            resolve(&[container("a", &["x"])]),
            Err(OrderError::Missing { .. })
        ));
        assert_eq!(
            resolve(&[container("a", &[]), container("a", &[])]),
            Err(OrderError::Twice("a".into()))
        );
    }

    #[test]
    fn waiting_for_health_is_an_order_too_and_needs_a_check() {
        let mut web = container("web", &[]);
        web.after_healthy = vec!["db".into()];
        let mut db = checked("db");
        let resolved = resolve(&[web.clone(), db.clone()]).expect("ordered");
        assert_eq!(resolved[0].all, [Id(1)]);
        assert_eq!(resolved[0].healthy, [Id(1)]);

        db.after = vec!["web".into()];
        let circle = resolve(&[web.clone(), db]);
        assert!(matches!(circle, Err(OrderError::Circle(_))));
        let unchecked = resolve(&[web, container("db", &[])]).expect_err("no check");
        assert_eq!(
            unchecked.to_string(),
            "container web starts when db is healthy, which has no health check"
        );
    }
}
