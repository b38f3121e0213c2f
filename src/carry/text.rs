//! What is said of what was packed and repaired, for people.

use crate::carry::{PackReport, RepairReport};
use crate::escape::in_line;
use crate::progress::{Unit, amount};

impl PackReport {
    /// What the carry has, and what was made of it.
    pub fn to_text(&self) -> String {
        let totals = &self.carry.totals;
        let bytes = |bytes| amount(bytes, Unit::Bytes);
        let mut text = format!(
            "{}: carry {}\n  {} images and referrers, {} blobs, {}\n  carried in {} volumes: {}",
            self.directory.display(),
            self.carry.id,
            self.carry.images.len(),
            totals.blobs,
            bytes(totals.blob_bytes),
            self.carry.volumes.len(),
            bytes(totals.carried_bytes),
        );
        let tenths = totals.blob_bytes.saturating_mul(10).checked_div(totals.carried_bytes).unwrap_or_default();
        text += &format!(", 1/{}.{} of their size\n", tenths / 10, tenths % 10);
        let room = totals.content_bytes.saturating_add(totals.held_bytes);
        text += &format!(
            "  unpacking needs {} free, {} of it only until it is done\n",
            bytes(room.saturating_add(totals.blob_bytes)),
            bytes(room)
        );
        for (class, made) in &self.carry.made_by {
            text += &format!("  {class}: {} blobs, {}\n", made.blobs, bytes(made.bytes));
        }
        for whole in &self.whole {
            text += &format!("  whole: {} ({}): {}\n", whole.digest, bytes(whole.size), whole.reason);
        }
        if !self.carry.parity.is_empty() {
            let parity: u64 = self.carry.parity.iter().map(|file| file.size).sum();
            text += &format!("  parity: {} volumes, {}\n", self.carry.parity.len(), bytes(parity));
        }
        if !self.carry.needs.is_empty() {
            let held: u64 = self.carry.needs.iter().map(|need| need.held.size).sum();
            text += &format!("  held by the site: {} blobs, {}\n", self.carry.needs.len(), bytes(held));
        }
        for digest in &self.left_out {
            text += &format!("  left out, as it may not be distributed: {digest}\n");
        }
        text
    }
}

impl RepairReport {
    /// What was made again, and what is lost.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for file in &self.repaired {
            text += &format!("made again {}\n", in_line(file));
        }
        for (file, (from, to)) in &self.lost {
            text += &format!("{}: too much is lost; the first is bytes {from}-{to}\n", in_line(file));
        }
        for file in &self.parity_damaged {
            text += &format!("{} is missing or damaged, and stays so\n", in_line(file));
        }
        let (made, lost) = (self.repaired.len(), self.lost.len());
        text + &format!("carry {}: {made} volumes made again, {lost} lost\n", self.carry)
    }
}
