//! Lists that kernel-crawler published: JSON, by distribution, kernels with the URLs of their headers.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};

use serde::Deserialize;

use crate::compression::{LimitedReader, decoder};
use crate::kernel::group::Offer;
use crate::kernel::package::Package;

#[derive(Deserialize)]
struct Entry {
    // Kernels of some distributions have a configuration and no headers.
    #[serde(default)]
    headers: Option<Vec<String>>,
}

/// Reads a list, compressed or not, with what each of its entries names together. URLs that name no package (kernel sources
/// of some distributions) are passed over.
pub fn offer(list: impl BufRead + Send) -> Result<Offer, serde_json::Error> {
    let (_, reader) = decoder(list).map_err(serde_json::Error::io)?;
    let list: BTreeMap<String, Vec<Entry>> =
        serde_json::from_reader(BufReader::new(LimitedReader::new(reader, LIST_LIMIT)))?;
    let mut offer = Offer::default();
    for entry in list.into_values().flatten() {
        let urls = entry.headers.unwrap_or_default();
        let packages: Vec<Package> = urls.iter().filter_map(|url| Package::from_location(url).ok()).collect();
        if packages.len() > 1 {
            offer.together.push(packages.iter().map(|package| package.name.clone()).collect());
        }
        offer.packages.extend(packages);
    }
    Ok(offer)
}

/// The lists of today have some 10 MiB for each machine.
const LIST_LIMIT: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_all_distributions_are_read_and_what_is_no_package_is_passed_over() {
        let list = r#"{
            "Debian": [{"kernelversion": 1, "kernelrelease": "5.10.46-5-amd64", "target": "debian", "headers": [
                "http://h/linux-headers-5.10.0-8-amd64_5.10.46-5_amd64.deb", "http://h/linux-kbuild-5.10_5.10.46-5_amd64.deb"
            ]}],
            "Minikube": [{"kernelversion": "1_1.2", "kernelrelease": "5.10", "target": "minikube", "headers": null}],
            "PhotonOS": [{"kernelversion": "1", "kernelrelease": "x", "target": "photon", "headers": ["http://h/x.tar"]}],
            "Flatcar": [{"kernelversion": "1", "kernelrelease": "x", "target": "flatcar", "kernelconfigdata": "AA=="}]
        }"#;
        let offer = offer(list.as_bytes()).unwrap();
        let names: Vec<&str> = offer.packages.iter().map(|package| &*package.name.name).collect();
        assert_eq!(offer.together.len(), 1);
        assert_eq!(names, ["linux-headers-5.10.0-8-amd64", "linux-kbuild-5.10"]);
        assert!(super::offer(&b"[]"[..]).is_err());
    }
}
