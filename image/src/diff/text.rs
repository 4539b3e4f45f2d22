//! A comparison for people: what must not be missed first, and nothing that is the same.

use serde_json::Value;

use super::{ContainerChange, Difference, FileChange, KeyChange, PartCost, SizeChange};
use crate::lines;
use crate::svg::bytes;

/// How long the lists are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// What matters most, and how much more there is.
    Short,
    /// Everything.
    All,
}

/// Entries of a short list.
const SHORT: usize = 12;
/// Characters of a value in a line.
const VALUE: usize = 60;

/// The text.
#[must_use]
pub fn text(difference: &Difference, shown: Shown) -> String {
    let mut out = Text {
        out: String::new(),
        most: match shown {
            Shown::Short => SHORT,
            Shown::All => usize::MAX,
        },
    };
    out.difference(difference);
    out.out
}

struct Text {
    out: String,
    most: usize,
}

impl Text {
    fn line(&mut self, line: &str) {
        lines::push(&mut self.out, line);
    }

    fn title(&mut self, title: &str) {
        self.line("");
        self.line(title);
    }

    /// A list under a title, if there is anything in it.
    fn list<T>(&mut self, title: &str, items: &[T], line: impl Fn(&T) -> String) {
        if items.is_empty() {
            return;
        }
        self.title(title);
        for item in items.iter().take(self.most) {
            self.line(&format!("  {}", line(item)));
        }
        let more = items.len().saturating_sub(self.most);
        if more > 0 {
            self.line(&format!("  and {more} more (--all)"));
        }
    }

    fn difference(&mut self, difference: &Difference) {
        let (old, new) = (&difference.old, &difference.new);
        let name = match old.name == new.name {
            true => format!("{} {} -> {}", new.name, old.version, new.version),
            false => format!(
                "{} {} -> {} {}",
                old.name, old.version, new.name, new.version
            ),
        };
        let cost = match &difference.update {
            Some(update) => format!(": the update costs {}", bytes(update.bytes)),
            None => String::new(),
        };
        self.line(&format!("{name}{cost}"));
        if difference.same {
            self.line("nothing differs: machines would get the same bytes");
        }
        self.list("Look at this", &difference.warnings, |one| {
            format!("! {one}")
        });
        self.list("More privileged", &difference.more_privileged, |one| {
            format!("+ {one}")
        });
        self.list("Less privileged", &difference.less_privileged, |one| {
            format!("- {one}")
        });
        for container in &difference.containers {
            self.container(container);
        }
        self.list("Machine", &difference.machine, key);
        self.kernel(difference);
        self.files(&difference.files);
        if let Some(update) = &difference.update {
            let all = |_: &str| true;
            self.cost(
                "What the update of kernel and boot is for",
                &update.boot,
                all,
            );
            let title = "What the update of the root is for, but for those files";
            let is_told = |name: &str| difference.files.iter().any(|one| one.path == name);
            self.cost(title, &update.root, |name| !is_told(name));
        }
        let sizes = difference.sizes.iter();
        let sizes: Vec<_> = sizes.filter(|one| one.old_bytes != one.new_bytes).collect();
        self.list("Sizes", &sizes, |one| size(one));
    }

    fn container(&mut self, change: &ContainerChange) {
        let name = &change.name;
        match (&change.old_image, &change.new_image) {
            (None, Some([image, digest])) => {
                self.title(&format!("Container {name} is new"));
                self.line(&format!("  {image}  {}", short(digest)));
            }
            (Some([image, _]), None) => {
                self.title(&format!("Container {name} is gone"));
                self.line(&format!("  {image}"));
            }
            (Some([old_image, old]), Some([image, digest])) => {
                self.title(&format!("Container {name}"));
                if old_image != image {
                    self.line(&format!("  image   {old_image} -> {image}"));
                }
                if old != digest {
                    self.line(&format!("  digest  {} -> {}", short(old), short(digest)));
                }
                for one in &change.keys {
                    self.line(&format!("  {}", key(one)));
                }
            }
            (None, None) => {}
        }
    }

