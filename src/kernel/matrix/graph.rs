//! OpenShift's update graph: which releases a channel has, and where each one's payload is.
//!
//! Read from the API (`GET …/graph?channel=stable-4.16&arch=amd64`), from a file with such an answer, or from the graph
//! data, a directory or archive with `channels/NAME.yaml` that lists versions without places. Nodes are taken as they come:
//! numbers that are missing in between are no end, and edges, conditions and unknown fields play no part.

use std::io::{self, BufRead};

use serde::Deserialize;

use crate::compression::{LimitedReader, decoder};
use crate::fs;
use crate::tarball;

/// A release of a channel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    /// `4.16.3`.
    pub version: String,
    /// Where its payload is, by digest; unknown where only versions are listed.
    pub payload: Option<String>,
}

/// Why a text is no graph.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no JSON of this shape.
    #[error("not an update graph")]
    Json(#[from] serde_json::Error),
    /// It is no channel file.
    #[error("not a channel of the graph data: {0}")]
    Yaml(String),
    /// The API's own error.
    #[error("the update service says {kind}: {value}")]
    Service {
        /// Its kind.
        kind: String,
        /// What it says.
        value: String,
    },
    /// A later format.
    #[error("an update graph of version {0}; this program reads version 1")]
    Version(u64),
    /// A release that is no version.
    #[error("`{0}` is no version of OpenShift")]
    NoVersion(String),
}

/// Reads an answer of the update service, sorted from the oldest to the newest.
pub fn parse(json: &[u8]) -> Result<Vec<Node>, Error> {
    #[derive(Deserialize)]
    struct Graph {
        #[serde(default)]
        version: Option<u64>,
        nodes: Vec<Release>,
    }
    #[derive(Deserialize)]
    struct Release {
        version: String,
        payload: Option<String>,
    }
    #[derive(Deserialize)]
    struct Refusal {
        kind: String,
        value: String,
    }
    if let Ok(Refusal { kind, value }) = serde_json::from_slice(json) {
        return Err(Error::Service { kind, value });
    }
    let graph: Graph = serde_json::from_slice(json)?;
    if let Some(version) = graph.version.filter(|version| *version != 1) {
        return Err(Error::Version(version));
    }
    let nodes = graph.nodes.into_iter().map(|node| Node { version: node.version, payload: node.payload });
    Ok(sorted(nodes.collect()))
}

/// Reads `channels/NAME.yaml` of the graph data.
pub fn parse_channel(yaml: &str) -> Result<Vec<Node>, Error> {
    #[derive(Deserialize)]
    struct Channel {
        #[serde(default)]
        versions: Vec<String>,
    }
    let channel: Channel = serde_saphyr::from_str(yaml).map_err(|error| Error::Yaml(error.to_string()))?;
    Ok(sorted(channel.versions.into_iter().map(|version| Node { version, payload: None }).collect()))
}

/// Finds `channels/NAME.yaml` in an archive of the graph data, a compressed tar; `None` when it has none.
pub fn channel_of_archive(archive: impl BufRead + Send, channel: &str) -> io::Result<Option<String>> {
    let (_, tar) = decoder(archive)?;
    let name = format!("channels/{channel}.yaml");
    let mut archive = tarball::open(LimitedReader::new(tar, ARCHIVE_LIMIT));
    for entry in archive.entries()? {
        let entry = entry?;
        if entry.path()?.ends_with(&name) {
            let text = String::from_utf8(fs::read_limited(entry, CHANNEL_LIMIT)?);
            return text.map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error));
        }
    }
    Ok(None)
}

/// Reads a list of versions, one a line; what follows a `#` is a comment.
pub fn parse_versions(text: &str) -> Vec<Node> {
    let lines = text.lines().map(|line| line.split(['#', '\t']).next().unwrap_or_default().trim());
    let versions = lines.filter(|line| !line.is_empty() && *line != "version");
    sorted(versions.map(|version| Node { version: version.to_owned(), payload: None }).collect())
}

impl Node {
    /// Refuses what is no version: `4.12.0-rc.0` is one, and what payloads of several machines are called, `4.12.0+multi`.
    pub fn check(&self) -> Result<(), Error> {
        semver::Version::parse(&self.version).map(drop).map_err(|_| Error::NoVersion(self.version.clone()))
    }
}

/// What is no version comes first, for one bad line is no reason to lose the others.
fn sorted(mut nodes: Vec<Node>) -> Vec<Node> {
    nodes.sort_by_cached_key(|node| (semver::Version::parse(&node.version).ok(), node.clone()));
    nodes.dedup_by(|b, a| a.version == b.version);
    nodes
}

const ARCHIVE_LIMIT: u64 = 1 << 30;
/// Today's channels have 10 KiB.
const CHANNEL_LIMIT: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_whatever_else_a_graph_has_and_gaps_are_no_end() {
        let json = br#"{"version": 1, "nodes": [
            {"version": "4.9.10", "payload": "q/r@sha256:b", "metadata": {"x": "y"}, "new": []},
            {"version": "4.9.4", "payload": "q/r@sha256:a"}, {"version": "4.8.57", "payload": "q/r@sha256:c"},
            {"version": "4.9.0-rc.1", "payload": "q/r@sha256:d"}],
            "edges": [[0, 1], [1, 0], [7, 9]], "conditionalEdges": [{"risks": 7}], "unknown": {}}"#;
        let nodes = parse(json).unwrap();
        let versions: Vec<&str> = nodes.iter().map(|node| &*node.version).collect();
        assert_eq!(versions, ["4.8.57", "4.9.0-rc.1", "4.9.4", "4.9.10"]);
        assert_eq!(nodes[3].payload.as_deref(), Some("q/r@sha256:b"));
        let channel =
            parse_channel("feeder:\n  delay: PT0H\nname: stable-4.9\nversions:\n- 4.9.10\n- 4.9.4\n").unwrap();
        assert_eq!(channel, parse_versions("4.9.4 # first\n\n4.9.10\n4.9.4\n"));
    }

    #[test]
    fn what_is_no_graph_is_said() {
        for (text, why) in [
            ("{}", "not an update graph"),
            ("{\"version\": 2, \"nodes\": []}", "an update graph of version 2; this program reads version 1"),
            (
                "{\"kind\": \"missing_params\", \"value\": \"mandatory client parameters missing: channel\"}",
                "the update service says missing_params: mandatory client parameters missing: channel",
            ),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().to_string(), why);
        }
        let nodes = parse(br#"{"nodes": [{"version": "4.9.1", "payload": "x"}, {"version": "four"}]}"#).unwrap();
        assert_eq!(nodes[0].check().unwrap_err().to_string(), "`four` is no version of OpenShift");
        assert!(nodes[1].check().is_ok());
    }
}
