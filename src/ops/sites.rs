//! What sites hold, and which carries have arrived there: what `haversack site` does.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::carry::{Code, Held, Receipt};
use crate::digest::Digest;
use crate::escape::in_line;
use crate::image::store::layout::Entries;
use crate::ops::Error;
use crate::plural::count;
use crate::progress::{Unit, amount};
use crate::site::{self, Record, Site, sites};

/// What `site show` says of a carry.
#[derive(Debug, Serialize)]
pub struct Shown {
    /// The site.
    pub site: String,
    /// The carry's id.
    pub carry: String,
    /// When it was packed.
    pub created: String,
    /// Images in it.
    pub images: usize,
    /// What refers to them, such as signatures.
    pub referrers: usize,
    /// Bytes that travelled.
    pub carried_bytes: u64,
    /// When its arrival was confirmed.
    pub arrived: Option<String>,
    /// By what.
    pub confirmed_by: Option<String>,
}

impl Shown {
    fn of(site: &str, record: &Record) -> Self {
        let Entries { images, referrers } = Entries::of(&record.images);
        Shown {
            site: site.to_owned(),
            carry: record.carry.clone(),
            created: record.created.clone(),
            images,
            referrers,
            carried_bytes: record.carried_bytes,
            arrived: record.arrived.as_ref().map(|arrived| arrived.when.clone()),
            confirmed_by: record.arrived.as_ref().map(|arrived| arrived.by.clone()),
        }
    }

    fn to_text(&self) -> String {
        let arrived = match (&self.arrived, &self.confirmed_by) {
            (Some(when), Some(by)) => format!("arrived, by {} of {}", in_line(by), in_line(when)),
            _ => "not confirmed".to_owned(),
        };
        format!(
            "{}  {}  {}  {}  {}  {arrived}\n",
            in_line(&self.site),
            in_line(&self.carry),
            in_line(&self.created),
            Entries { images: self.images, referrers: self.referrers },
            amount(self.carried_bytes, Unit::Bytes)
        )
    }
}

/// Carries, a line each.
pub fn to_text(shown: &[Shown]) -> String {
    shown.iter().map(Shown::to_text).collect()
}

/// Takes receipts for a site: codes, or files.
pub fn confirm(ledger: &Path, name: &str, receipts: &[String], now: &str) -> Result<Vec<Shown>, Error> {
    let site = Site::open(ledger, name)?;
    let mut confirmed = Vec::new();
    for text in receipts {
        let path = Path::new(text);
        let record = match text.parse::<Code>() {
            Ok(code) => site.confirm_code(&code, now)?,
            Err(_) if path.exists() => {
                let receipt = Receipt::read(path)?;
                if let Some(other) = receipt.site.as_ref().filter(|site| *site != name) {
                    let (other, site) = (other.clone(), name.to_owned());
                    return Err(Error::ReceiptOfOther { receipt: text.clone(), other, site });
                }
                site.confirm(&receipt, now)?
            }
            Err(bad) => return Err(Error::NoReceipt { text: text.clone(), bad }),
        };
        confirmed.push(Shown::of(name, &record));
    }
    Ok(confirmed)
}

/// The carries that were packed for a site, or for all.
pub fn show(ledger: &Path, name: Option<&str>) -> Result<Vec<Shown>, Error> {
    let names = match name {
        Some(name) => vec![name.to_owned()],
        None => sites(ledger)?,
    };
    let mut shown = Vec::new();
    for name in names {
        shown.extend(Site::read(ledger, &name)?.records()?.iter().map(|record| Shown::of(&name, record)));
    }
    Ok(shown)
}

/// The blobs that a site holds, a line each.
pub fn inventory_text(held: &BTreeMap<Digest, Held>) -> String {
    let line = |(digest, held): (&Digest, &Held)| {
        format!("{digest} {} {}\n", held.size, in_line(held.image.as_deref().unwrap_or("-")))
    };
    held.iter().map(line).collect()
}

/// Says which carries of a site an inventory does not count, since nobody knows whether they arrived.
pub fn not_counted(site: &str, records: &[Record]) -> Option<String> {
    let open = records.iter().filter(|record| record.arrived.is_none()).count();
    let (site, carries) = (in_line(site), count(open, "carry"));
    let they = if open == 1 { "it" } else { "them" };
    (open > 0).then(|| {
        format!(
            "{site}: {carries} not confirmed, and not counted: confirm {they} with `haversack site confirm {site} CODE`, where CODE is \
             what `unpack` said at the site, or count {they} with `--assume-arrived`"
        )
    })
}

/// What a ledger has forgotten.
#[derive(Debug, Serialize)]
pub struct Forgotten {
    /// The site.
    pub site: String,
    /// What of it.
    #[serde(flatten)]
    pub forgotten: site::Forgotten,
}

/// Forgets carries, by their ids or at least four digits of them; without any, the whole site.
pub fn forget(ledger: &Path, name: &str, carries: Option<&[String]>) -> Result<Forgotten, Error> {
    let site = Site::open(ledger, name)?;
    let ids: Vec<String> = match carries {
        None => site.records()?.into_iter().map(|record| record.carry).collect(),
        Some(carries) => carries.to_vec(),
    };
    let forgotten = Forgotten { site: name.to_owned(), forgotten: site.forget(&ids)? };
    if carries.is_none() {
        site.remove()?;
    }
    Ok(forgotten)
}

impl Forgotten {
    /// What is forgotten, and what was built on it.
    pub fn to_text(&self) -> String {
        let (site, site::Forgotten { carries, built_on, freed_bytes }) = (in_line(&self.site), &self.forgotten);
        let named = |carry: &String| format!("{site}: carry {} forgotten\n", in_line(carry));
        let mut text: String = carries.iter().map(named).collect();
        for carry in built_on {
            text += &format!(
                "  carry {} stays, and is built on it: it can be unpacked only where that was unpacked before\n",
                in_line(carry)
            );
        }
        text + &format!("{site}: {} are free\n", amount(*freed_bytes, Unit::Bytes))
    }
}
