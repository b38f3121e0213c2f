//! What the far side says of a carry that has arrived.
//!
//! ```text
//! state = SHA-256 of a line "DIGEST SIZE\n" for each blob that the carry's images need, sorted, what may not be distributed
//!         left out
//! code  = base32 (RFC 4648) of  id(first 8 of 16 bytes) there(10) check(2)      32 letters and digits
//! there = the first bytes of the SHA-256 of "STATE SITE", the state as sha256:…
//! check = the first two bytes of the SHA-256 of the 18 before
//! ```
//!
//! Who knows what was packed knows which state there must be: a code with another one says that other images are there.
//! The code is no signature: it guards against slips, not against a person who lies.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use data_encoding::{BASE32, HEXLOWER};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::carry::base::Held;
use crate::carry::{CarryDocument, Error, base};
use crate::digest::Digest;
use crate::fs;
use crate::image::Layout;

/// That a carry has arrived, for the side that packed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The carry.
    pub carry: String,
    /// The site that it was for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// What is there now.
    pub state: Digest,
    /// When that was seen, RFC 3339.
    pub unpacked: String,
    /// The same in 32 characters, to be typed.
    pub code: Code,
}

/// A receipt in 32 characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Code([u8; 20]);

/// Text that is no receipt's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCode {
    /// It has another length or other characters.
    #[error("a receipt's code has 32 letters and digits from 2 to 7")]
    Form,
    /// The check does not fit.
    #[error("a letter or digit of it is wrong")]
    Check,
}

impl Receipt {
    /// A receipt for a carry whose images are whole in a layout.
    pub fn of(carry: &CarryDocument, layout: &Layout, unpacked: &str) -> Result<Self, Error> {
        let state = state_of(&base::held_by(layout, &carry.images, &carry.id)?);
        Ok(Receipt {
            code: Code::of(&carry.id, carry.site.as_deref(), &state),
            carry: carry.id.clone(),
            site: carry.site.clone(),
            state,
            unpacked: unpacked.to_owned(),
        })
    }

    /// Writes it as `ID.json`, and for people as `ID.txt` with the code and a QR code of it.
    pub fn write(&self, directory: &Path) -> Result<PathBuf, Error> {
        fs::create_dir_all(directory)?;
        let path = directory.join(format!("{}.json", self.carry));
        let mut json = serde_json::to_vec_pretty(self).expect("it has no maps");
        json.push(b'\n');
        let text = format!(
            "carry   {}\nstate   {}\nwhen    {}\ncode    {}\n\n{}\n",
            self.carry,
            self.state,
            self.unpacked,
            self.code,
            self.code.to_qr()
        );
        fs::write(&path.with_extension("txt"), text.as_bytes())?;
        fs::write(&path, &json)?;
        Ok(path)
    }

    /// Reads one that was written.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = fs::read(path, LIMIT)?;
        let receipt: Receipt =
            serde_json::from_slice(&bytes).map_err(|source| Error::Document { path: path.to_owned(), source })?;
        match receipt.code == Code::of(&receipt.carry, receipt.site.as_deref(), &receipt.state) {
            true => Ok(receipt),
            false => Err(Error::Receipt { path: path.to_owned() }),
        }
    }
}

/// The state of a place with these blobs.
pub fn state_of(held: &BTreeMap<Digest, Held>) -> Digest {
    let mut lines: Vec<String> = held.iter().map(|(digest, held)| format!("{digest} {}\n", held.size)).collect();
    lines.sort_unstable();
    Digest::sha256(lines.concat().as_bytes())
}

impl Code {
    /// The code of a carry, the site that it was for, and a state.
    pub fn of(carry: &str, site: Option<&str>, state: &Digest) -> Self {
        let mut code = [0; 20];
        let id = HEXLOWER.decode(carry.as_bytes()).unwrap_or_default();
        code[..8].iter_mut().zip(id).for_each(|(byte, digit)| *byte = digit);
        // One carry for two sites has two codes.
        let there = Sha256::digest(format!("{state} {}", site.unwrap_or_default()));
        code[8..18].copy_from_slice(&there[..10]);
        let check = Sha256::digest(&code[..18]);
        code[18..].copy_from_slice(&check[..2]);
        Code(code)
    }

    /// Whether it is of that carry.
    pub fn is_of(&self, carry: &str) -> bool {
        Code::of(carry, None, &Digest::sha256(b"")).0[..8] == self.0[..8]
    }

    /// The code as a picture of half blocks, dark on light: 29 lines with its margin.
    pub fn to_qr(&self) -> String {
        let text = BASE32.encode(&self.0);
        match qrcode::QrCode::new(text.as_bytes()) {
            Ok(code) => code.render::<qrcode::render::unicode::Dense1x2>().build(),
            // 32 characters fit into any version of it.
            Err(_) => String::new(),
        }
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = BASE32.encode(&self.0);
        let groups: Vec<&str> = (0..8).map(|group| &text[group * 4..group * 4 + 4]).collect();
        f.write_str(&groups.join("-"))
    }
}

impl std::str::FromStr for Code {
    type Err = BadCode;

    /// In groups or not, in large letters or small; 0, 1 and 8, which it never has, are what they look like.
    fn from_str(text: &str) -> Result<Self, BadCode> {
        let typed = text.chars().filter(|letter| !matches!(letter, '-' | ' '));
        let text: String = typed
            .map(|letter| match letter {
                '0' => 'O',
                '1' => 'I',
                '8' => 'B',
                letter => letter.to_ascii_uppercase(),
            })
            .collect();
        let bytes = BASE32.decode(text.as_bytes()).map_err(|_| BadCode::Form)?;
        let code: [u8; 20] = bytes.try_into().map_err(|_| BadCode::Form)?;
        match Sha256::digest(&code[..18])[..2] == code[18..] {
            true => Ok(Code(code)),
            false => Err(BadCode::Check),
        }
    }
}

impl From<Code> for String {
    fn from(code: Code) -> String {
        code.to_string()
    }
}

impl TryFrom<String> for Code {
    type Error = BadCode;

    fn try_from(text: String) -> Result<Self, BadCode> {
        text.parse()
    }
}

/// Bytes of a receipt, at most.
const LIMIT: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_as_people_type_it_and_one_wrong_letter_is_found() {
        let state = Digest::sha256(b"x");
        let code = Code::of("387556893a45db826ee765cdf73ddf1a", Some("plant-7"), &state);
        let text = code.to_string();
        // As Python's hashlib and base64 have it.
        assert_eq!(text, "HB2V-NCJ2-IXNY-EPIC-VDPQ-KM6S-A3JS-NPAH");
        for typed in
            [text.clone(), text.to_lowercase(), text.replace('-', ""), text.replace('-', " ").replace('I', "1")]
        {
            assert_eq!(typed.parse(), Ok(code.clone()), "{typed}");
        }
        assert!(code.is_of("387556893a45db826ee765cdf73ddf1a") && !code.is_of("387556893a45db836ee765cdf73ddf1a"));
        let mut passed = 0;
        for at in (0..text.len()).filter(|at| text.as_bytes()[*at] != b'-') {
            for letter in BASE32.specification().symbols.bytes() {
                let mut typed = text.clone().into_bytes();
                typed[at] = letter;
                let typed = String::from_utf8(typed).unwrap();
                passed += usize::from(typed.parse::<Code>().is_ok_and(|_| typed != text));
            }
        }
        assert_eq!(passed, 0, "of 992 slips");
        for bad in ["", "HB2V", "not a code", &text[1..]] {
            assert_eq!(bad.parse::<Code>(), Err(BadCode::Form), "{bad}");
        }
    }
}
