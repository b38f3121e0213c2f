//! Making a carry of a layout.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};

use oci_spec::image::Descriptor;
use rayon::prelude::*;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::carry::apart::{Job, Taken, TakenForm};
use crate::carry::base::{Base, Need};
use crate::carry::contents::Contents;
use crate::carry::delta::Chosen;
use crate::carry::document::{CARRY, CarryDocument, FIRST_FORMAT, FORMAT, LIMIT, Made, PROGRAM, Totals, VolumeFile};
use crate::carry::entries::Entries;
use crate::carry::frame::Group;
use crate::carry::maker;
use crate::carry::order::Ordered;
use crate::carry::parts::Parts;
use crate::carry::readme::{self, Known};
use crate::carry::sign::PrivateKey;
use crate::carry::skeleton::Skeleton;
use crate::carry::table::{self, BaseLayer, Blob, Form, Prefix, Table};
use crate::carry::{Error, frame, parity, volume};
use crate::compression::encode::Budget;
use crate::digest::{self, Digest};
use crate::fs::{self, AtomicDir, Lock, Slice, Spool};
use crate::image::store::layout::{self, Layout};
use crate::progress::{Progress, Unit};

/// How a carry is made.
#[derive(Clone, Debug)]
pub struct PackOptions {
    /// zstd's level, 1 to 19.
    pub level: i32,
    /// Whether the carry goes away as soon as it is known what it would be.
    pub plan: bool,
    /// Parity volumes: as many lost volumes, or damaged blocks at one place, can be made again.
    pub parity: u32,
    /// Bytes of a volume, at most; `None` for one volume of any size.
    pub volume_size: Option<u64>,
    /// The site that it is for.
    pub site: Option<String>,
    /// What the site holds: that does not travel.
    pub base: Option<Base>,
    /// When it was made, RFC 3339.
    pub created: String,
    /// The program that unpacks it, to be carried along.
    pub program: Option<PathBuf>,
    /// Who signs it.
    pub key: Option<PrivateKey>,
    /// What finding the encoder of a blob may cost.
    pub budget: Budget,
}

impl Default for PackOptions {
    fn default() -> Self {
        PackOptions {
            level: 9,
            plan: false,
            parity: 0,
            volume_size: None,
            site: None,
            base: None,
            created: "1970-01-01T00:00:00Z".to_owned(),
            program: None,
            key: None,
            budget: Budget::default(),
        }
    }
}

/// What was packed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PackReport {
    /// Where it is.
    pub directory: PathBuf,
    /// What its document says.
    #[serde(flatten)]
    pub carry: CarryDocument,
    /// Blobs that travel as they are although they are compressed, with the reason.
    pub whole: Vec<Whole>,
    /// Blobs that the images name and that are not in the layout: those that may not be distributed.
    pub left_out: Vec<Digest>,
    /// Whether the site holds all of these images under the same names, so that the carry brings it nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub nothing_new: bool,
    /// Bytes of the program that is carried along, which no total counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program_bytes: Option<u64>,
}

/// A blob that travels as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Whole {
    /// Which.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Why.
    pub reason: String,
}

