//! Users and groups of an image as numbers, from its own `/etc/passwd` and `/etc/group`, with the
//! rules that container engines share (moby/sys/user): a number needs no entry, a name does.

use berth_tree::{Kind, Spool, Tree};

/// Who a container's first process is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Further groups in which `/etc/group` lists the user; none when a group was asked for.
    pub additional_gids: Vec<u32>,
    /// Home directory from `/etc/passwd`, for `HOME`.
    pub home: Option<String>,
}

/// Why a user could not be found.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The name is not in the image's file.
    #[error(
        "user {user:?}: the image's {file} has no {kind} called {name:?}; use its number, or a name that the file has"
    )]
    Unknown {
        /// What was asked for.
        user: String,
        /// `/etc/passwd` or `/etc/group`.
        file: &'static str,
        /// `user` or `group`.
        kind: &'static str,
        /// The part that was not found.
        name: String,
    },
    /// A number that no user can have.
    #[error("user {user:?}: {number} is not a user or group number (0 to 4294967294)")]
    OutOfRange {
        /// What was asked for.
        user: String,
        /// The number.
        number: String,
    },
    /// The image's file could not be read.
    #[error("user {user:?}: the image's {file} cannot be read: {why}")]
    Unreadable {
        /// What was asked for.
        user: String,
        /// `/etc/passwd` or `/etc/group`.
        file: &'static str,
        /// Why.
        why: String,
    },
}

/// Far above what any image has.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Resolves `name|uid[:group|gid]`; empty is root.
///
/// # Errors
/// When a name is not in the image, a number is out of range, or the files cannot be read.
pub fn resolve_user(tree: &Tree, spool: &Spool, user: &str) -> Result<User, UserError> {
    let (name, group) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|g| !g.is_empty())),
        None => (user, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let passwd = lines(tree, spool, user, "/etc/passwd")?;
    let groups = lines(tree, spool, user, "/etc/group")?;

    let entry = passwd.iter().map(|line| fields(line)).find(|fields| {
        field(fields, 0) == name || (field(fields, 2) == name && number(name).is_some())
    });
    let mut found = User::default();
    match &entry {
        Some(fields) => {
            found.uid = id(user, field(fields, 2))?;
            found.gid = id(user, field(fields, 3))?;
            found.home = Some(field(fields, 5).to_owned()).filter(|home| !home.is_empty());
        }
        None if is_numeric(name) => found.uid = id(user, name)?,
        None => {
            return Err(UserError::Unknown {
                user: user.to_owned(),
                file: "/etc/passwd",
                kind: "user",
                name: name.to_owned(),
            });
        }
    }
    match (group, &entry) {
        (Some(group), _) => found.gid = group_id(&groups, user, group)?,
        (None, Some(fields)) => {
            found.additional_gids = memberships(&groups, field(fields, 0), found.gid);
        }
        (None, None) => {}
    }
    Ok(found)
}

fn group_id(groups: &[String], user: &str, group: &str) -> Result<u32, UserError> {
    let entry = groups.iter().map(|line| fields(line)).find(|fields| {
        field(fields, 0) == group || (field(fields, 2) == group && number(group).is_some())
    });
    match entry {
        Some(fields) => id(user, field(&fields, 2)),
        None if is_numeric(group) => id(user, group),
        None => Err(UserError::Unknown {
            user: user.to_owned(),
            file: "/etc/group",
            kind: "group",
            name: group.to_owned(),
        }),
    }
}

fn memberships(groups: &[String], name: &str, own: u32) -> Vec<u32> {
    let mut found: Vec<u32> = groups
        .iter()
        .map(|line| fields(line))
        .filter(|fields| {
            field(fields, 3)
                .split(',')
                .any(|member| member.trim() == name)
        })
        .filter_map(|fields| number(field(&fields, 2)))
        .filter(|gid| *gid != own)
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// The file's lines; a missing file has none.
fn lines(
    tree: &Tree,
    spool: &Spool,
    user: &str,
    file: &'static str,
) -> Result<Vec<String>, UserError> {
    let unreadable = |why: String| UserError::Unreadable {
        user: user.to_owned(),
        file,
        why,
    };
    let node = match tree.resolve(file.as_bytes()) {
        Ok(Some(node)) => node,
        Ok(None) => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error.to_string())),
    };
    let Kind::File(content) = &tree.node(node).kind else {
        return Err(unreadable("it is not a file".to_owned()));
    };
    if content.len > MAX_FILE_BYTES {
        return Err(unreadable(format!(
            "it is larger than {MAX_FILE_BYTES} bytes"
        )));
    }
    let bytes = spool
        .read(content)
        .map_err(|error| unreadable(error.to_string()))?;
    Ok(bytes
        .split(|byte| *byte == b'\n')
        .map(|line| String::from_utf8_lossy(line).trim().to_owned())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect())
}

