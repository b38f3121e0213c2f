//! Signatures of carries: ECDSA over P-256 and SHA-256 (FIPS 186-5), the one kind that both `openssl dgst -verify` and
//! `cosign verify-blob` take.
//!
//! ```text
//! carry.json.sig       the signature of carry.json's bytes, DER (RFC 3279, 2.2.3)
//! carry.sigstore.json  the same as a Sigstore bundle, version 0.3
//! ```
//!
//! What is signed is `carry.json` alone: it names images by digest, and volumes and the program by SHA-256, so that no volume has to be
//! believed. `README.txt` beside it is not signed, and neither does the public key travel in the carry: whoever changed the one could change the
//! other. A program cannot vouch for itself: what checks a signature is one that was there before.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::ecdsa::{DerSignature, SigningKey, VerifyingKey};
use p256::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePublicKey as _};
use sha2::{Digest as _, Sha256};

use crate::carry::document::CARRY;
use crate::carry::{Error, encrypted};
use crate::digest::Digest;
use crate::fs;

/// A private key.
#[derive(Clone)]
pub struct PrivateKey(SigningKey);

/// A public key.
#[derive(Clone, Debug)]
pub struct PublicKey {
    key: VerifyingKey,
    path: PathBuf,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey")
    }
}

impl PrivateKey {
    /// Reads a key in PEM: PKCS #8 (`BEGIN PRIVATE KEY`), SEC 1 as `openssl ecparam -genkey` writes it, or one that
    /// `cosign generate-key-pair` has encrypted with a password. Others with a password are an error.
    pub fn read(path: &Path, password: Option<&[u8]>) -> Result<Self, Error> {
        let text = read_text(path)?;
        let wrong = |why| Error::Key { path: path.to_owned(), why };
        if encrypted::is_encrypted(&text) {
            let password = password.ok_or_else(|| wrong("it is encrypted, and no password was given"))?;
            let der = encrypted::decrypt(&text, password).map_err(wrong)?;
            let secret =
                p256::SecretKey::from_pkcs8_der(&der).map_err(|_| wrong("no private key for P-256 is in it"))?;
            return Ok(PrivateKey(SigningKey::from(secret)));
        }
        // openssl writes the curve before a key of SEC 1.
        let sec1 = text.find("-----BEGIN EC PRIVATE KEY-----").map(|at| &text[at..]);
        let secret = match sec1 {
            Some(pem) => p256::SecretKey::from_sec1_pem(pem).ok(),
            None => p256::SecretKey::from_pkcs8_pem(&text).ok(),
        };
        let secret = secret.ok_or_else(|| {
            wrong("no private key for P-256 in PEM, or one that openssl has encrypted with a password")
        })?;
        Ok(PrivateKey(SigningKey::from(secret)))
    }

    /// Signs the document of the carry that is being made in `directory`.
    pub(super) fn sign(&self, directory: &Path, document: &[u8]) -> Result<(), Error> {
        // Deterministic (RFC 6979): the same carry has the same signature.
        let signature: DerSignature = self.0.sign(document);
        let bundle = serde_json::json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": { "publicKey": { "hint": "" } },
            "messageSignature": {
                "messageDigest": { "algorithm": "SHA2_256", "digest": STANDARD.encode(Sha256::digest(document)) },
                "signature": STANDARD.encode(signature.as_bytes()),
            },
        });
        fs::write(&directory.join(SIGNATURE), signature.as_bytes())?;
        Ok(fs::write(&directory.join(BUNDLE), format!("{bundle}\n").as_bytes())?)
    }
}

impl PublicKey {
    /// Reads a key in PEM (`BEGIN PUBLIC KEY`), as `openssl pkey -pubout` and `cosign` write it.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let key = VerifyingKey::from_public_key_pem(&read_text(path)?);
        let why = "no public key for P-256 in PEM";
        let key = key.map_err(|_| Error::Key { path: path.to_owned(), why })?;
        Ok(PublicKey { key, path: path.to_owned() })
    }

    /// SHA-256 of the key as `openssl pkey -pubin -outform DER` writes it.
    pub fn fingerprint(&self) -> Digest {
        let der = self.key.to_public_key_der().expect("a point of the curve can be encoded");
        Digest::sha256(der.as_bytes())
    }

    /// Refuses a document that this key did not sign.
    pub(super) fn check(&self, directory: &Path, document: &[u8]) -> Result<(), Error> {
        let path = directory.join(SIGNATURE);
        let wrong = |why| Error::Signature { path: directory.join(CARRY), key: self.path.clone(), why };
        let bytes = match fs::read(&path, LIMIT) {
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => return Err(wrong("it is not signed")),
            read => read?,
        };
        let signature = DerSignature::try_from(&bytes[..]).map_err(|_| wrong("carry.json.sig is no signature"))?;
        self.key.verify(document, &signature).map_err(|_| wrong("another key signed it, or it was changed"))
    }
}

fn read_text(path: &Path) -> Result<String, Error> {
    let why = "not PEM";
    String::from_utf8(fs::read(path, LIMIT)?).map_err(|_| Error::Key { path: path.to_owned(), why })
}

/// The signature, beside `carry.json`.
pub(super) const SIGNATURE: &str = "carry.json.sig";
/// The bundle, beside it.
pub(super) const BUNDLE: &str = "carry.sigstore.json";
/// Bytes of a key or a signature, at most.
const LIMIT: u64 = 64 << 10;
