//! Reads the kernel's Kconfig tree just enough to tell what a symbol depends on: `config` and
//! `menuconfig` entries, with the `if`, `menu` and `choice` around them, through every `source`.
//! Used for error messages only; the kernel's own tools decide what a configuration is.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// Files include files; the kernel's tree is about 10 deep.
const DEPTH: usize = 32;

/// What the symbols of a tree depend on.
#[derive(Debug, Default)]
pub(crate) struct Dependencies {
    /// One condition for each place where the symbol is defined.
    conditions: HashMap<String, Vec<String>>,
}

/// A block that is open while a file is read.
enum Block {
    If(String),
    Menu(Vec<String>),
    Choice(Vec<String>),
}

/// What the lines that follow belong to.
enum Entry {
    None,
    Symbol { name: String, index: usize },
    Block,
}

impl Dependencies {
    /// Reads the tree at `root`. What cannot be read is left out: a message is then shorter.
    pub(crate) fn read(root: &Path) -> Self {
        let mut dependencies = Self::default();
        dependencies.file(root, "Kconfig", &mut Vec::new(), 0);
        dependencies
    }

    /// Whether the tree knows the symbol at all.
    pub(crate) fn knows(&self, symbol: &str) -> bool {
        self.conditions.contains_key(symbol)
    }

    /// The symbol's conditions, those of several definitions joined by `||`; empty if there are
    /// none.
    pub(crate) fn of(&self, symbol: &str) -> String {
        let Some(conditions) = self.conditions.get(symbol) else {
            return String::new();
        };
        match conditions.as_slice() {
            [one] => one.clone(),
            several if several.iter().any(String::is_empty) => String::new(),
            several => {
                let each: Vec<_> = several.iter().map(|it| format!("({it})")).collect();
                each.join(" || ")
            }
        }
    }

    fn file(&mut self, root: &Path, name: &str, blocks: &mut Vec<Block>, depth: usize) {
        let Ok(text) = fs::read_to_string(root.join(name)) else {
            return;
        };
        let text = text.replace("\\\n", " ");
        let open_before = blocks.len();
        let mut entry = Entry::None;
        let mut help_indent: Option<Option<usize>> = None;
        for line in text.lines() {
            let trimmed = line.trim();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                continue;
            }
            let indent = columns(line);
            if let Some(least) = help_indent {
                // A help text lasts while its lines are indented like its first one.
                let first = least.unwrap_or(indent);
                if indent >= first && indent > 0 {
                    help_indent = Some(Some(first));
                    continue;
                }
                help_indent = None;
            }
            let (word, rest) = trimmed.split_once([' ', '\t']).unwrap_or((trimmed, ""));
            let rest = rest.trim();
            match word {
                "config" | "menuconfig" => entry = self.open(rest, blocks),
                "if" => {
                    blocks.push(Block::If(rest.to_owned()));
                    entry = Entry::None;
                }
                "menu" => {
                    blocks.push(Block::Menu(Vec::new()));
                    entry = Entry::Block;
                }
                "choice" => {
                    blocks.push(Block::Choice(Vec::new()));
                    entry = Entry::Block;
                }
                "endif" | "endmenu" | "endchoice" => {
                    if blocks.len() > open_before {
                        blocks.pop();
                    }
                    entry = Entry::None;
                }
                "source" if depth < DEPTH => {
                    let path = rest.trim_matches('"').replace("$(SRCARCH)", "x86");
                    self.file(root, &path, blocks, depth + 1);
                    entry = Entry::None;
                }
                "comment" | "mainmenu" => entry = Entry::None,
                "depends" => {
                    let condition = rest.trim_start_matches("on").trim();
                    self.depend(&entry, blocks, condition);
                }
                "help" => help_indent = Some(None),
                _ => {}
            }
        }
        blocks.truncate(open_before);
    }

    fn open(&mut self, symbol: &str, blocks: &[Block]) -> Entry {
        let around: Vec<_> = blocks
            .iter()
            .flat_map(|block| match block {
                Block::If(condition) => std::slice::from_ref(condition).iter(),
                Block::Menu(conditions) | Block::Choice(conditions) => conditions.iter(),
            })
            .map(|condition| grouped(condition))
            .collect();
        let places = self.conditions.entry(symbol.to_owned()).or_default();
        places.push(around.join(" && "));
        Entry::Symbol {
            name: symbol.to_owned(),
            index: places.len() - 1,
        }
    }

    fn depend(&mut self, entry: &Entry, blocks: &mut [Block], condition: &str) {
        match entry {
            Entry::Symbol { name, index } => {
                let Some(place) = self
                    .conditions
                    .get_mut(name)
                    .and_then(|places| places.get_mut(*index))
                else {
                    return;
                };
                if !place.is_empty() {
                    place.push_str(" && ");
                }
                place.push_str(&grouped(condition));
            }
            Entry::Block => {
                if let Some(Block::Menu(conditions) | Block::Choice(conditions)) = blocks.last_mut()
                {
                    conditions.push(condition.to_owned());
                }
            }
            Entry::None => {}
        }
    }
}