fn fields(line: &str) -> Vec<&str> {
    line.split(':').collect()
}

fn field<'a>(fields: &[&'a str], at: usize) -> &'a str {
    fields.get(at).copied().unwrap_or("")
}

fn is_numeric(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn number(text: &str) -> Option<u32> {
    if !is_numeric(text) {
        return None;
    }
    text.parse().ok().filter(|id| *id != u32::MAX)
}

fn id(user: &str, text: &str) -> Result<u32, UserError> {
    number(text).ok_or_else(|| UserError::OutOfRange {
        user: user.to_owned(),
        number: text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_tree::{Metadata, Node};

    fn image(passwd: Option<&str>, group: Option<&str>) -> (Tree, Spool) {
        let mut spool = Spool::new_in(&std::env::temp_dir()).expect("spool");
        let mut tree = Tree::new(Metadata::system(0o755));
        tree.create_dirs(b"etc", &Metadata::system(0o755))
            .expect("etc");
        for (path, text) in [(&b"etc/passwd"[..], passwd), (b"etc/group", group)] {
            let Some(text) = text else { continue };
            let content = spool.store(text.as_bytes()).expect("store");
            let node = Node {
                metadata: Metadata::system(0o644),
                kind: Kind::File(content),
            };
            tree.insert(path, node).expect("insert");
        }
        (tree, spool)
    }

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# a comment\n\n\
        web:x:101:102:web:/var/www:/bin/false\n1000:x:7:8::/odd:\n";
    const GROUP: &str = "root:x:0:\nweb:x:102:\ntls:x:5:web,other\nlogs:x:4:other, web\n";

    fn resolve(user: &str) -> Result<User, UserError> {
        let (tree, spool) = image(Some(PASSWD), Some(GROUP));
        resolve_user(&tree, &spool, user)
    }

    #[test]
    fn names_and_numbers_are_looked_up_in_the_image() {
        let web = User {
            uid: 101,
            gid: 102,
            additional_gids: vec![4, 5],
            home: Some("/var/www".into()),
        };
        assert_eq!(resolve("web").expect("name"), web);
        assert_eq!(resolve("101").expect("number"), web);
        let with_group = resolve("web:tls").expect("group");
        assert_eq!((with_group.gid, with_group.additional_gids), (5, vec![]));
        assert_eq!(resolve("5000:6000").expect("numbers").gid, 6000);
        assert_eq!(resolve("5000").expect("number").gid, 0);
        assert_eq!(resolve("").expect("empty").home, Some("/root".into()));
        assert_eq!(resolve(":tls").expect("only a group").gid, 5);
        // A user whose name is digits wins, as it does elsewhere.
        assert_eq!(resolve("1000").expect("digits").uid, 7);
    }

    #[test]
    fn what_cannot_be_resolved_is_named() {
        let error = resolve("nobody").expect_err("no such user").to_string();
        assert!(
            error.contains("/etc/passwd") && error.contains("nobody"),
            "{error}"
        );
        let error = resolve("web:nogroup")
            .expect_err("no such group")
            .to_string();
        assert!(
            error.contains("/etc/group") && error.contains("nogroup"),
            "{error}"
        );
        assert!(resolve("4294967295").is_err());
        assert!(resolve("99999999999").is_err());
    }

    #[test]
    fn an_image_without_the_files_takes_numbers_only() {
        let (tree, spool) = image(None, None);
        assert_eq!(resolve_user(&tree, &spool, "7:8").expect("numbers").gid, 8);
        assert_eq!(
            resolve_user(&tree, &spool, "").expect("root"),
            User::default()
        );
        assert!(resolve_user(&tree, &spool, "web").is_err());
    }
}
