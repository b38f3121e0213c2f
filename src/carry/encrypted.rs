//! Private keys as `cosign generate-key-pair` writes them: JSON in PEM, encrypted with a password.
//!
//! ```text
//! { "kdf": { "name": "scrypt", "params": { "N": 65536, "r": 8, "p": 1 }, "salt": base64 },
//!   "cipher": { "name": "nacl/secretbox", "nonce": base64 }, "ciphertext": base64 }       in it, PKCS #8 as DER
//! ```
//!
//! See <https://github.com/secure-systems-lab/go-securesystemslib/tree/main/encrypted>.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_secretbox::aead::{Aead as _, KeyInit as _};
use crypto_secretbox::{Key, Nonce, XSalsa20Poly1305};
use serde::Deserialize;

#[derive(Deserialize)]
struct Encrypted {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Deserialize)]
struct Kdf {
    name: String,
    params: Params,
    salt: String,
}

#[derive(Deserialize)]
struct Params {
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
}

#[derive(Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

/// Whether a text in PEM is such a key.
pub(super) fn is_encrypted(pem: &str) -> bool {
    LABELS.iter().any(|label| pem.contains(&format!("-----BEGIN {label}-----")))
}

/// The key as DER; the error says what is wrong.
pub(super) fn decrypt(pem: &str, password: &[u8]) -> Result<Vec<u8>, &'static str> {
    let damaged = "a key of cosign's that is damaged";
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    let json = STANDARD.decode(body).map_err(|_| damaged)?;
    let key: Encrypted = serde_json::from_slice(&json).map_err(|_| damaged)?;
    let Params { n, r, p } = key.kdf.params;
    // What cosign writes takes 64 MiB; a key must not ask for all memory.
    if key.kdf.name != "scrypt" || key.cipher.name != "nacl/secretbox" {
        return Err("a key that is encrypted in a way that is not known");
    }
    let log_n = u8::try_from(n.checked_ilog2().filter(|_| n.is_power_of_two()).ok_or(damaged)?).map_err(|_| damaged)?;
    if log_n > 20 || r > 16 || p > 16 || n.saturating_mul(r.into()) > 1 << 21 {
        return Err("a key that asks for too much memory");
    }
    let params = scrypt::Params::new(log_n, r, p, 32).map_err(|_| damaged)?;
    let (salt, nonce) = (STANDARD.decode(key.kdf.salt).map_err(|_| damaged)?, STANDARD.decode(key.cipher.nonce));
    let nonce: [u8; 24] = nonce.ok().and_then(|nonce| nonce.try_into().ok()).ok_or(damaged)?;
    let mut secret = [0; 32];
    scrypt::scrypt(password, &salt, &params, &mut secret).map_err(|_| damaged)?;
    let ciphertext = STANDARD.decode(key.ciphertext).map_err(|_| damaged)?;
    let cipher = XSalsa20Poly1305::new(&Key::from(secret));
    cipher.decrypt(&Nonce::from(nonce), &ciphertext[..]).map_err(|_| "the password is wrong, or the key is damaged")
}

const LABELS: [&str; 2] = ["ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY"];
