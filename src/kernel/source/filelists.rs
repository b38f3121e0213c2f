//! `filelists.xml` of an rpm repository: who has which file.
//!
//! `primary.xml` has only the files that are often required (`/etc`, `*bin/`). All others are in this index, which is ten times as
//! large. It is fetched when somebody needs one of them, and read as a stream of which only the paths that are looked for stay.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};

use quick_xml::events::Event;
use url::Url;

use crate::compression::{LimitedReader, decoder, read_ahead};
use crate::http::Http;
use crate::kernel::package::{Format, Name};
use crate::kernel::source::Error;
use crate::kernel::source::cache::Cache;
use crate::kernel::source::rpm_md::{Index, join};
use crate::kernel::source::transfer::{self, Expected};
use crate::kernel::source::xml::{Xml, XmlError, append, append_reference, attribute};
use crate::limits::{self, Count};

/// Where a repository's list of files is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileList {
    url: Url,
    expected: Expected,
}

impl FileList {
    pub(super) fn new(base: &Url, index: Index) -> Result<Self, Error> {
        Ok(FileList { url: join(base, &index.href)?, expected: index.expected })
    }

    /// Its address.
    pub fn place(&self) -> &str {
        self.url.as_str()
    }

    /// Fetches it, and finds the packages that have any of these files, each with its path.
    pub async fn owners(
        &self,
        http: &Http,
        paths: &BTreeSet<String>,
        cache: Option<&Cache>,
    ) -> Result<Vec<(Name, String)>, Error> {
        let file = transfer::large(http, &self.url, &self.expected, cache).await?;
        let paths = paths.clone();
        let found = tokio::task::spawn_blocking(move || {
            let (_, reader) = decoder(BufReader::with_capacity(256 << 10, file))?;
            read_ahead(LimitedReader::new(reader, LIMIT), |xml| parse(xml, &paths))
        });
        let found = found.await.expect("reading an index does not panic");
        found.map_err(|source| Error::Xml { url: Box::new(self.url.clone()), source })
    }
}

/// Reads `filelists.xml`.
pub(crate) fn parse(reader: impl BufRead, paths: &BTreeSet<String>) -> Result<Vec<(Name, String)>, XmlError> {
    let mut reader = Xml::new(reader);
    let (mut buffer, mut text) = (Vec::new(), String::new());
    let (mut count, mut kept) = (Count::new("packages", limits::PACKAGES), limits::kept());
    let mut found = Vec::new();
    let mut is_root_seen = false;
    let mut package = (String::new(), String::new(), String::new());
    loop {
        match reader.next(&mut buffer)? {
            Event::DocType(_) => return Err(XmlError::Content("it has a document type")),
            Event::Start(tag) | Event::Empty(tag) => {
                text.clear();
                let of = |name| Ok::<_, XmlError>(attribute(&tag, name)?.unwrap_or_default());
                match tag.local_name().as_ref() {
                    "filelists" => is_root_seen = true,
                    "package" => {
                        count.one()?;
                        package = (of("name")?, String::new(), of("arch")?);
                    }
                    "version" => package.1 = format!("{}-{}", of("ver")?, of("rel")?),
                    _ => {}
                }
            }
            Event::Text(part) => append(&mut text, &part)?,
            Event::GeneralRef(reference) => append_reference(&mut text, &reference)?,
            Event::End(tag) if tag.local_name().as_ref() == "file" && paths.contains(&text) => {
                let (name, version, architecture) = package.clone();
                kept.several(limits::PACKAGE_OVERHEAD + name.len() + text.len())?;
                found.push((Name { name, version, architecture, format: Format::Rpm }, std::mem::take(&mut text)));
            }
            Event::Eof if !is_root_seen => return Err(XmlError::Content("it is no filelists.xml")),
            Event::Eof => return Ok(found),
            _ => {}
        }
        buffer.clear();
    }
}

/// Ten times what the largest distribution has.
const LIMIT: u64 = 16 << 30;
