//! Mozilla's certificate authorities as one PEM file, for images without a base.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The PEM file, as other distributions have it in `/etc/ssl/certs/ca-certificates.crt`.
pub fn pem() -> Vec<u8> {
    let mut pem = Vec::new();
    for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        pem.extend_from_slice(b"-----BEGIN CERTIFICATE-----\n");
        for line in STANDARD.encode(certificate).as_bytes().chunks(64) {
            pem.extend_from_slice(line);
            pem.push(b'\n');
        }
        pem.extend_from_slice(b"-----END CERTIFICATE-----\n");
    }
    pem
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rustls::pki_types::CertificateDer;

    use super::*;

    #[test]
    fn every_certificate_is_found_again_by_the_loader_of_the_platforms_roots() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca-certificates.crt");
        crate::fs::write(&file, &pem()).unwrap();
        let loaded = rustls_native_certs::load_certs_from_paths(Some(&file), None);
        let sorted = |certificates: &[CertificateDer<'static>]| {
            certificates.iter().map(|certificate| certificate.to_vec()).collect::<BTreeSet<_>>()
        };
        assert!(loaded.errors.is_empty(), "{:?}", loaded.errors);
        assert!(loaded.certs.len() > 100);
        assert_eq!(sorted(&loaded.certs), sorted(webpki_root_certs::TLS_SERVER_ROOT_CERTS));
    }
}
