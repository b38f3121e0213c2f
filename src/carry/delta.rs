//! What of a carry's contents a site holds already, and what it holds that is like the rest.
//!
//! A content is found in layers by its hash; one that is in none of them is compressed against a content of the same name,
//! numbers made equal, in the layer that has most in common with what is carried. Layers that would spare too little are
//! not built on: each costs the far side a reading.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rayon::prelude::*;

use crate::carry::base::Base;
use crate::carry::entries::{Entries, Entry, Form, Hash};
use crate::carry::order::needed;
use crate::carry::{Error, index, numbering};
use crate::digest::Digest;
use crate::fs::{Slice, Spool};
use crate::image::manifest;
use crate::progress::Task;

/// A content of a layer: which of the layers that are built on, and its number there.
pub(super) type Place = (u32, u32);

/// What is taken of the layers that a site holds.
#[derive(Default)]
pub(super) struct Chosen {
    /// The layers, those with most in common first, and which of their contents, in order.
    pub(super) layers: Vec<(Digest, Vec<u32>)>,
    /// Contents that are there, by id.
    pub(super) held: HashMap<u32, Place>,
    /// Contents that are like one that is there, by id.
    pub(super) like: HashMap<u32, Place>,
    /// Bytes to compress against, once they are taken: contents,
    pub(super) contents: HashMap<Place, Slice>,
    /// and the skeleton of each layer, with the layer's own numbers.
    pub(super) skeletons: Vec<Slice>,
}

impl Chosen {
    /// Looks for the contents to which blobs refer, as `roots` says, in the layers that a site holds.
    pub(super) fn of(base: &Base, entries: &Entries, roots: &[bool], task: &Task) -> Result<Self, Error> {
        let layers: Vec<&Digest> = base.layers().collect();
        let wanted = needed(entries, roots, &Chosen::default());
        let ids = || entries.iter().filter(|(id, _)| wanted[*id as usize]);
        let by_hash: HashMap<Hash, u32> = ids().map(|(id, entry)| (entry.hash, id)).collect();
        let names: BTreeSet<[u8; 8]> = ids().map(|(id, _)| index::name_hash(entries.name(id))).collect();
        let likenesses: BTreeSet<[u8; 8]> = ids().map(|(id, _)| index::likeness_hash(entries.name(id))).collect();
        let mut found = Found { exact: HashMap::new(), like: HashMap::new() };
        // Only the making of an index takes time; a dozen at a time bounds what is in memory.
        for (batch, some) in (0..).zip(layers.chunks(BATCH)) {
            let indexes: Vec<Vec<index::Indexed>> = some
                .par_iter()
                .map(|layer| {
                    let index = match index::of(&base.layout, &base.index, layer) {
                        // What is lost here is the base of nothing; it is there all the same.
                        Err(Error::BaseDamaged { path }) => {
                            tracing::warn!("{}: is not what its name says: nothing is built on it", path.display());
                            Vec::new()
                        }
                        index => index?,
                    };
                    task.add(1);
                    Ok(index)
                })
                .collect::<Result<_, Error>>()?;
            for (at, index) in (batch * BATCH..).zip(&indexes) {
                let layer = u32::try_from(at).map_err(|_| Error::TooMany("layers"))?;
                for (number, content) in (0..).zip(index) {
                    let place = Candidate { layer, number, size: content.size, name: content.name };
                    if let Some(id) = by_hash.get(&content.hash) {
                        add(found.exact.entry(*id).or_default(), place, false);
                    }
                    if likenesses.contains(&content.likeness) {
                        add(found.like.entry(content.likeness).or_default(), place, names.contains(&content.name));
                    }
                }
            }
        }
        Ok(found.choose(entries, roots, &layers))
    }

    /// Contents that are taken from layers.
    pub(super) fn count(&self) -> usize {
        self.layers.iter().map(|(_, numbers)| numbers.len()).sum()
    }

    /// The number of a place among all that are taken.
    pub(super) fn number(&self, (layer, number): Place) -> u32 {
        let before: usize = self.layers[..layer as usize].iter().map(|(_, numbers)| numbers.len()).sum();
        let at = self.layers[layer as usize].1.binary_search(&number).expect("every place is counted");
        u32::try_from(before + at).expect("contents are counted as u32")
    }

