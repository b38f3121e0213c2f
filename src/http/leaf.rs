//! A server's certificate that is, byte for byte, among the authorities that were given.
//!
//! Docker's documentation has registries make one certificate with `openssl req -x509` and give it to clients as an authority. It
//! says of itself that it is one (`CA:TRUE`), and webpki takes no authority for a server. curl, OpenSSL and Go do, and there is no
//! reason not to: whoever gave the file means this very server.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// A client's settings that trust `roots`, and servers that show one of the `given` certificates themselves.
pub(super) fn config(
    roots: &[CertificateDer<'static>],
    given: &[CertificateDer<'static>],
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Result<ClientConfig, Box<dyn std::error::Error + Send + Sync>> {
    let provider = Arc::new(ring::default_provider());
    let mut store = RootCertStore::empty();
    // A host's store may hold certificates that rustls does not take; one of them must not cost the others.
    store.add_parsable_certificates(roots.iter().cloned());
    for authority in given {
        store.add(authority.clone())?;
    }
    let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone()).build()?;
    let verifier = Arc::new(Verifier { chains, given: given.to_vec() });
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[derive(Debug)]
struct Verifier {
    chains: Arc<WebPkiServerVerifier>,
    given: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // webpki looks at the dates before it looks at this, and at nothing else afterwards but the name and the chain.
            Err(Error::InvalidCertificate(CertificateError::Other(why)))
                if why.to_string() == AUTHORITY && self.given.iter().any(|given| given == end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// What webpki calls an authority that is shown by a server.
const AUTHORITY: &str = "CaUsedAsEndEntity";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    fn certificate(is_ca: bool) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["reg.example".to_owned()]).unwrap();
        if is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2027, 1, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn a_certificate_that_was_given_is_that_of_its_server_within_its_dates_and_names() {
        let at = |year: u64| UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * 31_556_952 + 86_400 * 90));
        for is_ca in [true, false] {
            let (given, other) = (certificate(is_ca), certificate(is_ca));
            let verifier = |trusted: &CertificateDer<'static>| {
                let mut store = RootCertStore::empty();
                store.add(trusted.clone()).unwrap();
                let provider = Arc::new(ring::default_provider());
                let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider).build().unwrap();
                Verifier { chains, given: vec![trusted.clone()] }
            };
            for (case, trusted, name, year, is_taken) in [
                ("itself", &given, "reg.example", 2026, true),
                ("another one", &other, "reg.example", 2026, false),
                ("another name", &given, "other.example", 2026, false),
                ("too early", &given, "reg.example", 2025, false),
                ("too late", &given, "reg.example", 2028, false),
            ] {
                let name = ServerName::try_from(name).unwrap();
                let result = verifier(trusted).verify_server_cert(&given, &[], &name, &[], at(year));
                assert_eq!(result.is_ok(), is_taken, "{case}, an authority: {is_ca}: {result:?}");
            }
        }
    }
}
