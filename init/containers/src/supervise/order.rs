//! What `after` means: names become places in the list; circles are refused.

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
    /// Two containers of one name.
    #[error("there are two containers named {0}")]
    Twice(String),
    /// Containers that wait for each other.
    #[error("these containers wait for each other in a circle: {}", .0.join(", "))]
    Circle(Vec<String>),
}

/// The places of the containers that each container names.
pub(super) fn resolve(containers: &[Container]) -> Result<Vec<Vec<Id>>, OrderError> {
    let place = |name: &str| containers.iter().position(|other| other.name == name);
    let mut resolved = Vec::with_capacity(containers.len());
    for (index, container) in containers.iter().enumerate() {
        if place(&container.name) != Some(index) {
            return Err(OrderError::Twice(container.name.clone()));
        }
        let after: Result<Vec<Id>, OrderError> = container
            .after
            .iter()
            .map(|name| {
                place(name).map(Id).ok_or_else(|| OrderError::Missing {
                    container: container.name.clone(),
                    missing: name.clone(),
                })
            })
            .collect();
        resolved.push(after?);
    }
    refuse_circles(containers, &resolved)?;
    Ok(resolved)
}

/// Takes away whoever waits for nobody, until nobody is left or nobody can go.
fn refuse_circles(containers: &[Container], after: &[Vec<Id>]) -> Result<(), OrderError> {
    let mut left: Vec<Id> = (0..containers.len()).map(Id).collect();
    loop {
        let waits = |id: &Id| {
            after
                .get(id.0)
                .is_some_and(|after| after.iter().any(|other| left.contains(other)))
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
    use super::super::tests::container;
    use super::*;

    #[test]
    fn circles_strangers_and_namesakes_are_refused_by_name() {
        let resolved = resolve(&[container("a", &["b"]), container("b", &[])]);
        assert_eq!(resolved, Ok(vec![vec![Id(1)], vec![]]));

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
}
