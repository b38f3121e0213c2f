//! A picture of what images share: a bar for each image, as wide as it is large, of its layers. Layers that several of them have are
//! numbered and of one colour; a table beneath says the same.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::digest::Digest;
use crate::plural;
use crate::progress::{Unit, amount};

/// An image, and its layers with their sizes.
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) layers: Vec<(Digest, u64)>,
}

/// Where everything is, in units of a thousandth of the picture's width.
#[derive(Default, Serialize)]
pub(super) struct Picture {
    /// Bytes of all images, each for itself.
    pub(super) total: u64,
    /// Bytes on the disk, each layer once.
    pub(super) stored: u64,
    /// Layers that several images have, the largest first.
    pub(super) shared: Vec<Shared>,
    #[serde(skip)]
    pub(super) rows: Vec<Row>,
}

/// A layer that several images have.
#[derive(Serialize)]
pub(super) struct Shared {
    pub(super) number: usize,
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) images: usize,
}

pub(super) struct Row {
    pub(super) number: usize,
    pub(super) label: String,
    pub(super) size: u64,
    pub(super) y: usize,
    pub(super) parts: Vec<Part>,
}

pub(super) struct Part {
    pub(super) x: u64,
    pub(super) width: u64,
    pub(super) title: String,
    /// Of a layer that is shared.
    pub(super) number: Option<usize>,
}

impl Picture {
    pub(super) fn of(bars: Vec<Bar>) -> Self {
        let mut known: BTreeMap<&Digest, (u64, usize)> = BTreeMap::new();
        for bar in &bars {
            // Some images have one layer twice.
            let of_bar: HashMap<&Digest, u64> = bar.layers.iter().map(|(digest, size)| (digest, *size)).collect();
            for (digest, size) in of_bar {
                let known = known.entry(digest).or_insert((size, 0));
                known.1 += 1;
            }
        }
        let stored = sum(known.values().map(|(size, _)| *size));
        let mut shared: Vec<Shared> = known
            .into_iter()
            .filter(|(_, (_, images))| *images > 1)
            .map(|(digest, (size, images))| Shared { number: 0, digest: digest.clone(), size, images })
            .collect();
        shared.sort_by(|one, other| other.size.cmp(&one.size).then_with(|| one.digest.cmp(&other.digest)));
        (1..).zip(&mut shared).for_each(|(number, it)| it.number = number);
        let numbers: HashMap<Digest, usize> = shared.iter().map(|it| (it.digest.clone(), it.number)).collect();
        let sizes: Vec<u64> = bars.iter().map(|bar| sum(bar.layers.iter().map(|(_, size)| *size))).collect();
        let widest = sizes.iter().copied().max().unwrap_or_default().max(1);
        let place = |bytes: u64| u64::try_from(u128::from(bytes) * WIDTH / u128::from(widest)).unwrap_or_default();
        let row = |(at, (bar, size)): (usize, (Bar, &u64))| {
            let mut before = 0_u64;
            let part = |(digest, size): (Digest, u64)| {
                let (x, end) = (place(before), place(before.saturating_add(size)));
                before = before.saturating_add(size);
                let number = numbers.get(&digest).copied();
                let title = match number {
                    Some(number) => format!("layer {number}, shared: {} {digest}", amount(size, Unit::Bytes)),
                    None => format!("{} {digest}", amount(size, Unit::Bytes)),
                };
                Part { x: LEFT + x, width: (end - x).max(1), title, number }
            };
            let parts = bar.layers.into_iter().map(part).collect();
            Row { number: at + 1, label: bar.label, size: *size, y: at * STEP, parts }
        };
        let rows = bars.into_iter().zip(&sizes).enumerate().map(row).collect();
        Picture { total: sum(sizes.iter().copied()), stored, shared, rows }
    }

    pub(super) fn height(&self) -> usize {
        self.rows.len() * STEP
    }

    /// `3.1 GiB in 12 images, 1.9 GiB on the disk: 38 % is shared`
    pub(super) fn words(&self) -> String {
        let shared = self.total.saturating_sub(self.stored);
        let percent = u128::from(shared) * 100 / u128::from(self.total.max(1));
        let (total, stored) = (amount(self.total, Unit::Bytes), amount(self.stored, Unit::Bytes));
        let images = plural::count(self.rows.len(), "image");
        format!("{total} in {images}, {stored} on the disk: {percent} % is shared")
    }
}

impl Row {
    pub(super) fn size_text(&self) -> String {
        amount(self.size, Unit::Bytes)
    }
}

impl Shared {
    pub(super) fn size_text(&self) -> String {
        amount(self.size, Unit::Bytes)
    }
}

impl Part {
    /// One of the colours of the style sheet.
    pub(super) fn class(&self) -> String {
        self.number.map_or_else(|| "own".to_owned(), |number| format!("c{}", (number - 1) % COLOURS))
    }

    /// Where its number is, if it has one and there is room.
    pub(super) fn number_at(&self) -> Option<(u64, usize)> {
        self.number.filter(|_| self.width > 30).map(|number| (self.x + 6, number))
    }
}

fn sum(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}

/// Room for the number of a bar.
const LEFT: u64 = 50;
const WIDTH: u128 = 950;
/// From one bar to the next.
const STEP: usize = 34;
const COLOURS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_wide_as_images_are_large_and_shared_layers_have_one_number() {
        let digest = |text: &str| Digest::sha256(text);
        let bar = |label: &str, layers: &[(&str, u64)]| Bar {
            label: label.to_owned(),
            layers: layers.iter().map(|(text, size)| (digest(text), *size)).collect(),
        };
        let picture = Picture::of(vec![
            bar("a", &[("base", 500), ("a", 400), ("small", 50)]),
            bar("b", &[("base", 500), ("small", 50), ("small", 50), ("none", 0)]),
        ]);
        let shared: Vec<_> = picture.shared.iter().map(|it| (it.number, &it.digest, it.size, it.images)).collect();
        assert_eq!(shared, [(1, &digest("base"), 500, 2), (2, &digest("small"), 50, 2)]);
        let parts = |row: &Row| row.parts.iter().map(|part| (part.x, part.width, part.number)).collect::<Vec<_>>();
        assert_eq!(parts(&picture.rows[0]), [(50, 500, Some(1)), (550, 400, None), (950, 50, Some(2))]);
        assert_eq!(
            parts(&picture.rows[1]),
            [(50, 500, Some(1)), (550, 50, Some(2)), (600, 50, Some(2)), (650, 1, None)]
        );
        assert_eq!((picture.total, picture.stored, picture.height()), (1550, 950, 68));
        assert_eq!(picture.words(), "1.51 KiB in 2 images, 950 B on the disk: 38 % is shared");
        let largest = Picture::of(vec![bar("x", &[("x", u64::MAX), ("y", u64::MAX)]), bar("none", &[])]);
        assert_eq!((largest.total, parts(&largest.rows[0])[0]), (u64::MAX, (50, 950, None)));
    }
}