/// Packs everything that a layout lists into a new directory, which appears when it is whole and [`Packed::finish`] is called.
///
/// Every blob that is taken apart was put together again before it counts: what was not rebuilt travels as it is.
/// Needs room for all distinct contents, uncompressed, beside the directory; holds some 300 MB.
pub fn pack(layout: &Layout, directory: &Path, options: &PackOptions, progress: &Progress) -> Result<Packed, Error> {
    let lock = Lock::take(&beside(directory, "lock"), directory, "another pack is at work on it")?;
    if std::fs::symlink_metadata(directory).is_ok() {
        return Err(Error::Exists(directory.to_owned()));
    }
    let program = options.program.as_deref();
    let program_size = program.map(|path| Ok::<_, Error>(fs::open_regular(path)?.metadata()?.len())).transpose()?;
    let most = options.volume_size.unwrap_or(u64::MAX);
    if let Some(program) = program_size.filter(|size| *size > most) {
        return Err(Error::ProgramTooLarge { program, most });
    }
    let images = layout.index()?.manifests().clone();
    let out = AtomicDir::create(directory)?;
    let scratch = AtomicDir::create(&beside(directory, "work"))?;
    let Parts { mut blobs, documents, left_out } = Parts::of(layout, &images)?;
    let mut needs = match &options.base {
        Some(base) => held_back(base, &mut blobs)?,
        None => Vec::new(),
    };
    let nothing_new = blobs.is_empty() && options.base.as_ref().is_some_and(|base| base.lists(&images));
    let total = blobs.iter().chain(&documents).map(Descriptor::size).fold(0, u64::saturating_add);
    let task = progress.task("taking apart", Unit::Bytes, Some(total));
    let job = Job { layout, contents: Contents::new(scratch.path()), budget: options.budget, task };
    let threads = maker::threads()?;
    let mut taken: Vec<Taken> =
        threads.install(|| blobs.par_iter().map(|blob| job.take_apart(blob)).collect::<Result<_, Error>>())?;
    taken.extend(documents.iter().map(|document| job.take_apart(document)).collect::<Result<Vec<_>, Error>>()?);
    let Job { contents, task, .. } = job;
    drop(task);

    let spool = contents.spool().clone();
    let entries = contents.finish()?;
    let roots = roots(&taken, entries.len())?;
    let mut chosen = Chosen::default();
    if let Some(base) = &options.base {
        let task = progress.task("looking at what the site holds", Unit::Items, Some(base.held.len() as u64));
        threads.install(|| {
            chosen = Chosen::of(base, &entries, &roots, &task)?;
            chosen.take(base, &spool)
        })?;
    }
    let mut made_by: BTreeMap<String, Made> = BTreeMap::new();
    let mut whole = Vec::new();
    for taken in &mut taken {
        let made = made_by.entry(std::mem::take(&mut taken.made)).or_default();
        (made.blobs, made.bytes) = (made.blobs + 1, made.bytes + taken.size);
        let (digest, size) = (taken.digest.clone(), taken.size);
        whole.extend(taken.reason.take().map(|reason| Whole { digest, size, reason }));
    }
    let group = FRAME.min(most / 3).max(1);
    let Laid { mut table, stored, groups } = lay(taken, &entries, &roots, &chosen, &spool, group)?;
    let held_bytes = chosen.bytes(&entries);
    drop((entries, roots));
    // A layer that is built on has to be there, whether or not an image of this carry has it.
    if let Some(base) = &options.base {
        for layer in &table.bases {
            if needs.iter().all(|need| need.digest != layer.digest) {
                needs.push(Need { digest: layer.digest.clone(), held: base.held[&layer.digest].clone() });
            }
        }
        needs.sort_by(|one, other| one.digest.cmp(&other.digest));
    }
    let mut writer = spool.writer()?;
    table.frames = groups.iter().map(|group| group.range.len() as u64).collect();
    let bytes = table.to_bytes();
    if bytes.len() as u64 > table::MOST {
        return Err(Error::TooMany("contents and blobs"));
    }
    let table_slice = writer.keep(&bytes)?;
    drop(writer);
    let content_bytes: u64 = table.lengths.iter().sum();
    let task = progress.task("compressing", Unit::Bytes, Some(content_bytes + table_slice.size()));
    let alone = [Group::alone(0..1)];
    let mut frames = frame::compress(std::slice::from_ref(&table_slice), &alone, options.level, &spool, &task)?;
    frames.extend(frame::compress(&stored, &groups, options.level, &spool, &task)?);
    drop((task, groups, chosen));

    let id = id_of(&frames, &images);
    // The document and the words for a person lie on every medium.
    let json = |value: serde_json::Result<Vec<u8>>| value.map_or(0, |json| 2 * json.len() as u64);
    let beside_volume = (2 << 20) + json(serde_json::to_vec(&images)) + json(serde_json::to_vec(&needs));
    let room = most.saturating_sub(if options.volume_size.is_some() { beside_volume } else { 0 });
    let first = program_size.unwrap_or(0);
    let mut spread = volume::spread(&frames, room, first)?;
    if options.parity > 0 && options.volume_size.is_some() {
        // A parity volume is as long as the longest, and has a medium, too.
        let more = parity::overhead(2 * spread.len(), options.parity, room);
        spread = volume::spread(&frames, room.saturating_sub(more), first)?;
    }
    let volumes = u32::try_from(spread.len()).map_err(|_| Error::TooMany("volumes"))?;
    let mut files = Vec::new();
    for (number, here) in (1..).zip(&spread) {
        let file = format!("volume-{number:03}.zst");
        let (size, digest) = volume::write(&out.path().join(&file), (id, number, volumes), &frames, here)?;
        files.push(VolumeFile { file, size, digest });
    }
    let parity = match options.parity {
        0 => Vec::new(),
        parity => {
            let total = files.iter().map(|file| file.size).sum();
            let task = progress.task("computing parity", Unit::Bytes, Some(total));
            let written = parity::write(out.path(), id, &files, parity, &task)?;
            if let Some(large) = written.iter().map(|file| file.size).find(|size| *size > most) {
                return Err(Error::TooSmall { most, needed: large });
            }
            written
        }
    };
    let carried = program.map(|program| carried_program(program, out.path())).transpose()?;
    let carry = CarryDocument {
        format: if needs.is_empty() { FIRST_FORMAT } else { FORMAT },
        id: digest::hex(&id),
        created: options.created.clone(),
        haversack: env!("CARGO_PKG_VERSION").to_owned(),
        site: options.site.clone(),
        needs,
        images,
        totals: Totals {
            blobs: table.blobs.len() as u64,
            blob_bytes: table.blobs.iter().map(|blob| blob.size).sum(),
            contents: table.lengths.len() as u64 + table.held(),
            content_bytes,
            held_bytes,
            carried_bytes: files.iter().map(|file| file.size).sum(),
        },
        volumes: files,
        parity,
        program: carried,
        made_by,
    };
    let known = Known { is_signed: options.key.is_some(), nothing_new };
    let words = readme::text(&carry, known);
    fs::write(&out.path().join("README.txt"), words.as_bytes())?;
    let document = carry.to_bytes();
    if document.len() as u64 > LIMIT {
        return Err(Error::TooMany("images and blobs that are needed"));
    }
    if let Some(key) = &options.key {
        key.sign(out.path(), &document)?;
    }
    fs::write(&out.path().join(CARRY), &document)?;
    drop((frames, stored, spool));
    Ok(Packed {
        report: PackReport {
            directory: directory.to_owned(),
            carry,
            whole,
            left_out,
            nothing_new,
            program_bytes: program_size,
        },
        out,
        _lock: lock,
    })
}

