//! Lists that kernel-crawler published: JSON, by distribution, kernels with the URLs of their headers.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::kernel::package::Package;

#[derive(Deserialize)]
struct Entry {
    // Kernels of some distributions have a configuration and no headers.
    #[serde(default)]
    headers: Option<Vec<String>>,
}

/// Reads a list. URLs that name no package (kernel sources of some distributions) are passed over.
pub fn packages(json: &[u8]) -> Result<Vec<Package>, serde_json::Error> {
    let list: BTreeMap<String, Vec<Entry>> = serde_json::from_slice(json)?;
    let headers = list.into_values().flatten().flat_map(|entry| entry.headers.unwrap_or_default());
    Ok(headers.filter_map(|url| Package::from_location(&url).ok()).collect())
}
