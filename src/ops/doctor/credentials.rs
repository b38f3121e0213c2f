//! Credentials: which files have them for whom, who may read those, and whether their helpers are there. No secret is shown.

use std::collections::BTreeSet;

use crate::causes;
use crate::ops::doctor::{Check, DoctorOptions, advice, machine};
use crate::registry::AuthFiles;
use crate::registry::auth;

/// A line for each file that is there, or one for all when none is.
pub(super) fn files(options: &DoctorOptions) -> Vec<Check> {
    let paths = options.access.auth.paths.iter().filter(|path| path.exists());
    let mut checks = Vec::new();
    for path in paths {
        let shown = path.display();
        let contents = match auth::contents(path) {
            Ok(contents) => contents,
            Err(error) => {
                let next = advice(&error, "correct it, or remove it and log in again");
                checks.push(Check::fail("credentials", causes::line(&error), next));
                continue;
            }
        };
        let mut hosts = contents.places;
        hosts.extend(contents.helpers.iter().map(|(host, name)| format!("{host} (docker-credential-{name})")));
        hosts.extend(contents.store.iter().map(|name| format!("others (docker-credential-{name})")));
        let list = if hosts.is_empty() { "nobody".to_owned() } else { hosts.join(", ") };
        let found = format!("{shown}: for {list}");
        let names = contents.helpers.values().chain(&contents.store).map(|name| format!("docker-credential-{name}"));
        let lacking = names.collect::<BTreeSet<_>>();
        let lacking = lacking.into_iter().find(|name| machine::program_in(options.path.as_deref(), name).is_none());
        checks.push(match lacking {
            Some(name) => Check::fail(
                "credentials",
                format!("{found}; the helper {name} is not in PATH"),
                format!("install {name}, or take it out of {shown} and log in again"),
            ),
            None if machine::is_open_to_others(path) => {
                Check::warn("credentials", format!("{found}; others may read it"), format!("chmod 600 {shown}"))
            }
            None => Check::ok("credentials", found),
        });
    }
    if checks.is_empty() {
        let places = options.access.auth.paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        checks.push(Check::ok("credentials", format!("none; looked for in {}", places.join(", "))));
    }
    checks
}

/// The hosts that there are credentials for. What cannot be read has none; [`files`] says so.
pub(super) fn registries(files: &AuthFiles) -> BTreeSet<String> {
    let contents = files.paths.iter().filter(|path| path.exists()).filter_map(|path| auth::contents(path).ok());
    let places = contents.flat_map(|contents| contents.places.into_iter().chain(contents.helpers.into_keys()));
    places.filter_map(|place| Some(place.parse::<crate::ops::login::LoginPlace>().ok()?.registry)).collect()
}
