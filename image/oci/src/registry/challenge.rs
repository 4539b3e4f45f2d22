//! `WWW-Authenticate` challenges (RFC 9110 section 11.6.1), as far as registries use them.

/// What a server wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    /// A token from somewhere else (distribution specification, "Token Authentication").
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

impl Challenge {
    /// The first challenge in a header that is known; a token is preferred to a password.
    pub(super) fn parse(header: &str) -> Option<Self> {
        let challenges = split(header);
        let bearer = challenges.iter().find_map(|(scheme, parameters)| {
            if !scheme.eq_ignore_ascii_case("bearer") {
                return None;
            }
            let get = |key: &str| {
                let found = parameters.iter().find(|(k, _)| k.eq_ignore_ascii_case(key));
                found.map(|(_, value)| value.clone())
            };
            Some(Self::Bearer {
                realm: get("realm")?,
                service: get("service"),
                scope: get("scope"),
            })
        });
        let basic = || {
            let known = |(scheme, _): &&Parsed| scheme.eq_ignore_ascii_case("basic");
            challenges.iter().find(known).map(|_| Self::Basic)
        };
        bearer.or_else(basic)
    }
}

type Parsed = (String, Vec<(String, String)>);

/// Schemes with their parameters: a token not followed by `=` starts a new challenge.
fn split(header: &str) -> Vec<Parsed> {
    let mut found: Vec<Parsed> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (token, after) = rest.split_at(end);
        if token.is_empty() && after.is_empty() {
            return found;
        }
        let Some(value) = after.trim_start().strip_prefix('=') else {
            if !token.is_empty() {
                found.push((token.to_owned(), Vec::new()));
            }
            rest = after;
            continue;
        };
        let (value, after) = value_of(value.trim_start());
        if let Some((_, parameters)) = found.last_mut() {
            parameters.push((token.to_owned(), value));
        }
        rest = after;
    }
}

/// A quoted or a plain value, and what follows it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, quoted.get(at + 1..).unwrap_or("")),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_of_real_registries_are_understood() {
        let docker = "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",\
                      scope=\"repository:library/nginx:pull,push\"";
        assert_eq!(
            Challenge::parse(docker),
            Some(Challenge::Bearer {
                realm: "https://auth.docker.io/token".into(),
                service: Some("registry.docker.io".into()),
                scope: Some("repository:library/nginx:pull,push".into()),
            })
        );
        assert_eq!(Challenge::parse("basic realm=x"), Some(Challenge::Basic));
        assert_eq!(
            Challenge::parse("Negotiate, Basic realm=\"a, b\""),
            Some(Challenge::Basic)
        );
        assert!(matches!(
            Challenge::parse("Basic realm=\"x\", Bearer realm = \"https://a/b\\\"c\""),
            Some(Challenge::Bearer { realm, .. }) if realm == "https://a/b\"c"
        ));
    }

    #[test]
    fn nonsense_is_no_challenge() {
        for text in [
            "",
            "=",
            ",,,",
            "Bearer",
            "Bearer realm",
            "Digest a=b",
            "=\"",
            "Bearer =x,\"",
        ] {
            assert_eq!(Challenge::parse(text), None, "{text}");
        }
    }
}
