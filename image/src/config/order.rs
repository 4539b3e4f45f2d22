//! `after` of a container: what it waits for, and that nothing waits for itself.

use super::container::ContainerConfig;
use super::table::{Table, string};

/// A container that `after` can name.
pub(super) struct Known {
    pub(super) name: String,
    pub(super) has_check: bool,
}

/// What a container waits for.
#[derive(Default)]
pub(super) struct After {
    pub(super) started: Vec<String>,
    pub(super) healthy: Vec<String>,
    pub(super) network: bool,
}

/// One item of `after`.
enum Awaited {
    Network,
    Started(String),
    Healthy(String),
}

/// Reads `after` of the container `own`.
pub(super) fn after(table: &mut Table<'_>, own: &str, names: &[Known]) -> After {
    let list = table.list(
        "after",
        "a list, like [\"network\", \"container:db\", \"container:db:healthy\"]",
        |value| awaited(&string(value)?, own, names),
    );
    let mut after = After::default();
    for item in list.unwrap_or_default() {
        match item.value {
            Awaited::Network => after.network = true,
            Awaited::Started(name) => after.started.push(name),
            Awaited::Healthy(name) => after.healthy.push(name),
        }
    }
    after
}

fn awaited(text: &str, own: &str, names: &[Known]) -> Result<Awaited, String> {
    if text == "network" {
        return Ok(Awaited::Network);
    }
    let wrong = || {
        format!(
            "expected \"network\", \"container:NAME\" or \"container:NAME:healthy\", found \
             {text:?}"
        )
    };
    let rest = text.strip_prefix("container:").ok_or_else(wrong)?;
    let (name, for_health) = match rest.split_once(':') {
        None => (rest, false),
        Some((name, "healthy")) => (name, true),
        Some(_) => return Err(wrong()),
    };
    if name == own {
        return Err("a container cannot wait for itself".to_owned());
    }
    let Some(known) = names.iter().find(|known| known.name == name) else {
        return Err(format!("there is no [container.{name}]"));
    };
    match for_health {
        false => Ok(Awaited::Started(name.to_owned())),
        true if known.has_check => Ok(Awaited::Healthy(name.to_owned())),
        true => Err(format!(
            "[container.{name}] has no health, so it is never found healthy"
        )),
    }
}

/// Indices of the containers that wait, through `after`, for themselves.
pub(super) fn circle(containers: &[ContainerConfig]) -> Vec<usize> {
    let index_of = |name: &String| containers.iter().position(|other| other.name == *name);
    let mut in_circle = Vec::new();
    for start in 0..containers.len() {
        let mut seen = vec![false; containers.len()];
        let mut open = vec![start];
        while let Some(at) = open.pop() {
            let config = &containers[at];
            let after = config.after.iter().chain(&config.after_healthy);
            for next in after.filter_map(index_of) {
                if !seen[next] {
                    seen[next] = true;
                    open.push(next);
                }
            }
        }
        if seen[start] {
            in_circle.push(start);
        }
    }
    in_circle
}
