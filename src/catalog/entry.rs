//! The nouns of the catalog: bundles, images, charts, and the instants they carry. No I/O.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a snapshot holds, and what a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Operator bundles.
    Operator,
    /// Container images.
    Container,
    /// Helm charts.
    Chart,
}

impl Kind {
    /// All kinds, in the order in which they are fetched and shown.
    pub const ALL: [Kind; 3] = [Kind::Operator, Kind::Container, Kind::Chart];

    /// The name of many of them.
    pub fn plural(self) -> &'static str {
        match self {
            Kind::Operator => "operators",
            Kind::Container => "containers",
            Kind::Chart => "charts",
        }
    }
}

impl FromStr for Kind {
    type Err = &'static str;

    /// Reads what people call one or many of them.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "operator" | "operators" => Ok(Kind::Operator),
            "container" | "containers" | "image" | "images" => Ok(Kind::Container),
            "chart" | "charts" | "helm" => Ok(Kind::Chart),
            _ => Err("expected operators, containers or charts"),
        }
    }
}

/// An operator bundle: one version of an operator, in one channel, for one OpenShift version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bundle {
    /// The catalog's `_id`; empty in what was imported from a tree that has none.
    pub id: String,
    /// `NAME.VERSION` of the cluster service version; some have no dot.
    pub csv_name: String,
    /// `MAJOR.MINOR` of OpenShift.
    pub ocp_version: String,
    /// The update channel.
    pub channel: String,
    /// The package that the channel belongs to.
    pub package: String,
    /// `certified-operators`, `redhat-operators` …
    pub organization: String,
    /// When the row was made.
    pub created: Instant,
    /// When the row last changed.
    pub updated: Instant,
}

/// A container image for one architecture.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Image {
    /// The catalog's `_id`; empty in what was imported from a tree that has none.
    pub id: String,
    /// The platform's name as Go writes it: `amd64`, `arm64` …
    pub architecture: String,
    /// Every digest by which a node may know the image; the first is the `image_id` where there is one.
    pub digests: Vec<String>,
    /// Where it lies.
    pub repositories: Vec<Repository>,
    /// When the row was made.
    pub created: Instant,
    /// When the row last changed.
    pub updated: Instant,
}

/// A repository with the tags that one image has in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Repository {
    /// Host name, `registry.redhat.io` always as `registry.access.redhat.com` (see [`stored_registry`]).
    pub registry: String,
    /// Name below it.
    pub repository: String,
    /// Tags, without those that were removed.
    pub tags: Vec<String>,
}

/// A version of a Helm chart.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Chart {
    /// The key in the index, `PROVIDER-CHART`; consumers do not look at it.
    pub key: String,
    /// The chart's name.
    pub name: String,
    /// Its version as written, which need not be semantic.
    pub version: String,
    /// The constraint on the cluster's version; empty for none.
    pub kube_version: String,
    /// `partner`, `redhat`, `community`; empty where the index says nothing.
    pub provider_type: String,
    /// Whether it stands in the list of certified charts that partners distribute themselves.
    pub unpublished: bool,
    /// Digest of the packaged chart, as written.
    pub digest: String,
    /// Where the packaged chart can be had.
    pub urls: Vec<String>,
}

/// The provider type of charts that nobody certified.
pub const COMMUNITY: &str = "community";

/// An instant with microseconds, as the catalog's dates have them; the default, 1970, stands for "not known".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(i64);

impl Instant {
    /// The first instant after 1970, and the first that is known.
    pub const FIRST: Instant = Instant(1);

    /// The instant this many microseconds after 1970.
    pub fn from_micros(micros: i64) -> Self {
        Instant(micros)
    }

    /// Microseconds after 1970.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// The system's clock.
    pub fn now() -> Self {
        jiff::Timestamp::now().into()
    }

