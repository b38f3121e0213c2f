//! What is known of sites on the other side of the gap: the ledger.
//!
//! ```text
//! LEDGER/NAME/lock
//!        NAME/layout/           an OCI layout: blobs of what was packed for the site, without names
//!        NAME/index/            what contents those have, made again when it is lost
//!        NAME/carries/ID.json   what each carry brought, and whether it has arrived
//! ```
//!
//! A blob counts as held once a carry that brought it is confirmed. Nothing here decides what is right on the far side: that
//! looks at what is there, and refuses a carry whose base it lacks. So a ledger that is wrong costs a journey, never an image.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use oci_spec::image::Descriptor;
use serde::{Deserialize, Serialize};

use crate::carry::{self, Base, CarryDocument, Code, Held, Receipt, state_of};
use crate::digest::Digest;
use crate::fs::{self, Lock, PathError};
use crate::image::Layout;
use crate::image::store::layout;

/// A site's part of the ledger, locked for this process.
pub struct Site {
    name: String,
    directory: PathBuf,
    /// Whoever only reads has none.
    _lock: Option<Lock>,
}

/// A carry that was packed for a site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Its id.
    pub carry: String,
    /// When it was packed, RFC 3339.
    pub created: String,
    /// Bytes of its volumes.
    pub carried_bytes: u64,
    /// Its images and what refers to them.
    pub images: Vec<Descriptor>,
    /// What the site holds of them afterwards: a receipt tells it in short.
    pub state: Digest,
    /// That it has arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrived: Option<Arrived>,
    /// All blobs of its images, those too that the site held before.
    pub held: BTreeMap<Digest, Held>,
}

/// How it is known that a carry has arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrived {
    /// When that was said, RFC 3339.
    pub when: String,
    /// By what: `receipt`, `code`.
    pub by: String,
}

/// What was taken out of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Forgotten {
    /// Carries, by their ids.
    pub carries: Vec<String>,
    /// Carries that stay, and are built on what one of them brought: that does not count as held any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub built_on: Vec<String>,
    /// Bytes of blobs that are gone from the ledger.
    pub freed_bytes: u64,
}

