//! Capabilities as people write them.

use berth_containers::capabilities::NAMES;

/// The number of a capability by its full name.
pub(crate) fn number(name: &str) -> Option<usize> {
    NAMES.iter().position(|known| *known == name)
}

/// `NET_BIND_SERVICE` or `CAP_NET_BIND_SERVICE` as the kernel's full name.
///
/// # Errors
/// A clause that says what was expected.
pub(crate) fn full_name(text: &str) -> Result<String, String> {
    let upper = text.to_ascii_uppercase();
    if upper == "ALL" {
        return Err("name each capability; privileged = true gives all of them".to_owned());
    }
    let full = if upper.starts_with("CAP_") {
        upper
    } else {
        format!("CAP_{upper}")
    };
    if number(&full).is_some() {
        return Ok(full);
    }
    let known = NAMES.iter().filter_map(|name| name.strip_prefix("CAP_"));
    Err(
        match crate::config::nearest(full.trim_start_matches("CAP_"), known) {
            Some(near) => format!("{text:?} is no capability; did you mean {near:?}?"),
            None => format!("{text:?} is no capability (see capabilities(7))"),
        },
    )
}
