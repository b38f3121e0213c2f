//! The order in which contents are carried, and the numbers that they have got.

use crate::carry::Error;
use crate::carry::delta::Chosen;
use crate::carry::entries::{Entries, Form, Nested};
use crate::fs::Slice;

/// Contents in the order in which they are numbered: gzip files, those that are held, those with bytes of their own.
pub(super) struct Ordered {
    /// Contents made of others.
    pub(super) nested: Vec<Nested>,
    /// How many are held.
    pub(super) held: usize,
    /// Those with bytes of their own: first such as are like something that is held.
    pub(super) stored: Vec<Slice>,
    /// Of the first of them, the number of what each is like.
    pub(super) like: Vec<u32>,
    /// Of each id, its number; those that do not travel have none.
    numbers: Vec<Option<u32>>,
}

impl Ordered {
    /// Orders contents, as far as somebody refers to them: `roots` says to which blobs do.
    ///
    /// Neighbours are files of one name: of several releases, whose numbers differ in nothing but digits. The order depends
    /// on what is carried alone, not on who found it first.
    pub(super) fn new(entries: &Entries, roots: &[bool], chosen: &Chosen) -> Result<Self, Error> {
        let needed = needed(entries, roots, chosen);
        let is_stored = |id: u32| matches!(entries[id].form, Form::Stored(_));
        let mut ids: Vec<u32> = entries.iter().map(|(id, _)| id).filter(|id| needed[*id as usize]).collect();
        ids.retain(|id| !chosen.held.contains_key(id));
        ids.sort_unstable_by(|one, other| {
            let kind = |id: &u32| (is_stored(*id), !chosen.like.contains_key(id));
            let (name, others) = (entries.name(*one), entries.name(*other));
            kind(one)
                .cmp(&kind(other))
                .then_with(|| likeness(name).cmp(likeness(others)))
                .then_with(|| (name, &entries[*one].hash).cmp(&(others, &entries[*other].hash)))
        });
        let nested = ids.iter().filter(|id| !is_stored(**id)).count();
        let held = chosen.count();
        let total = u32::try_from(ids.len() + held).map_err(|_| Error::TooMany("contents"))?;
        let first_held = u32::try_from(nested).expect("fewer than all");
        let first_stored = u32::try_from(nested + held).expect("fewer than all");
        let mut numbers = vec![None; entries.len()];
        let (of_nested, of_stored) = (0..first_held, first_stored..total);
        for (id, number) in ids.iter().zip(of_nested.chain(of_stored)) {
            numbers[*id as usize] = Some(number);
        }
        for (id, place) in &chosen.held {
            numbers[*id as usize] = Some(first_held + chosen.number(*place));
        }
        let mut ordered = Ordered { nested: Vec::new(), held, stored: Vec::new(), like: Vec::new(), numbers };
        for id in &ids {
            match &entries[*id].form {
                Form::Stored(slice) => {
                    ordered.stored.push(slice.clone());
                    ordered.like.extend(chosen.like.get(id).map(|place| first_held + chosen.number(*place)));
                }
                Form::Gzip(gzip) => {
                    let nested = &gzip.0;
                    let refs = nested.refs.iter().map(|id| ordered.number(*id)).collect();
                    ordered.nested.push(Nested { refs, ..nested.clone() });
                }
            }
        }
        Ok(ordered)
    }

    /// The number of a content that somebody refers to.
    pub(super) fn number(&self, id: u32) -> u32 {
        self.numbers[id as usize].expect("what is referred to has a number")
    }
}

/// Which contents are referred to: by `roots`, or by a gzip file that travels in its parts.
pub(super) fn needed(entries: &Entries, roots: &[bool], chosen: &Chosen) -> Vec<bool> {
    let mut needed = roots.to_vec();
    for (id, entry) in entries.iter() {
        // What is in a gzip file is none itself.
        if let (true, Form::Gzip(gzip), false) = (needed[id as usize], &entry.form, chosen.held.contains_key(&id)) {
            gzip.0.refs.iter().for_each(|inner| needed[*inner as usize] = true);
        }
    }
    needed
}

/// What neighbours have in common: their last name first, then the directory that it is in, and so on, with all numbers made
/// equal. The directories that tell releases apart come first in a path, and so last here.
pub(super) fn likeness(path: &[u8]) -> impl Iterator<Item = u8> {
    let components = path.rsplit(|byte| *byte == b'/');
    let bytes = components.flat_map(|component| component.iter().copied().chain(std::iter::once(b'/')));
    let mut is_in_number = false;
    bytes.filter_map(move |byte| {
        let is_digit = byte.is_ascii_digit();
        let goes_on = std::mem::replace(&mut is_in_number, is_digit) && is_digit;
        (!goes_on).then_some(if is_digit { b'0' } else { byte })
    })
}
