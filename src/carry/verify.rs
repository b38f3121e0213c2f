//! Is a carry what was packed?

use std::path::Path;

use serde::Serialize;

use crate::carry::document::{CarryDocument, PROGRAM, VolumeFile};
use crate::carry::sign::PublicKey;
use crate::carry::volume::Volume;
use crate::carry::{Error, parity};
use crate::digest::{Algorithm, Digest};
use crate::escape::in_line;
use crate::fs::{self, PathContext};
use crate::progress::{Progress, Unit};

/// What was found of a carry.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VerifyReport {
    /// The carry.
    pub carry: String,
    /// Whether it was asked who signed it, and it was the key that was given.
    pub signature_checked: bool,
    /// Volumes, in order, then parity volumes.
    pub volumes: Vec<Checked>,
    /// How many of them, at the end, are parity volumes.
    pub parity: usize,
    /// The program that was packed with them, or lies beside them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<Checked>,
    /// Bytes that were read.
    pub bytes: u64,
}

/// A volume or the program, read from its beginning to its end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Checked {
    /// Its name.
    pub file: String,
    /// What was found.
    pub state: State,
    /// Ranges of bytes that are not what was written, first and last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<(u64, u64)>,
}

impl Checked {
    /// What is wrong with it, in words, with its name and its damaged bytes; `None` where nothing is.
    pub fn finding(&self) -> Option<String> {
        if self.state == State::Good {
            return None;
        }
        let ranges: Vec<String> = self.damaged.iter().map(|(from, to)| format!("{from}-{to}")).collect();
        let ranges = if ranges.is_empty() { String::new() } else { format!("; bytes {}", ranges.join(", ")) };
        Some(format!("{} {}{ranges}", in_line(&self.file), self.state.words()))
    }
}

impl State {
    /// What it is, behind the name of a volume.
    pub fn words(&self) -> String {
        match self {
            State::Good => "is as it was packed".to_owned(),
            State::Missing => "is not here".to_owned(),
            State::Foreign => "is another volume, or one of another carry".to_owned(),
            State::Size(size) => format!("has {size} bytes, which is another number than it was packed with"),
            State::Damaged => "is damaged".to_owned(),
            State::Unknown => "was not compared: the carry does not say which program was packed with it".to_owned(),
        }
    }
}

/// What a volume is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Every byte is as it was packed.
    Good,
    /// It is not there.
    Missing,
    /// It is another volume, or one of another carry.
    Foreign,
    /// It ends early or is too long, in bytes found.
    Size(u64),
    /// Some bytes are others.
    Damaged,
    /// What it was when it was packed is not written, as in carries of early releases. Only the program can be that.
    Unknown,
}

impl VerifyReport {
    /// Whether all of it is there and as it was packed.
    pub fn is_good(&self) -> bool {
        self.findings().next().is_none()
    }

    /// What is wrong with it, in words. Nothing is where a program is not there, which nobody needs and only one medium has, or is one
    /// that cannot be compared.
    pub fn findings(&self) -> impl Iterator<Item = String> {
        self.volumes.iter().chain(self.wrong_program()).filter_map(Checked::finding)
    }

    fn wrong_program(&self) -> Option<&Checked> {
        self.program.as_ref().filter(|program| !matches!(program.state, State::Good | State::Missing | State::Unknown))
    }

    /// What makes the carry whole again, in words; `None` where nothing is wrong with it.
    pub fn next_step(&self, directory: &Path) -> Option<String> {
        let bad = |volumes: &[Checked]| -> Vec<String> {
            volumes.iter().filter(|it| it.state != State::Good).map(|it| in_line(&it.file)).collect()
        };
        let (volumes, parity) = self.volumes.split_at(self.volumes.len() - self.parity);
        match (bad(volumes), bad(parity)) {
            (volumes, parity) if volumes.is_empty() && parity.is_empty() => {
                let program = self.wrong_program()?;
                Some(format!("the images are all here; do not run {}: take it from elsewhere", in_line(&program.file)))
            }
            (volumes, parity) if volumes.is_empty() => {
                Some(format!("the images are all here; against further damage, bring again: {}", parity.join(", ")))
            }
            (volumes, parity) if parity.len() < self.parity => Some(format!(
                "`haversack verify --repair {}` makes volumes again from parity; or bring again: {}",
                in_line(directory.display()),
                volumes.join(", ")
            )),
            (volumes, _) => Some(format!("bring again: {}", volumes.join(", "))),
        }
    }
}

