//! OpenPGP signatures of repositories: `InRelease`, `Release.gpg`, `repomd.xml.asc`.
//!
//! A repository may sign with several keys, old and new; one trusted signature is enough. Only the text that was signed is
//! handed on: what stands before or after it in the file is not.

use std::io::{self, Cursor};

use pgp::armor::Dearmor;
use pgp::composed::{ArmorOptions, CleartextSignedMessage, Deserializable, DetachedSignature, SignedPublicKey};

/// Trusted keys.
pub struct Keyring(Vec<SignedPublicKey>);

/// Why a text is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no usable key in the file.
    #[error("no OpenPGP public key can be read from the key ring")]
    NoKeys(#[source] Option<Box<pgp::errors::Error>>),
    /// The signature cannot be understood.
    #[error("the signature cannot be read")]
    Unreadable(#[source] Box<pgp::errors::Error>),
    /// No trusted key made it.
    #[error("none of its signatures ({signatures}) is valid and by a trusted key")]
    Untrusted {
        /// How many signatures there are.
        signatures: usize,
    },
}

impl Keyring {
    /// Reads public keys, in binary as in `/usr/share/keyrings`, or in ASCII armour, one block or several.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let mut keys = Vec::new();
        let mut problem = None;
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.contains(ARMOR));
        let blocks: Vec<&[u8]> = match text {
            Some(text) => text.match_indices(ARMOR).map(|(at, _)| &text.as_bytes()[at..]).collect(),
            None => vec![bytes],
        };
        for block in blocks {
            right_armor(block).map_err(|error| Error::NoKeys(Some(error)))?;
            let read = SignedPublicKey::from_reader_many(Cursor::new(block));
            let (found, _) = read.map_err(|error| Error::NoKeys(Some(Box::new(error))))?;
            for key in found {
                match key {
                    // The primary key is trusted because it is in the file; a subkey because the primary vouches for it.
                    // Who else certified the key does not matter here.
                    Ok(mut key) => {
                        let primary = key.primary_key.clone();
                        key.public_subkeys.retain(|subkey| subkey.verify_bindings(&primary).is_ok());
                        keys.push(key);
                    }
                    // One key of a kind that is not understood must not cost the others.
                    Err(error) => problem = Some(Box::new(error)),
                }
            }
        }
        if keys.is_empty() { Err(Error::NoKeys(problem)) } else { Ok(Keyring(keys)) }
    }

    /// The keys, each in ASCII armour.
    pub(crate) fn armored(&self) -> impl Iterator<Item = String> {
        self.0.iter().filter_map(|key| key.to_armored_string(ArmorOptions::default()).ok())
    }

    /// Checks a text with its signatures around it and returns what was signed, with `\n` at the ends of lines.
    pub fn verify_cleartext(&self, message: &str) -> Result<String, Error> {
        if let Some(at) = message.find(SIGNATURE) {
            right_armor(&message.as_bytes()[at..]).map_err(Error::Unreadable)?;
        }
        let (message, _) =
            CleartextSignedMessage::from_string(message).map_err(|error| Error::Unreadable(Box::new(error)))?;
        let text = message.signed_text();
        let signatures = message.signatures();
        if signatures.iter().any(|signature| self.made(signature, text.as_bytes())) {
            return Ok(text.replace("\r\n", "\n"));
        }
        Err(Error::Untrusted { signatures: signatures.len() })
    }

    /// Checks a file against signatures in a file of their own.
    pub fn verify_detached(&self, content: &[u8], signatures: &[u8]) -> Result<(), Error> {
        let unreadable = |error| Error::Unreadable(Box::new(error));
        right_armor(signatures).map_err(Error::Unreadable)?;
        let (found, _) = DetachedSignature::from_reader_many(Cursor::new(signatures)).map_err(unreadable)?;
        let found = found.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
        if found.iter().any(|signature| self.made(&signature.signature, content)) {
            return Ok(());
        }
        Err(Error::Untrusted { signatures: found.len() })
    }

    fn made(&self, signature: &pgp::packet::Signature, content: &[u8]) -> bool {
        self.0.iter().any(|key| {
            signature.verify(&key.primary_key, content).is_ok()
                || key.public_subkeys.iter().any(|subkey| signature.verify(&subkey.key, content).is_ok())
        })
    }
}

/// Reads what is in ASCII armour to its end, once: the parser of packets reads on behind an error in it, which is a panic there.
fn right_armor(bytes: &[u8]) -> Result<(), Box<pgp::errors::Error>> {
    // As the parser tells armour from packets.
    if bytes.first().is_none_or(|first| first & 0x80 != 0) {
        return Ok(());
    }
    let read = io::copy(&mut Dearmor::new(Cursor::new(bytes)), &mut io::sink());
    read.map(drop).map_err(|error| Box::new(error.into()))
}

const SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";
const ARMOR: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
