//! What opens a registry's door: a password, or a token of the service that it names.

use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde::Deserialize;

use crate::http;
use crate::registry::auth::challenge::Challenge;
use crate::registry::auth::login::Login;
use crate::registry::client::{Error, Registry, again};
use crate::registry::lists::CATALOG;

impl Registry {
    /// What to put into `Authorization`, by the registry's challenge.
    pub(in crate::registry) async fn authorization(
        &self,
        scope: &Scope<'_>,
        challenge: Option<Challenge>,
    ) -> Result<String, Error> {
        let refused = || Error::Unauthorized(format!("{}/{}", self.0.host, scope.repository));
        let login = self.0.auth.login(&self.0.host, scope.repository)?;
        let (realm, service, asked) = match challenge {
            None => return Err(refused()),
            Some(Challenge::Basic) => {
                let Login::Basic { user, password } = login else { return Err(refused()) };
                return Ok(basic(&user, &password));
            }
            Some(Challenge::Bearer { realm, service, scope }) => (realm, service, scope),
        };
        let mut url = Challenge::realm(&realm, &self.0.base).ok_or_else(refused)?;
        // A registry over TLS has no reason to send a password elsewhere without.
        if url.scheme() != "https" && self.0.base.scheme() == "https" {
            let problem = format!("names a token service without TLS: {}", http::shown(&url));
            return Err(Error::Protocol { url: self.0.base.clone(), problem });
        }
        let mut wanted = scope.texts();
        // A registry that calls the repository something else to its token service says so.
        let resource = |scope: &str| scope.rsplit_once(':').map(|(resource, _)| resource.to_owned());
        let known: Vec<_> = wanted.iter().map(|scope| resource(scope)).collect();
        let others =
            asked.iter().flat_map(|asked| asked.split_whitespace()).filter(|it| !known.contains(&resource(it)));
        wanted.extend(others.map(str::to_owned));
        let attempt = || async {
            let request = match &login {
                Login::Identity(token) => {
                    let mut form = url::form_urlencoded::Serializer::new(String::new());
                    form.append_pair("grant_type", "refresh_token").append_pair("refresh_token", token);
                    form.append_pair("client_id", "haversack").append_pair("scope", &wanted.join(" "));
                    form.extend_pairs(service.iter().map(|service| ("service", service)));
                    let client = self.0.http.client();
                    let request = client.post(url.clone()).body(form.finish());
                    request.header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                }
                other => {
                    let mut url = url.clone();
                    url.query_pairs_mut().extend_pairs(service.iter().map(|service| ("service", service)));
                    url.query_pairs_mut().extend_pairs(wanted.iter().map(|scope| ("scope", scope)));
                    let request = self.0.http.get(&url);
                    match other {
                        Login::Basic { user, password } => request.header(AUTHORIZATION, basic(user, password)),
                        _ => request,
                    }
                }
            };
            let response = self.0.http.send(request).await?;
            match response.status() {
                StatusCode::OK => Ok(http::read_limited(response, 1 << 20).await?),
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(refused()),
                _ => Err(http::Error::status(response).await.into()),
            }
        };
        let body = again(self.0.http.retry(), attempt).await?;
        url.set_query(None);
        let token: Token = serde_json::from_slice(&body)
            .map_err(|_| Error::Protocol { url, problem: "the token service gave no token".into() })?;
        let mut given = [token.token, token.access_token].into_iter().flatten();
        let token = given.find(|token| !token.is_empty()).ok_or_else(refused)?;
        Ok(format!("Bearer {token}"))
    }
}

/// What a request needs to be allowed.
pub(in crate::registry) struct Scope<'a> {
    /// Empty for no repository: nothing but to be let in.
    pub(in crate::registry) repository: &'a str,
    /// What is done there, as token services call it.
    pub(in crate::registry) actions: &'static str,
    /// Another repository from which blobs are taken.
    pub(in crate::registry) from: Option<&'a str>,
}

impl Scope<'_> {
    fn texts(&self) -> Vec<String> {
        if self.repository == CATALOG {
            return vec!["registry:catalog:*".to_owned()];
        }
        if self.repository.is_empty() {
            return Vec::new();
        }
        let own = format!("repository:{}:{}", self.repository, self.actions);
        [own].into_iter().chain(self.from.map(|from| format!("repository:{from}:pull"))).collect()
    }

    pub(in crate::registry) fn key(&self) -> String {
        self.texts().join(" ")
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}
