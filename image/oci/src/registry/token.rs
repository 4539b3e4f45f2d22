//! Who we are, when the registry asks: basic authentication, or a token from the server that the
//! registry names (distribution specification, "Token Authentication", and its OAuth 2 variant).

use serde::Deserialize;
use ureq::http::header;

use super::answer::{retry_after, said};
use super::auth::{Credentials, Found};
use super::challenge::Challenge;
use super::error::RegistryError;
use super::http::{Answer, Client, Failure};
use super::retry::Failures;

impl Client {
    /// The header with which to ask again.
    pub(super) fn answer_challenge(
        &self,
        url: &str,
        answer: &Answer,
    ) -> Result<String, RegistryError> {
        let protocol = |why: &str| RegistryError::Protocol {
            url: url.to_owned(),
            why: why.to_owned(),
        };
        let values = answer.headers().get_all(header::WWW_AUTHENTICATE);
        let texts: Vec<&str> = values
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        match Challenge::parse(&texts.join(", ")) {
            None => Err(protocol(
                "it wants to know who we are, in no way that we know",
            )),
            Some(Challenge::Basic) => match &self.credentials {
                Found::Credentials(credentials) => credentials
                    .basic()
                    .ok_or_else(|| protocol("it wants a password, and we only have a token")),
                other => Err(RegistryError::Denied {
                    url: url.to_owned(),
                    why: without_credentials(other),
                }),
            },
            Some(Challenge::Bearer {
                realm,
                service,
                scope,
            }) => self.token(&realm, service, scope),
        }
    }

    /// Distribution specification, "Token Authentication", and its OAuth 2 variant.
    fn token(
        &self,
        realm: &str,
        service: Option<String>,
        scope: Option<String>,
    ) -> Result<String, RegistryError> {
        self.check_target(realm, "its token server")?;
        let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.repository));
        let mut fields = vec![("scope", scope)];
        fields.extend(service.map(|service| ("service", service)));
        let agent = self.agent_for(realm);
        let mut failures = Failures::new(&self.options);
        loop {
            let sent = match &self.credentials {
                Found::Credentials(Credentials::IdentityToken(token)) => {
                    let mut form = fields.clone();
                    form.push(("grant_type", "refresh_token".to_owned()));
                    form.push(("client_id", "berth".to_owned()));
                    form.push(("refresh_token", token.clone()));
                    agent.post(realm).send_form(form)
                }
                found => {
                    let pairs = fields.iter().map(|(key, value)| (*key, value.as_str()));
                    let mut request = agent.get(realm).query_pairs(pairs);
                    if let Found::Credentials(credentials) = found
                        && let Some(header) = credentials.basic()
                    {
                        request = request.header(header::AUTHORIZATION, header);
                    }
                    request.call()
                }
            };
            let url = realm.to_owned();
            let answer = match sent.map_err(|error| self.failure(realm, error)) {
                Ok(answer) => answer,
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(error)) => {
                    failures.pause(None, || error)?;
                    continue;
                }
                Err(Failure::Plain) => {
                    return Err(RegistryError::Protocol {
                        url,
                        why: "the token server does not speak TLS".to_owned(),
                    });
                }
            };
            match answer.status().as_u16() {
                200 => return self.token_of(url, answer),
                status @ (429 | 500..=599) => {
                    let wait = retry_after(&answer);
                    let why = said(answer);
                    failures.pause(wait, || RegistryError::Status { url, status, why })?;
                }
                _ => {
                    let why = self.said_about_credentials(answer);
                    return Err(RegistryError::Denied { url, why });
                }
            }
        }
    }

    fn token_of(&self, url: String, answer: Answer) -> Result<String, RegistryError> {
        #[derive(Deserialize)]
        struct Token {
            token: Option<String>,
            access_token: Option<String>,
        }
        let body = answer
            .into_body()
            .into_with_config()
            .limit(self.token_limit)
            .reader();
        let token: Option<Token> = serde_json::from_reader(body).ok();
        let text = token
            .and_then(|token| token.token.or(token.access_token))
            .filter(|token| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()));
        match text {
            Some(token) => Ok(format!("Bearer {token}")),
            None => Err(RegistryError::Protocol {
                url,
                why: "the token server's answer holds no token".to_owned(),
            }),
        }
    }

    pub(super) fn said_about_credentials(&self, answer: Answer) -> String {
        let who = match &self.credentials {
            Found::Credentials(_) => "with the credentials that we have".to_owned(),
            other => without_credentials(other),
        };
        format!("{who}{}", said(answer))
    }
}

fn without_credentials(found: &Found) -> String {
    match found {
        Found::Helper(helper) => format!(
            "the credentials are with the helper program {helper:?}, which is not run; log in with \
             a file of its own: REGISTRY_AUTH_FILE=FILE skopeo login"
        ),
        Found::Credentials(_) | Found::Nothing => "without credentials".to_owned(),
    }
}
