//! What a server says besides what was asked for.

use std::io::Read;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::header;

use super::http::Answer;

/// How long it wants to be left alone.
pub(super) fn retry_after(answer: &Answer) -> Option<Duration> {
    let value = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// The messages in a registry's error answer, as ": message".
pub(super) fn said(answer: Answer) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Item>,
    }
    #[derive(Deserialize)]
    struct Item {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    const LIMIT: u64 = 16 * 1024;
    let mut bytes = Vec::new();
    let body = answer.into_body().into_with_config().limit(LIMIT).reader();
    if body.take(LIMIT).read_to_end(&mut bytes).is_err() {
        return String::new();
    }
    let errors: Option<Errors> = serde_json::from_slice(&bytes).ok();
    let items = errors.map(|errors| errors.errors).unwrap_or_default();
    let texts: Vec<String> = items
        .iter()
        .take(3)
        .map(|item| format!("{} {}", item.code, item.message))
        .map(|text| {
            text.chars()
                .filter(|c| !c.is_control())
                .take(200)
                .collect::<String>()
        })
        .map(|text| text.trim().to_owned())
        .collect();
    match texts.is_empty() {
        true => String::new(),
        false => format!(": {}", texts.join("; ")),
    }
}
