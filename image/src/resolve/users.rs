//! Who a container runs as: `USER` of an image or of the file, looked up in the image's
//! `passwd` and `group` (passwd(5), group(5)) as Docker does it.

use berth_containers::spec::User;

/// A user with what else its `passwd` line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) user: User,
    pub(super) home: String,
}

struct PasswdLine<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// Looks up `user`, `user:group`, names or numbers; empty is root.
pub(super) fn account(text: &str, passwd: &str, group: &str) -> Result<Account, String> {
    let (user, wanted_group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number = user.parse::<u32>().ok();
    // A name wins over a number that looks like one, as everywhere in Unix.
    let line = passwd_lines(passwd)
        .find(|line| line.name == user)
        .or_else(|| passwd_lines(passwd).find(|line| Some(line.uid) == number));
    let (uid, primary) = match (&line, number) {
        (Some(line), _) => (line.uid, line.gid),
        (None, Some(uid)) => (uid, 0),
        (None, None) => {
            return Err(format!(
                "the user {user:?} is not in the image's /etc/passwd"
            ));
        }
    };
    let (gid, additional_gids) = match (wanted_group, &line) {
        (Some(wanted), _) => (find_group(wanted, group)?, Vec::new()),
        (None, Some(line)) => (primary, memberships(line.name, primary, group)),
        (None, None) => (primary, Vec::new()),
    };
    Ok(Account {
        user: User {
            uid,
            gid,
            additional_gids,
            umask: None,
        },
        home: line
            .map(|line| line.home)
            .filter(|home| home.starts_with('/'))
            .unwrap_or("/")
            .to_owned(),
    })
}

fn passwd_lines(text: &str) -> impl Iterator<Item = PasswdLine<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let _password = fields.next()?;
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let _comment = fields.next();
        let home = fields.next().unwrap_or("/");
        (!name.is_empty() && !name.starts_with('#')).then_some(PasswdLine {
            name,
            uid,
            gid,
            home,
        })
    })
}

/// `(name, gid, members)` of each line.
fn group_lines(text: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let _password = fields.next()?;
        let gid = fields.next()?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

fn find_group(wanted: &str, group: &str) -> Result<u32, String> {
    group_lines(group)
        .find(|(name, _, _)| *name == wanted)
        .map(|(_, gid, _)| gid)
        .or_else(|| wanted.parse().ok())
        .ok_or_else(|| format!("the group {wanted:?} is not in the image's /etc/group"))
}

fn memberships(name: &str, primary: u32, group: &str) -> Vec<u32> {
    let mut gids: Vec<u32> = group_lines(group)
        .filter(|(_, gid, members)| {
            *gid != primary && members.split(',').any(|member| member.trim() == name)
        })
        .map(|(_, gid, _)| gid)
        .collect();
    gids.sort_unstable();
    gids.dedup();
    gids
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
        www:x:33:34:www:/var/www:/bin/false\nbroken\n:x:5:5::/:\n101:x:7:8:::\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nssl:x:110:other,www\nlog:x:4:www\n";

    fn found(text: &str) -> (u32, u32, Vec<u32>) {
        let account = account(text, PASSWD, GROUP).expect(text);
        (
            account.user.uid,
            account.user.gid,
            account.user.additional_gids,
        )
    }

    #[test]
    fn users_are_found_as_docker_finds_them() {
        assert_eq!(found(""), (0, 0, vec![]));
        assert_eq!(found("www"), (33, 34, vec![4, 110]));
        assert_eq!(found("33"), (33, 34, vec![4, 110]));
        assert_eq!(found("www:ssl"), (33, 110, vec![]));
        assert_eq!(found("www:9"), (33, 9, vec![]));
        assert_eq!(found("9999"), (9999, 0, vec![]));
        assert_eq!(found("101"), (7, 8, vec![]), "a name that is a number");
    }

    #[test]
    fn who_is_not_there_is_an_error() {
        assert!(account("nobody", PASSWD, GROUP).is_err());
        assert!(account("www:wheel", PASSWD, GROUP).is_err());
        assert!(account("4294967296", PASSWD, GROUP).is_err());
        assert!(account("-1", "", "").is_err());
    }
}
