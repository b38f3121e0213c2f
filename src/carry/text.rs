//! What is said of what was packed and repaired, for people.

use crate::carry::{PackReport, RepairReport};
use crate::escape::in_line;
use crate::image::store::layout::Entries;
use crate::plural;
use crate::progress::{Unit, amount};

impl PackReport {
    /// What the carry has, and what was made of it.
    pub fn to_text(&self) -> String {
        let totals = &self.carry.totals;
        let bytes = |bytes| amount(bytes, Unit::Bytes);
        let mut text = format!(
            "{}: carry {}\n  {}, {}, {}\n  carried in {}: {}",
            self.directory.display(),
            self.carry.id,
            Entries::of(&self.carry.images),
            plural::count(totals.blobs, "blob"),
            bytes(totals.blob_bytes),
            plural::count(self.carry.volumes.len(), "volume"),
            bytes(totals.carried_bytes),
        );
        text += &format!("{}\n", beside(totals.blob_bytes, totals.carried_bytes));
        if let (true, Some(site)) = (self.nothing_new, &self.carry.site) {
            let site = in_line(site);
            text += &format!(
                "  nothing new for {site}: it holds all of these images; only what describes them is in the carry\n"
            );
        }
        if let Some(program) = self.program_bytes {
            text += &format!("  beside them the program that unpacks it: {}\n", bytes(program));
        }
        let room = totals.content_bytes.saturating_add(totals.held_bytes);
        text += &format!(
            "  unpacking needs {} free, {} of it only until it is done\n",
            bytes(room.saturating_add(totals.blob_bytes)),
            bytes(room)
        );
        for (class, made) in &self.carry.made_by {
            text += &format!("  {class}: {}, {}\n", plural::count(made.blobs, "blob"), bytes(made.bytes));
        }
        for whole in &self.whole {
            text += &format!("  whole: {} ({}): {}\n", whole.digest, bytes(whole.size), whole.reason);
        }
        if !self.carry.parity.is_empty() {
            let parity: u64 = self.carry.parity.iter().map(|file| file.size).sum();
            text += &format!("  parity: {}, {}\n", plural::count(self.carry.parity.len(), "volume"), bytes(parity));
        }
        if !self.carry.needs.is_empty() {
            let held: u64 = self.carry.needs.iter().map(|need| need.held.size).sum();
            text +=
                &format!("  held by the site: {}, {}\n", plural::count(self.carry.needs.len(), "blob"), bytes(held));
        }
        for digest in &self.left_out {
            text += &format!("  left out, as it may not be distributed: {digest}\n");
        }
        text
    }
}

/// How large what is carried is beside the images: `, 1/8.8 of their size`, or `, 1.4 times their size` where little was to be saved.
fn beside(images: u64, carried: u64) -> String {
    let (tenths, what) = match carried > images {
        true => (carried.saturating_mul(10).checked_div(images), "times"),
        false => (images.saturating_mul(10).checked_div(carried), "of"),
    };
    let Some(tenths) = tenths else { return String::new() };
    let below_one = if carried > images { "" } else { "1/" };
    format!(", {below_one}{}.{} {what} their size", tenths / 10, tenths % 10)
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
        text + &format!("carry {}: {} made again, {lost} lost\n", self.carry, plural::count(made, "volume"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_larger_than_its_images_is_said_to_be() {
        for (images, carried, text) in [
            (880, 100, ", 1/8.8 of their size"),
            (100, 100, ", 1/1.0 of their size"),
            (100, 143, ", 1.4 times their size"),
            (1, 2_000, ", 2000.0 times their size"),
            (0, 5, ""),
            (0, 0, ""),
        ] {
            assert_eq!(beside(images, carried), text, "{images} {carried}");
        }
    }
}
