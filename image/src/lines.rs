//! Lines for people, who read them in a terminal.

use std::borrow::Cow;

/// The line without what would move the reader's cursor, begin a line or take one away: names, link
/// targets and histories come from images.
pub(crate) fn clean(line: &str) -> Cow<'_, str> {
    match line.contains(char::is_control) {
        true => line.replace(char::is_control, " ").into(),
        false => line.into(),
    }
}

/// Adds one line to a text.
pub(crate) fn push(text: &mut String, line: &str) {
    text.push_str(clean(line).trim_end());
    text.push('\n');
}