    fn kernel(&mut self, difference: &Difference) {
        let (old, new) = (&difference.old, &difference.new);
        let version = |text: &str| match text {
            "" => "from a file".to_owned(),
            text => text.to_owned(),
        };
        let options = difference.kernel_options.as_deref();
        if old.kernel == new.kernel && options.is_none_or(<[_]>::is_empty) {
            return;
        }
        let title = match old.kernel == new.kernel {
            true => format!("Kernel {}", version(&new.kernel)),
            false => format!(
                "Kernel {} -> {}",
                version(&old.kernel),
                version(&new.kernel)
            ),
        };
        match options {
            None => self.title(&format!(
                "{title} (its options are known when both are builds)"
            )),
            Some([]) => self.title(&format!("{title}, the same options")),
            Some(options) => {
                let value = |value: &Option<String>| value.clone().unwrap_or("-".to_owned());
                let width = options.iter().map(|one| one.name.len()).max().unwrap_or(0);
                self.list(&title, options, |one| {
                    let (old, new) = (value(&one.old), value(&one.new));
                    format!("{:width$}  {old} -> {new}", one.name)
                });
            }
        }
    }

    fn files(&mut self, files: &[FileChange]) {
        let count = |old: bool, new: bool| {
            let alike = |one: &&FileChange| {
                one.old_bytes.is_some() == old && one.new_bytes.is_some() == new
            };
            files.iter().filter(alike).count()
        };
        let title = format!(
            "Files of the root: {} changed, {} new, {} gone",
            count(true, true),
            count(false, true),
            count(true, false)
        );
        if files.is_empty() {
            return;
        }
        self.title(&title);
        self.line(&format!("  {:>10}  {:>10}  {:>10}", "old", "new", "update"));
        let size = |bytes: Option<u64>| bytes.map_or("-".to_owned(), self::bytes);
        for one in files.iter().take(self.most) {
            let notes = match one.notes.is_empty() {
                true => String::new(),
                false => format!(" ({})", one.notes.join(", ")),
            };
            self.line(&format!(
                "  {:>10}  {:>10}  {:>10}  {}{notes}",
                size(one.old_bytes),
                size(one.new_bytes),
                one.patch_bytes.map_or(String::new(), bytes),
                one.path
            ));
        }
        let more = files.len().saturating_sub(self.most);
        if more > 0 {
            self.line(&format!("  and {more} more (--all)"));
        }
    }

    fn cost(&mut self, title: &str, part: &PartCost, is_told: impl Fn(&str) -> bool) {
        let whole = part.bytes.max(1);
        let told: Vec<_> = part.by.iter().filter(|one| is_told(&one.name)).collect();
        self.list(
            &format!("{title} ({} in all)", bytes(part.bytes)),
            &told,
            |one| {
                let percent = one.patch_bytes * 100 / whole;
                format!(
                    "{:>10}  {percent:>3} %  {}",
                    bytes(one.patch_bytes),
                    one.name
                )
            },
        );
    }
}

/// The beginning of a digest.
fn short(digest: &str) -> String {
    digest.chars().take(19).collect()
}

fn size(one: &SizeChange) -> String {
    let sign = if one.new_bytes < one.old_bytes {
        '-'
    } else {
        '+'
    };
    let change = one.new_bytes.abs_diff(one.old_bytes);
    format!(
        "{:>10} -> {:>10}  {:>11}  {}",
        bytes(one.old_bytes),
        bytes(one.new_bytes),
        format!("{sign}{}", bytes(change)),
        one.name
    )
}

/// A key and what happened to it. Of lists, only what came and went.
fn key(change: &KeyChange) -> String {
    let values = match (&change.old, &change.new) {
        (Some(Value::Array(old)), Some(Value::Array(new))) => in_lists(old, new),
        _ => None,
    };
    let shown = |one: &Option<Value>| one.as_ref().map_or("-".to_owned(), value);
    let values =
        values.unwrap_or_else(|| format!("{} -> {}", shown(&change.old), shown(&change.new)));
    format!("{}: {values}", change.key)
}

/// Nothing when only the order is another.
fn in_lists(old: &[Value], new: &[Value]) -> Option<String> {
    let gone = old.iter().filter(|one| !new.contains(one));
    let added = new.iter().filter(|one| !old.contains(one));
    let parts: Vec<String> = gone
        .map(|one| format!("-{}", value(one)))
        .chain(added.map(|one| format!("+{}", value(one))))
        .collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

fn value(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut short: String = text.chars().take(VALUE).collect();
    if text.chars().count() > VALUE {
        short.push('…');
    }
    short
}