/// Why the ledger cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that no directory should have.
    #[error("`{}`: a site's name has letters, digits, `.`, `_` and `-`, and does not begin with `.` or `-`", crate::escape::line(.0))]
    Name(String),
    /// No carry was packed for a site.
    #[error("{site}: nothing was packed for this site")]
    NoSite {
        /// The site.
        site: String,
    },
    /// A carry that is not in the ledger.
    #[error("{site}: no carry {carry} was packed for this site")]
    NoCarry {
        /// The site.
        site: String,
        /// Its id, or a beginning.
        carry: String,
    },
    /// So few digits of an id that they may be any carry's.
    #[error("{site}: {carry}: name at least {SHORTEST} digits of the carry")]
    ShortId {
        /// The site.
        site: String,
        /// What was said.
        carry: String,
    },
    /// A beginning that several carries have.
    #[error("{site}: the ids of several carries begin with {carry}")]
    Ambiguous {
        /// The site.
        site: String,
        /// The beginning.
        carry: String,
    },
    /// A receipt of another state.
    #[error("{carry}: the receipt says that other images are at {site} than were packed for it")]
    State {
        /// The site.
        site: String,
        /// The carry.
        carry: String,
    },
    /// A file of the ledger that does not parse.
    #[error("{}: not a record of the ledger", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A carry or a receipt.
    #[error("{0}")]
    Carry(#[from] carry::Error),
    /// The layout failed.
    #[error("{0}")]
    Layout(#[from] layout::Error),
    /// The file system failed.
    #[error("{0}")]
    Path(#[from] PathError),
}

/// The names of all sites in a ledger, sorted.
pub fn sites(ledger: &Path) -> Result<Vec<String>, Error> {
    let paths = match fs::list(ledger) {
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        paths => paths?,
    };
    let names = paths.iter().filter(|path| path.join(CARRIES).is_dir());
    let names = names.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
    let mut names: Vec<String> = names.filter(|name| directory_of(ledger, name).is_ok()).collect();
    names.sort_unstable();
    Ok(names)
}

impl Site {
    /// Opens a site's part of the ledger, which is made where it is not there.
    pub fn create(ledger: &Path, name: &str) -> Result<Self, Error> {
        let directory = directory_of(ledger, name)?;
        fs::create_dir_all(&directory.join(CARRIES))?;
        Self::locked(directory, name)
    }

    /// Opens a site's part of the ledger.
    pub fn open(ledger: &Path, name: &str) -> Result<Self, Error> {
        let directory = directory_of(ledger, name)?;
        match directory.join(CARRIES).is_dir() {
            true => Self::locked(directory, name),
            false => Err(Error::NoSite { site: name.to_owned() }),
        }
    }

    /// Opens a site's part of the ledger to read what it says, whoever is at work on it: each record is whole.
    pub fn read(ledger: &Path, name: &str) -> Result<Self, Error> {
        let directory = directory_of(ledger, name)?;
        match directory.join(CARRIES).is_dir() {
            true => Ok(Site { name: name.to_owned(), directory, _lock: None }),
            false => Err(Error::NoSite { site: name.to_owned() }),
        }
    }

    fn locked(directory: PathBuf, name: &str) -> Result<Self, Error> {
        let lock = Lock::take(&directory.join("lock"), &directory, "another command is at work for this site")?;
        Ok(Site { name: name.to_owned(), directory, _lock: Some(lock) })
    }

    /// Where a pack for this site may gather images, on the disk on which their blobs stay.
    pub fn staging(&self) -> PathBuf {
        self.directory.join("images")
    }

    /// The blobs of what was packed for it.
    pub fn layout(&self) -> Result<Layout, Error> {
        Ok(Layout::create(&self.directory.join("layout"))?)
    }

    /// What was packed for it, the oldest first.
    pub fn records(&self) -> Result<Vec<Record>, Error> {
        let mut records = Vec::new();
        for path in fs::list(&self.directory.join(CARRIES))? {
            if path.extension().is_some_and(|extension| extension == "json") {
                let bytes = fs::read(&path, LIMIT)?;
                let record: Record =
                    serde_json::from_slice(&bytes).map_err(|source| Error::Record { path: path.clone(), source })?;
                records.push(record);
            }
        }
        records.sort_by(|one, other| (&one.created, &one.carry).cmp(&(&other.created, &other.carry)));
        Ok(records)
    }

    /// What it holds: what arrived, and where that is assumed, all that was packed.
    pub fn held(&self, assume_arrived: bool) -> Result<BTreeMap<Digest, Held>, Error> {
        let mut held = BTreeMap::new();
        for record in self.records()?.into_iter().filter(|record| assume_arrived || record.arrived.is_some()) {
            for (digest, blob) in record.held {
                held.entry(digest).or_insert(blob);
            }
        }
        Ok(held)
    }

    /// The same, with the bytes that this side has of it.
    pub fn base(&self, assume_arrived: bool) -> Result<Base, Error> {
        let records = self.records()?.into_iter().filter(|record| assume_arrived || record.arrived.is_some());
        let named = |image: Descriptor| (image.digest().to_string(), layout::ref_name(&image).map(str::to_owned));
        let images = records.flat_map(|record| record.images).map(named).collect();
        Ok(Base { layout: self.layout()?, index: self.index(), held: self.held(assume_arrived)?, images })
    }

    /// Writes down what was packed, whose blobs are in `layout`. It has not arrived yet, unless that is known already.
    pub fn record(&self, carry: &CarryDocument, layout: &Layout) -> Result<(), Error> {
        let mut held = carry::held_by(layout, &carry.images, &carry.id)?;
        // What is built on is there, but no part of the images that the far side tells of.
        let state = state_of(&held);
        let own = self.layout()?;
        for (digest, blob) in &held {
            own.take_blob(layout, &blob.descriptor(digest))?;
        }
        for need in &carry.needs {
            held.insert(need.digest.clone(), need.held.clone());
        }
        let before = self.records()?.into_iter().find(|record| record.carry == carry.id);
        let record = Record {
            carry: carry.id.clone(),
            created: carry.created.clone(),
            carried_bytes: carry.totals.carried_bytes,
            images: carry.images.clone(),
            state,
            arrived: before.and_then(|record| record.arrived),
            held,
        };
        self.write(&record)
    }

    /// Takes a receipt for the carry's arrival.
    pub fn confirm(&self, receipt: &Receipt, when: &str) -> Result<Record, Error> {
        self.confirmed(|record| record.carry == receipt.carry, &receipt.carry, &receipt.code, "receipt", when)
    }

    /// Takes a receipt's code for the carry's arrival.
    pub fn confirm_code(&self, code: &Code, when: &str) -> Result<Record, Error> {
        self.confirmed(|record| code.is_of(&record.carry), &code.to_string(), code, "code", when)
    }

    fn confirmed(
        &self,
        is_it: impl Fn(&Record) -> bool,
        said: &str,
        code: &Code,
        by: &str,
        when: &str,
    ) -> Result<Record, Error> {
        let Some(mut record) = self.records()?.into_iter().find(|record| is_it(record)) else {
            return Err(Error::NoCarry { site: self.name.clone(), carry: said.to_owned() });
        };
        if Code::of(&record.carry, Some(&self.name), &record.state) != *code {
            return Err(Error::State { site: self.name.clone(), carry: record.carry });
        }
        // The first word counts.
        if record.arrived.is_none() {
            record.arrived = Some(Arrived { when: when.to_owned(), by: by.to_owned() });
            self.write(&record)?;
        }
        Ok(record)
    }

    /// Takes carries out of the ledger, by their ids or beginnings that only one has, and the blobs that no other brought.
    pub fn forget(&self, carries: &[String]) -> Result<Forgotten, Error> {
        let records = self.records()?;
        let mut forgotten = BTreeSet::new();
        for carry in carries {
            if carry.len() < SHORTEST {
                return Err(Error::ShortId { site: self.name.clone(), carry: carry.clone() });
            }
            let mut found = records.iter().filter(|record| record.carry.starts_with(&**carry));
            match (found.next(), found.next()) {
                (Some(record), None) => forgotten.insert(&record.carry),
                (Some(_), Some(_)) => {
                    return Err(Error::Ambiguous { site: self.name.clone(), carry: carry.clone() });
                }
                (None, _) => return Err(Error::NoCarry { site: self.name.clone(), carry: carry.clone() }),
            };
        }
        let (mut kept, mut built_on): (BTreeSet<Digest>, Vec<String>) = Default::default();
        for record in records.iter().filter(|record| !forgotten.contains(&record.carry)) {
            let mut left = record.clone();
            // What only a forgotten carry brought is not there, whoever was built on it.
            left.held.retain(|_, blob| !forgotten.contains(&blob.carry));
            if left.held.len() < record.held.len() {
                self.write(&left)?;
                built_on.push(record.carry.clone());
            }
            kept.extend(left.held.into_keys());
        }
        for carry in &forgotten {
            fs::remove_file(&self.path_of(carry))?;
        }
        let carries = forgotten.into_iter().cloned().collect();
        Ok(Forgotten { carries, built_on, freed_bytes: self.sweep(&kept)? })
    }

    /// Removes all blobs but these, those too that a pack which was killed left. Returns their bytes.
    fn sweep(&self, kept: &BTreeSet<Digest>) -> Result<u64, Error> {
        let layout = self.layout()?;
        let mut freed = 0;
        for path in layout.files()? {
            let Some(digest) = layout.digest_at(&path).filter(|digest| !kept.contains(digest)) else { continue };
            freed += std::fs::symlink_metadata(&path).map_or(0, |found| found.len());
            fs::remove_file(&path)?;
            carry::forget_index(&self.index(), &digest)?;
        }
        Ok(freed)
    }

    fn index(&self) -> PathBuf {
        self.directory.join("index")
    }

    /// Takes the whole site out of the ledger.
    pub fn remove(self) -> Result<(), Error> {
        Ok(fs::remove_dir_all(&self.directory)?)
    }

    fn path_of(&self, carry: &str) -> PathBuf {
        self.directory.join(CARRIES).join(format!("{carry}.json"))
    }

    fn write(&self, record: &Record) -> Result<(), Error> {
        let mut json = serde_json::to_vec_pretty(record).expect("digests are text");
        json.push(b'\n');
        Ok(fs::write(&self.path_of(&record.carry), &json)?)
    }
}

fn directory_of(ledger: &Path, name: &str) -> Result<PathBuf, Error> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    match name.bytes().all(is_plain) && !name.is_empty() && !name.starts_with(['.', '-']) && name.len() <= 100 {
        true => Ok(ledger.join(name)),
        false => Err(Error::Name(name.to_owned())),
    }
}

const CARRIES: &str = "carries";

/// Digits of an id that name a carry, at least.
const SHORTEST: usize = 4;

/// Bytes of a record, at most: 100,000 blobs take 30 MB.
const LIMIT: u64 = 256 << 20;
