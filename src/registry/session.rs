//! The registries that one run speaks to, each connected once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use tokio::sync::OnceCell;

use crate::http::Http;
use crate::registry::auth::AuthFiles;
use crate::registry::client::{Error, Registry};
use crate::registry::repository::Repository;

/// Registries by host.
pub struct Session {
    http: Http,
    auth: AuthFiles,
    /// Whether a host's certificate is checked, where that is said.
    tls: BTreeMap<String, bool>,
    connected: Mutex<HashMap<String, Connecting>>,
}

/// Connected once, also when it failed: all tries were made then, and the next image need not wait for them again.
type Connecting = Arc<OnceCell<Result<Registry, Arc<Error>>>>;

impl Session {
    /// Contacts nobody yet. `tls` says of which hosts plain HTTP will do (`false`); `http` is set up accordingly.
    pub fn new(http: Http, auth: AuthFiles, tls: BTreeMap<String, bool>) -> Self {
        Session { http, auth, tls, connected: Mutex::default() }
    }

    /// A registry, which is connected when it is not yet.
    pub async fn registry(&self, host: &str) -> Result<Registry, Error> {
        let cell = self.connected.lock().expect("no holder panics").entry(host.to_owned()).or_default().clone();
        let tls = self.tls.get(host).copied().unwrap_or(true);
        let connect = async || Registry::connect(&self.http, host, tls, &self.auth).await.map_err(Arc::new);
        cell.get_or_init(connect).await.clone().map_err(Error::Before)
    }

    /// A repository, to be read or to be written, too.
    pub async fn repository(&self, host: &str, name: &str, write: bool) -> Result<Repository, Error> {
        Ok(self.registry(host).await?.repository(name, write))
    }
}
