//! Lists that kernel-crawler published: JSON, by distribution, kernels with the URLs of their headers.

use std::borrow::Cow;
use std::fmt;
use std::io::{BufRead, BufReader};

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::compression::{LimitedReader, decoder};
use crate::kernel::group::Offer;
use crate::kernel::package::Package;
use crate::limits::{self, Count, PACKAGE_OVERHEAD};

/// Reads a list, compressed or not, with what each of its entries names together. URLs that name no package (kernel sources
/// of some distributions) are passed over.
pub fn offer(list: impl BufRead + Send) -> Result<Offer, serde_json::Error> {
    let (_, reader) = decoder(list).map_err(serde_json::Error::io)?;
    let mut offer = Offer::default();
    let mut json = serde_json::Deserializer::from_reader(BufReader::new(LimitedReader::new(reader, LIST_LIMIT)));
    json.deserialize_map(Distributions {
        kept: limits::kept(),
        offer: &mut offer,
        count: Count::new("entries in it", limits::PACKAGES),
    })?;
    json.end()?;
    Ok(offer)
}

/// Takes entry after entry, so that a list takes no more memory than what is kept of it.
struct Distributions<'a> {
    offer: &'a mut Offer,
    count: Count,
    kept: Count,
}

impl<'de> Visitor<'de> for Distributions<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("kernels by distribution")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while map.next_key::<IgnoredAny>()?.is_some() {
            map.next_value_seed(Kernels(&mut self))?;
        }
        Ok(())
    }
}

/// The kernels of one distribution.
struct Kernels<'a, 'b>(&'a mut Distributions<'b>);

impl<'de> DeserializeSeed<'de> for Kernels<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Kernels<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of kernels")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut kernels: A) -> Result<(), A::Error> {
        while kernels.next_element_seed(Kernel(self.0))?.is_some() {}
        Ok(())
    }
}

/// One kernel, of which only the URLs of its headers are kept.
struct Kernel<'a, 'b>(&'a mut Distributions<'b>);

impl<'de> DeserializeSeed<'de> for Kernel<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Kernel<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a kernel")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        self.0.count.one().map_err(A::Error::custom)?;
        while let Some(field) = fields.next_key::<Cow<'de, str>>()? {
            match &*field {
                "headers" => fields.next_value_seed(Headers(self.0))?,
                _ => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// The URLs of the headers, or null: kernels of some distributions have a configuration and no headers.
struct Headers<'a, 'b>(&'a mut Distributions<'b>);

impl<'de> DeserializeSeed<'de> for Headers<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Headers<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of URLs")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut urls: A) -> Result<(), A::Error> {
        let Distributions { offer, count, kept } = self.0;
        let first = offer.packages.len();
        while let Some(url) = urls.next_element::<Cow<'de, str>>()? {
            count.one().map_err(A::Error::custom)?;
            // A list from elsewhere does not name files of this machine.
            if !(url.starts_with("http://") || url.starts_with("https://")) {
                continue;
            }
            // URLs that name no package are kernel sources of some distributions.
            if let Ok(package) = Package::from_location(&url) {
                kept.several(PACKAGE_OVERHEAD + 3 * url.len()).map_err(A::Error::custom)?;
                offer.packages.push(package);
            }
        }
        if let together @ [_, _, ..] = &offer.packages[first..] {
            offer.together.push(together.iter().map(|package| package.name.clone()).collect());
        }
        Ok(())
    }
}

/// The lists of today have some 10 MiB for each machine.
const LIST_LIMIT: u64 = 256 << 20;

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