/// Puts the program beside the volumes.
fn carried_program(program: &Path, out: &Path) -> Result<VolumeFile, Error> {
    let to = out.join(PROGRAM);
    fs::copy(program, &to)?;
    std::fs::set_permissions(&to, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let (digest, size) = Digest::of_file(&to)?;
    Ok(VolumeFile { file: PROGRAM.to_owned(), size, digest })
}

/// A carry that is written and has not its name yet.
pub struct Packed {
    report: PackReport,
    out: AtomicDir,
    _lock: Lock,
}

impl Packed {
    /// What `carry.json` says.
    pub fn carry(&self) -> &CarryDocument {
        &self.report.carry
    }

    /// What it would be; it goes away.
    pub fn discard(self) -> PackReport {
        self.report
    }

    /// Gives it its name.
    pub fn finish(self) -> Result<PackReport, Error> {
        self.out.finish()?;
        Ok(self.report)
    }
}

/// Takes out what the site holds. Documents travel all the same: they are small, and say what there is.
fn held_back(base: &Base, blobs: &mut Vec<Descriptor>) -> Result<Vec<Need>, Error> {
    let mut needs = Vec::new();
    for blob in std::mem::take(blobs) {
        let digest = layout::digest_of(&blob).map_err(layout::Error::from)?;
        match base.held.get(&digest) {
            Some(held) if held.size == blob.size() => needs.push(Need { digest, held: held.clone() }),
            _ => blobs.push(blob),
        }
    }
    needs.sort_by(|one, other| one.digest.cmp(&other.digest));
    Ok(needs)
}

/// A name beside the directory.
fn beside(directory: &Path, what: &str) -> PathBuf {
    let name = directory.file_name().unwrap_or_default();
    directory.with_file_name(format!(".{}.{what}", name.display()))
}

/// Which of the contents blobs refer to.
fn roots(taken: &[Taken], contents: usize) -> Result<Vec<bool>, Error> {
    let mut roots = vec![false; contents];
    let mut mark = |refs: &[u32]| refs.iter().for_each(|id| roots[*id as usize] = true);
    for taken in taken {
        match &taken.form {
            TakenForm::Whole(refs) => mark(refs),
            TakenForm::Tar { skeleton, .. } => mark(Skeleton::from_slice(skeleton)?.refs()),
        }
    }
    Ok(roots)
}

/// What lies in frames, and in which.
struct Laid {
    /// But for the number of contents of each frame.
    table: Table,
    stored: Vec<Slice>,
    groups: Vec<Group>,
}

/// Orders the contents, gives blobs their numbers, and puts skeletons behind the contents.
fn lay(
    taken: Vec<Taken>,
    entries: &Entries,
    roots: &[bool],
    chosen: &Chosen,
    spool: &Spool,
    most: u64,
) -> Result<Laid, Error> {
    let mut ordered = Ordered::new(entries, roots, chosen)?;
    let nested = std::mem::take(&mut ordered.nested);
    let before = nested.len() + ordered.held;
    let mut stored = std::mem::take(&mut ordered.stored);
    let held: HashMap<u32, Slice> = chosen
        .contents
        .iter()
        .map(|(place, slice)| {
            Ok((
                u32::try_from(nested.len()).map_err(|_| Error::TooMany("contents"))? + chosen.number(*place),
                slice.clone(),
            ))
        })
        .collect::<Result<_, Error>>()?;
    let related = ordered.like.len();
    let mut groups = frame::related(&stored[..related], &ordered.like, &held, most);
    let shifted = |ranges: Vec<Range<usize>>, by: usize| {
        ranges.into_iter().map(move |range| Group::alone(range.start + by..range.end + by))
    };
    groups.extend(shifted(frame::groups(&stored[related..], most), related));

    // Skeletons with nothing to be compared with are neighbours; each of the others has frames of its own.
    let mut writer = spool.writer()?;
    let mut skeletons: HashMap<usize, Vec<u32>> = HashMap::new();
    let nearest = |taken: &Taken| match &taken.form {
        TakenForm::Tar { skeleton, .. } if !chosen.layers.is_empty() => {
            let layer = chosen.nearest(entries, Skeleton::from_slice(skeleton)?.refs());
            Ok(layer.filter(|layer| chosen.skeletons[*layer as usize].size() <= frame::PREFIX))
        }
        _ => Ok(None),
    };
    let nearest: Vec<Option<u32>> = taken.iter().map(nearest).collect::<Result<_, Error>>()?;
    for is_built in [false, true] {
        let from = stored.len();
        for (blob, (taken, nearest)) in taken.iter().zip(&nearest).enumerate() {
            let TakenForm::Tar { skeleton, .. } = &taken.form else { continue };
            if nearest.is_some() != is_built {
                continue;
            }
            let start = stored.len();
            for piece in Skeleton::from_slice(skeleton)?.to_bytes(|id| ordered.number(id)).chunks(SKELETON_PIECE) {
                stored.push(writer.keep(piece)?);
            }
            let numbers = (before + start..before + stored.len()).map(u32::try_from).collect::<Result<_, _>>();
            skeletons.insert(blob, numbers.map_err(|_| Error::TooMany("contents"))?);
            if let Some(layer) = nearest {
                for group in shifted(frame::groups(&stored[start..], most), start) {
                    let against = vec![chosen.skeletons[*layer as usize].clone()];
                    groups.push(Group { prefix: Prefix::Skeleton(*layer), against, ..group });
                }
            }
        }
        if !is_built {
            groups.extend(shifted(frame::groups(&stored[from..], most), from));
        }
    }
    let mut table = Table { nested, lengths: stored.iter().map(Slice::size).collect(), ..Table::default() };
    table.bases = chosen.layers.iter().map(|(digest, numbers)| BaseLayer::new(digest.clone(), numbers)).collect();
    if !table.bases.is_empty() {
        table.prefixes = groups.iter().map(|group| group.prefix.clone()).collect();
    }
    for (blob, taken) in taken.into_iter().enumerate() {
        let form = match taken.form {
            TakenForm::Whole(refs) => Form::Whole(refs.into_iter().map(|id| ordered.number(id)).collect()),
            TakenForm::Tar { plain, packing, .. } => {
                Form::Tar { skeleton: skeletons.remove(&blob).unwrap_or_default(), plain, packing }
            }
        };
        table.blobs.push(Blob { digest: taken.digest, size: taken.size, form });
    }
    Ok(Laid { table, stored, groups })
}

/// What the frames and the list of images are, whatever the volumes.
fn id_of(frames: &[frame::Frame], images: &[Descriptor]) -> [u8; 16] {
    let mut hash = Sha256::new();
    frames.iter().for_each(|frame| hash.update(frame.sha256));
    hash.update(serde_json::to_vec(images).expect("descriptors have names for keys"));
    hash.finalize()[..16].try_into().expect("half of 32 bytes")
}

/// Plain bytes of a frame.
const FRAME: u64 = 64 << 20;

/// Bytes of a skeleton that are one content.
const SKELETON_PIECE: usize = 4 << 20;