    /// The instant this many seconds later, or earlier when negative.
    pub fn plus_seconds(self, seconds: i64) -> Self {
        Instant(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }

    /// Whether it says anything.
    pub fn is_known(self) -> bool {
        self.0 != 0
    }
}

impl From<jiff::Timestamp> for Instant {
    fn from(timestamp: jiff::Timestamp) -> Self {
        Instant(timestamp.as_microsecond())
    }
}

impl From<Instant> for jiff::Timestamp {
    fn from(instant: Instant) -> Self {
        jiff::Timestamp::from_microsecond(instant.0).unwrap_or_default()
    }
}

impl FromStr for Instant {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        text.parse::<jiff::Timestamp>().map(Self::from)
    }
}

/// As the catalog writes it: `2022-10-24T10:43:13.807000+00:00`. In this form texts sort as instants do.
impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = jiff::tz::Offset::UTC.to_datetime(jiff::Timestamp::from(*self));
        // Digit by digit: a tree has a hundred thousand of them, and a general formatter took a tenth of writing it.
        let mut text = *b"0000-00-00T00:00:00.000000+00:00";
        let mut put = |digits: Range<usize>, number: i32| {
            let mut rest = number.unsigned_abs();
            for digit in text[digits].iter_mut().rev() {
                *digit = b'0' + u8::try_from(rest % 10).expect("a digit");
                rest /= 10;
            }
        };
        put(0..4, time.year().into());
        put(5..7, time.month().into());
        put(8..10, time.day().into());
        put(11..13, time.hour().into());
        put(14..16, time.minute().into());
        put(17..19, time.second().into());
        put(20..26, time.subsec_nanosecond() / 1000);
        if time.year() < 0 {
            f.write_str("-")?;
        }
        f.write_str(std::str::from_utf8(&text).expect("digits are ASCII"))
    }
}

/// What is not known is `null`.
impl Serialize for Instant {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_known() { serializer.collect_str(self) } else { serializer.serialize_none() }
    }
}

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map_or(Ok(Instant::default()), |text| text.parse().map_err(serde::de::Error::custom))
    }
}

/// Splits a CSV name as certsuite does: the text before the first dot, and the second piece of the whole split at
/// `NAME.`, which is the rest unless `NAME.` occurs in it again (facts: `foo.v1.foo.2` is `foo`, `v1.`).
///
/// Without a dot the whole is the name and the version is empty.
pub fn split_csv_name(csv_name: &str) -> (&str, &str) {
    let Some((name, _)) = csv_name.split_once('.') else { return (csv_name, "") };
    let separator = &csv_name[..=name.len()];
    (name, csv_name.split(separator).nth(1).unwrap_or_default())
}

/// The name under which the catalog stores a registry: `registry.redhat.io` and `registry.access.redhat.com` are one.
pub fn stored_registry(registry: &str) -> &str {
    match registry {
        "registry.redhat.io" => "registry.access.redhat.com",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_names_are_split_as_certsuite_splits_them() {
        for (csv_name, split) in [
            ("ibm-spectrum-scale-csi-operator.v2.0.0", ("ibm-spectrum-scale-csi-operator", "v2.0.0")),
            ("foo.v1.foo.2", ("foo", "v1.")),
            ("r.ver.1", ("r", "ve")),
            (".v1.0", ("", "v1")),
            ("foo.", ("foo", "")),
            ("a.b.c.d", ("a", "b.c.d")),
            ("anzo-operator", ("anzo-operator", "")),
            ("anzo-operator.", ("anzo-operator", "")),
        ] {
            assert_eq!(split_csv_name(csv_name), split, "{csv_name}");
        }
    }

    #[test]
    fn instants_round_trip_in_the_catalogs_form() {
        let text = "2022-10-24T10:43:13.807000+00:00";
        assert_eq!(text.parse::<Instant>().unwrap().to_string(), text);
        assert_eq!("2026-05-20T10:11:12Z".parse::<Instant>().unwrap().to_string(), "2026-05-20T10:11:12.000000+00:00");
        assert!("yesterday".parse::<Instant>().is_err());
        let json = |instant: Instant| serde_json::to_string(&instant).unwrap();
        for (instant, shown) in [(Instant::default(), "null"), (Instant::FIRST, "\"1970-01-01T00:00:00.000001+00:00\"")]
        {
            assert_eq!(json(instant), shown);
            assert_eq!(serde_json::from_str::<Instant>(shown).unwrap(), instant);
        }
    }
}