/// Reads every volume of a carry and compares it with what `carry.json` says; with a key, only if that signed it.
pub fn verify(directory: &Path, key: Option<&PublicKey>, progress: &Progress) -> Result<VerifyReport, Error> {
    let carry = CarryDocument::read(directory, key)?;
    let total = carry.volumes.iter().chain(&carry.parity).map(|volume| volume.size).fold(0, u64::saturating_add);
    let task = progress.task("reading", Unit::Bytes, Some(total));
    let mut report = VerifyReport {
        carry: carry.id.clone(),
        signature_checked: key.is_some(),
        volumes: Vec::new(),
        parity: carry.parity.len(),
        program: None,
        bytes: 0,
    };
    for (number, file) in (1..).zip(&carry.volumes) {
        let path = directory.join(&file.file);
        let checked = check(&carry, number, file, &path)?;
        if checked.state != State::Missing {
            report.bytes += file.size;
        }
        task.add(file.size);
        report.volumes.push(checked);
    }
    for file in &carry.parity {
        let path = directory.join(&file.file);
        let checked = check_parity(&carry, file, &path)?;
        if checked.state != State::Missing {
            report.bytes += file.size;
        }
        task.add(file.size);
        report.volumes.push(checked);
    }
    report.program = check_program(&carry, directory)?;
    Ok(report)
}

fn check_program(carry: &CarryDocument, directory: &Path) -> Result<Option<Checked>, Error> {
    let file = carry.program.as_ref().map_or(PROGRAM, |program| &program.file);
    let path = directory.join(file);
    let is_there = path.symlink_metadata().is_ok();
    let state = match &carry.program {
        None if !is_there => return Ok(None),
        None => State::Unknown,
        Some(_) if !is_there => State::Missing,
        Some(packed) => match Digest::of_reader(fs::open_regular(&path)?, Algorithm::Sha256).at("read", &path)? {
            (digest, _) if digest == packed.digest => State::Good,
            (_, size) if size != packed.size => State::Size(size),
            _ => State::Damaged,
        },
    };
    Ok(Some(Checked { file: file.to_owned(), state, damaged: Vec::new() }))
}

fn check_parity(carry: &CarryDocument, file: &VolumeFile, path: &Path) -> Result<Checked, Error> {
    let state = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => State::Missing,
        _ => {
            let opened = fs::open_regular(path)?;
            let (digest, size) = Digest::of_reader(&opened, Algorithm::Sha256).at("read", path)?;
            match parity::carry_of(&opened) {
                _ if size == file.size && digest == file.digest => State::Good,
                Some(other) if other != carry.id => State::Foreign,
                _ if size != file.size => State::Size(size),
                _ => State::Damaged,
            }
        }
    };
    Ok(Checked { file: file.file.clone(), state, damaged: Vec::new() })
}

fn check(carry: &CarryDocument, number: u32, file: &VolumeFile, path: &Path) -> Result<Checked, Error> {
    let checked = |state, damaged| Ok(Checked { file: file.file.clone(), state, damaged });
    if std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return checked(State::Missing, Vec::new());
    }
    let (digest, size) = Digest::of_reader(fs::open_regular(path)?, Algorithm::Sha256).at("read", path)?;
    if size == file.size && digest == file.digest {
        return checked(State::Good, Vec::new());
    }
    let Ok(volume) = Volume::open(path) else { return checked(State::Damaged, vec![(0, size.saturating_sub(1))]) };
    if volume.listing.carry() != carry.id || volume.listing.number != number {
        return checked(State::Foreign, Vec::new());
    }
    let damaged = volume.damaged().unwrap_or_default();
    let damaged = damaged.into_iter().map(|(from, to)| (from, to - 1)).collect();
    checked(if size == file.size { State::Damaged } else { State::Size(size) }, damaged)
}