/// Where a line's text begins, with tabs to every eighth column.
fn columns(line: &str) -> usize {
    let mut column = 0;
    for character in line.chars() {
        match character {
            ' ' => column += 1,
            '\t' => column = (column / 8 + 1) * 8,
            _ => break,
        }
    }
    column
}

/// In parentheses where `&&` would bind more tightly.
fn grouped(condition: &str) -> String {
    if condition.contains("||") {
        format!("({condition})")
    } else {
        condition.to_owned()
    }
}

/// The symbols that a condition names.
pub(crate) fn symbols(condition: &str) -> impl Iterator<Item = &str> {
    condition
        .split(|character: char| !character.is_ascii_alphanumeric() && character != '_')
        .filter(|word| !word.is_empty() && !matches!(*word, "y" | "n" | "m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        directory
    }

    #[test]
    fn conditions_come_from_the_entry_and_from_everything_around_it() {
        let tree = tree(&[
            (
                "Kconfig",
                "source \"arch/$(SRCARCH)/Kconfig\"\nif NET\nsource \"net/Kconfig\"\nendif\nconfig PLAIN\n\tbool\n",
            ),
            ("arch/x86/Kconfig", "config X86\n\tdef_bool y\n"),
            (
                "net/Kconfig",
                "menu \"Cards\"\n\tdepends on PCI || USB\nconfig ENA\n\tbool \"ENA\"\n\tdepends on \\\n\t  VENDOR\n\thelp\n\t  It says:\n\n\t  depends on nothing\nendmenu\n",
            ),
        ]);
        let dependencies = Dependencies::read(tree.path());
        assert_eq!(dependencies.of("ENA"), "NET && (PCI || USB) && VENDOR");
        assert_eq!(dependencies.of("PLAIN"), "");
        assert!(dependencies.knows("X86") && !dependencies.knows("ABSENT"));
    }

    #[test]
    fn a_symbol_that_is_defined_twice_has_either_condition() {
        let tree = tree(&[(
            "Kconfig",
            "config A\n\tdepends on B\nconfig A\n\tdepends on C\n",
        )]);
        assert_eq!(Dependencies::read(tree.path()).of("A"), "(B) || (C)");
    }

    #[test]
    fn a_file_that_includes_itself_ends() {
        let tree = tree(&[("Kconfig", "source \"Kconfig\"\nconfig A\n")]);
        assert!(Dependencies::read(tree.path()).knows("A"));
    }

    #[test]
    fn a_condition_yields_its_symbols() {
        let found: Vec<_> = symbols("NET && (PCI || !USB=y) && $(cc-option,-x)").collect();
        assert_eq!(found[..3], ["NET", "PCI", "USB"]);
    }
}
