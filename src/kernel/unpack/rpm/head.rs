//! What an rpm says before its payload: its name, what it needs and offers, and whether the header is what it was.

use std::io::{Cursor, Read};

use rpm::signature::Verifying;
use rpm::signature::pgp::Verifier;
use rpm::{IndexSignatureTag, PackageMetadata};

use crate::kernel::classify::release_of;
use crate::kernel::package::{Comparison, Format, Name, Relation, Relations};
use crate::kernel::unpack::rpm::header::{take, take_header};
use crate::kernel::unpack::{Check, Checks, Error};

/// The beginning of an rpm, up to the payload.
pub(crate) struct Head {
    pub(super) metadata: PackageMetadata,
    /// The bytes of the main header, which a signature covers.
    pub(super) header: Vec<u8>,
}

impl Head {
    /// Reads lead and headers; the reader stands at the payload then.
    ///
    /// Sizes and offsets are looked at before anything is believed: the parser behind takes them as they are.
    pub(crate) fn read(reader: &mut impl Read) -> Result<Self, Error> {
        let mut bytes = Vec::new();
        take(reader, LEAD, &mut bytes)?;
        if !bytes.starts_with(&[0xed, 0xab, 0xee, 0xdb]) {
            return Err(Error::Malformed("it does not begin like an rpm"));
        }
        let size = take_header(reader, &mut bytes)?;
        take(reader, size.next_multiple_of(8) - size, &mut bytes)?;
        let start = bytes.len();
        take_header(reader, &mut bytes)?;
        let header = bytes[start..].to_vec();
        let metadata = PackageMetadata::parse(&mut Cursor::new(bytes)).map_err(Error::rpm)?;
        Ok(Head { metadata, header })
    }

    /// The package's name as its header has it.
    pub(crate) fn name(&self) -> Result<Name, Error> {
        let rpm = &self.metadata;
        let architecture =
            if rpm.is_source_package() { "src".to_owned() } else { rpm.get_arch().map_err(Error::rpm)?.to_owned() };
        let name = Name {
            name: rpm.get_name().map_err(Error::rpm)?.to_owned(),
            version: format!("{}-{}", rpm.get_version().map_err(Error::rpm)?, rpm.get_release().map_err(Error::rpm)?),
            architecture,
            format: Format::Rpm,
        };
        // The parts become file names: they must be such.
        name.to_string().parse().map_err(|_| Error::Malformed("the name in its header is none"))
    }

    /// Who made it.
    pub(crate) fn vendor(&self) -> Option<String> {
        self.metadata.get_vendor().ok().map(str::to_owned)
    }

    /// What it needs and offers. A list that is there and cannot be read is an error: taken for none, it would leave out what the
    /// package needs.
    pub(crate) fn relations(&self) -> Result<Relations, Error> {
        let relation = |dependency: rpm::Dependency| {
            use rpm::DependencyFlags as Flags;
            let bits = dependency.flags & (Flags::LESS | Flags::GREATER | Flags::EQUAL);
            let comparison = match () {
                () if bits == Flags::EQUAL => Some(Comparison::Equal),
                () if bits == Flags::GREATER | Flags::EQUAL => Some(Comparison::AtLeast),
                () if bits == Flags::LESS | Flags::EQUAL => Some(Comparison::AtMost),
                () if bits == Flags::GREATER => Some(Comparison::Later),
                () if bits == Flags::LESS => Some(Comparison::Earlier),
                () => None,
            };
            Relation { name: dependency.name, version: comparison.map(|comparison| (comparison, dependency.version)) }
        };
        let list = |dependencies: Result<Vec<rpm::Dependency>, _>| {
            Ok::<_, Error>(dependencies.map_err(Error::rpm)?.into_iter().map(relation))
        };
        let paths = self.metadata.get_file_paths().map_err(Error::rpm)?;
        let release = release_of(paths.iter().filter_map(|path| path.to_str()));
        let paths = paths.iter().filter_map(|path| path.to_str()).filter(|path| may_be_required(path));
        let paths = paths.map(|path| Relation { name: path.to_owned(), version: None });
        Ok(Relations {
            depends: list(self.metadata.get_requires())?.map(|relation| vec![relation]).collect(),
            provides: list(self.metadata.get_provides())?.chain(paths).collect(),
            conflicts: list(self.metadata.get_conflicts())?.collect(),
            obsoletes: list(self.metadata.get_obsoletes())?.collect(),
            epoch: self.metadata.get_epoch().unwrap_or(0),
            release,
        })
    }

    /// How large the payload is, compressed, in bytes: what the signature header says of header and payload together.
    pub(super) fn payload_size(&self) -> Option<u64> {
        let signature = &self.metadata.signature;
        let both = match signature.get_entry_data_as_u64(IndexSignatureTag::RPMSIGTAG_LONGSIZE) {
            Ok(size) => size,
            Err(_) => u64::from(signature.get_entry_data_as_u32(IndexSignatureTag::RPMSIGTAG_SIZE).ok()?),
        };
        both.checked_sub(self.header.len() as u64)
    }

    /// Compares the header with its own digests and, with keys, its signatures.
    pub(super) fn check(&self, keys: Option<&Verifier>, checks: &mut Checks) -> Result<(), Error> {
        let digests = self.metadata.check_digests().map_err(Error::rpm)?;
        for digest in [&digests.header_sha256, &digests.header_sha1, &digests.header_sha3_256] {
            if let rpm::DigestStatus::Mismatch { expected, actual } = digest {
                return Err(Error::Mismatch { what: "header", expected: expected.clone(), actual: actual.clone() });
            }
        }
        let strong = digests.header_sha256.is_verified() || digests.header_sha3_256.is_verified();
        checks.record(Check::HeaderDigest, strong);
        let Some(keys) = keys else {
            checks.record(Check::Signature, false);
            return Ok(());
        };
        let signatures = self.metadata.raw_signatures().map_err(Error::rpm)?;
        if signatures.is_empty() {
            return Err(Error::Unsigned);
        }
        let mut last = None;
        for signature in &signatures {
            match keys.verify(&self.header[..], signature) {
                Ok(()) => {
                    checks.record(Check::Signature, true);
                    return Ok(());
                }
                Err(error) => last = Some(error),
            }
        }
        Err(Error::BadSignature(Box::new(last.expect("there is at least one signature"))))
    }
}

/// Whether others may require this path: createrepo_c puts the same into `primary.xml`.
fn may_be_required(path: &str) -> bool {
    path.starts_with("/etc/") || path.contains("bin/") || path == "/usr/lib/sendmail"
}

const LEAD: usize = 96;