    /// Bytes of all that is taken.
    pub(super) fn bytes(&self, entries: &Entries) -> u64 {
        let exact: BTreeMap<Place, u64> =
            self.held.iter().map(|(id, place)| (*place, size_of(&entries[*id]))).collect();
        let like = self.contents.iter().filter(|(place, _)| !exact.contains_key(place)).map(|(_, slice)| slice.size());
        exact.values().sum::<u64>() + like.sum::<u64>()
    }

    /// Which of the layers has most bytes of these contents, if any.
    pub(super) fn nearest(&self, entries: &Entries, contents: &[u32]) -> Option<u32> {
        let mut shared: BTreeMap<u32, u64> = BTreeMap::new();
        for id in contents {
            if let Some((layer, _)) = self.held.get(id).or_else(|| self.like.get(id)) {
                *shared.entry(*layer).or_default() += size_of(&entries[*id]);
            }
        }
        shared.into_iter().max_by_key(|(layer, bytes)| (*bytes, std::cmp::Reverse(*layer))).map(|(layer, _)| layer)
    }

    /// Takes out of the layers what is compressed against, and makes sure of all that is built on.
    pub(super) fn take(&mut self, base: &Base, spool: &Spool) -> Result<(), Error> {
        let like: BTreeSet<Place> = self.like.values().copied().collect();
        let layers: Vec<(u32, &(Digest, Vec<u32>))> = (0..).zip(&self.layers).collect();
        let taken: Vec<_> = layers
            .par_iter()
            .map(|(layer, (digest, numbers))| {
                let (mut contents, mut seen) = (Vec::new(), 0);
                let mut writer = spool.writer()?;
                let path = base.layout.blob_path(digest);
                let damaged = || Error::BaseDamaged { path: path.clone() };
                let index = index::of(&base.layout, &base.index, digest)?;
                let skeleton = numbering::split(&base.layout, digest, &mut |met| {
                    let place = (*layer, met.number);
                    if numbers.binary_search(&met.number).is_ok() {
                        if index.get(met.number as usize).is_none_or(|known| known.hash != met.hash) {
                            return Err(damaged());
                        }
                        seen += 1;
                    }
                    if like.contains(&place) {
                        contents.push((place, writer.keep(met.bytes)?));
                    }
                    Ok(())
                })?;
                if seen != numbers.len() {
                    return Err(damaged());
                }
                Ok((contents, writer.keep(&skeleton.to_bytes(|number| number))?))
            })
            .collect::<Result<_, Error>>()?;
        for (contents, skeleton) in taken {
            self.contents.extend(contents);
            self.skeletons.push(skeleton);
        }
        Ok(())
    }
}

impl Base {
    /// Layers whose bytes are here.
    fn layers(&self) -> impl Iterator<Item = &Digest> {
        let layers = self.held.iter().filter(|(digest, held)| {
            let kind = held.media_type.as_str().into();
            manifest::is_layer(&kind) && !manifest::is_encrypted(&kind) && self.layout.holds(digest, held.size)
        });
        layers.map(|(digest, _)| digest)
    }
}

/// A content of a layer that may be taken.
#[derive(Clone, Copy)]
struct Candidate {
    layer: u32,
    number: u32,
    /// Bytes.
    size: u32,
    /// Its last name.
    name: [u8; 8],
}

/// Where contents are, and their relatives.
struct Found {
    exact: HashMap<u32, Vec<Candidate>>,
    like: HashMap<[u8; 8], Vec<Candidate>>,
}

impl Found {
    fn choose(mut self, entries: &Entries, roots: &[bool], layers: &[&Digest]) -> Chosen {
        let relatives = |id: u32, found: &Found| -> Vec<Candidate> {
            let likeness = index::likeness_hash(entries.name(id));
            found.like.get(&likeness).cloned().unwrap_or_default()
        };
        // What a layer has in common with all that is carried.
        let mut common: BTreeMap<u32, u64> = BTreeMap::new();
        for places in self.exact.values() {
            places.iter().for_each(|place| *common.entry(place.layer).or_default() += u64::from(place.size));
        }
        let mut dropped = BTreeSet::new();
        loop {
            self.exact.values_mut().for_each(|places| places.retain(|place| !dropped.contains(&place.layer)));
            self.like.values_mut().for_each(|places| places.retain(|place| !dropped.contains(&place.layer)));
            let rank = |layer: u32| (std::cmp::Reverse(common.get(&layer).copied().unwrap_or_default()), layer);
            let best = |places: &[Candidate]| places.iter().min_by_key(|place| rank(place.layer)).copied();
            let held = self.exact.iter().filter_map(|(id, places)| Some((*id, best(places)?)));
            let held = held.map(|(id, place)| (id, (place.layer, place.number))).collect();
            let mut chosen = Chosen { held, ..Chosen::default() };
            let wanted = needed(entries, roots, &chosen);
            chosen.held.retain(|id, _| wanted[*id as usize]);
            let mut spared: BTreeMap<u32, u64> = BTreeMap::new();
            for (id, (layer, _)) in &chosen.held {
                *spared.entry(*layer).or_default() += size_of(&entries[*id]);
            }
            for (id, entry) in entries.iter() {
                if wanted[id as usize]
                    && matches!(entry.form, Form::Stored(_))
                    && !chosen.held.contains_key(&id)
                    && let Some(Candidate { layer, number, size, .. }) =
                        nearest(&relatives(id, &self), (entries.name(id), size_of(entry)), rank)
                {
                    *spared.entry(layer).or_default() += size_of(entry).min(size.into());
                    chosen.like.insert(id, (layer, number));
                }
            }
            let small: Vec<u32> =
                spared.iter().filter(|(_, bytes)| **bytes < SMALLEST).map(|(layer, _)| *layer).collect();
            if small.is_empty() {
                return chosen.with_layers(layers, rank);
            }
            // What they would have spared may be in others.
            dropped.extend(small);
        }
    }
}

impl Chosen {
    /// Numbers the layers anew: those that are used, the best first.
    fn with_layers<K: Ord>(mut self, layers: &[&Digest], rank: impl Fn(u32) -> K) -> Self {
        let mut used: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for (layer, number) in self.held.values().chain(self.like.values()) {
            used.entry(*layer).or_default().insert(*number);
        }
        let mut order: Vec<u32> = used.keys().copied().collect();
        order.sort_by_key(|layer| rank(*layer));
        let new: HashMap<u32, u32> = order.iter().copied().zip(0..).collect();
        for place in self.held.values_mut().chain(self.like.values_mut()) {
            place.0 = new[&place.0];
        }
        let numbers = |layer: &u32| used[layer].iter().copied().collect();
        self.layers = order.iter().map(|layer| (layers[*layer as usize].clone(), numbers(layer))).collect();
        self
    }
}

/// Of relatives in the best layer the one of the same name, then the one whose size is nearest: what changed in a line has
/// hardly another.
fn nearest<K: Ord>(places: &[Candidate], (name, size): (&[u8], u64), rank: impl Fn(u32) -> K) -> Option<Candidate> {
    let name = index::name_hash(name);
    let key = |it: &&Candidate| (rank(it.layer), it.name != name, u64::from(it.size).abs_diff(size), it.number);
    places.iter().min_by_key(key).copied()
}

/// Adds a place, unless there are enough; one that has the name of something that is carried is always looked at.
fn add(places: &mut Vec<Candidate>, place: Candidate, is_named: bool) {
    let of_layer = places.iter().rev().take_while(|before| before.layer == place.layer).count();
    if is_named || of_layer < PLACES && places.len() < PLACES * LAYERS {
        places.push(place);
    }
}

fn size_of(entry: &Entry) -> u64 {
    match &entry.form {
        Form::Stored(slice) => slice.size(),
        Form::Gzip(gzip) => gzip.0.size,
    }
}

/// Indexes that are in memory at one time.
const BATCH: usize = 12;

/// Places of one content, or of one name, that are looked at in a layer.
const PLACES: usize = 64;

/// Layers in which they are looked at.
const LAYERS: usize = 16;

/// Bytes that a layer spares, at least, to be built on.
const SMALLEST: u64 = 16 << 10;
