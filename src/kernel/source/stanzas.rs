//! The `Packages` of an apt repository: a stanza each, of which only the wanted ones are taken apart.

use std::io::{self, BufRead, Read};

use url::Url;

use crate::digest::Digest;
use crate::kernel::checksum::Checksum;
use crate::kernel::package::{Format, Name, Package, Relations};
use crate::kernel::source::apt::join;
use crate::kernel::source::{Listing, Wanted};
use crate::kernel::unpack::deb::{checked, fields};
use crate::limits::{self, Count, PACKAGE_OVERHEAD};

/// Reads the stanzas of wanted packages; those of others are passed over without being taken apart.
pub(crate) fn parse_packages(mut reader: impl BufRead, base: &Url, wanted: Wanted) -> io::Result<Listing> {
    let mut listing = Listing::default();
    let mut stanza = Vec::new();
    let (mut count, mut kept) = (Count::new("packages", limits::PACKAGES), limits::kept());
    loop {
        stanza.clear();
        count.one()?;
        // Package stands first in all repositories that there are, so the rest of most stanzas need not be looked at.
        let first = line(&mut reader, &mut stanza)?;
        let name = stanza.strip_prefix(b"Package:").map(<[u8]>::trim_ascii);
        if name.is_some_and(|name| str::from_utf8(name).is_ok_and(|name| !wanted.admits(name))) {
            skip_stanza(&mut reader)?;
            continue;
        }
        let mut last = first;
        while last == Line::Text {
            last = line(&mut reader, &mut stanza)?;
        }
        let text = String::from_utf8_lossy(&stanza);
        checked(&text)?;
        match package(&text, base, wanted) {
            Ok(Some(package)) => {
                kept.several(stanza.len() + PACKAGE_OVERHEAD)?;
                listing.packages.push(package);
            }
            Ok(None) => {}
            Err(problem) => {
                kept.several(problem.len())?;
                listing.problems.push(problem);
            }
        }
        if last == Line::End {
            return Ok(listing);
        }
    }
}

/// What was read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    /// A line with something in it.
    Text,
    /// Nothing but blanks, which ends a stanza; also with the end of line of other systems.
    Blank,
    /// The end of the file.
    End,
}

/// Appends a line with its end.
fn line(reader: &mut impl BufRead, stanza: &mut Vec<u8>) -> io::Result<Line> {
    let before = stanza.len();
    let n = reader.by_ref().take(STANZA_LIMIT).read_until(b'\n', stanza)?;
    if stanza.len() as u64 > STANZA_LIMIT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a stanza is too long"));
    }
    Ok(match stanza[before..].iter().all(u8::is_ascii_whitespace) {
        true if n == 0 => Line::End,
        true => Line::Blank,
        false => Line::Text,
    })
}

/// Passes over the rest of a stanza and the empty line behind it.
fn skip_stanza(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        // Whether a line is blank is told by its beginning.
        let buffer = reader.fill_buf()?;
        let Some(first) = buffer.first() else { return Ok(()) };
        if first.is_ascii_whitespace() {
            let mut text = Vec::new();
            if line(reader, &mut text)? != Line::Text {
                return Ok(());
            }
        } else {
            reader.skip_until(b'\n')?;
        }
    }
}

/// The package of a stanza, none where none is wanted, or what is wrong with it.
fn package(stanza: &str, base: &Url, wanted: Wanted) -> Result<Option<Package>, String> {
    let fields = fields(stanza);
    let field = |name: &str| fields.get(name).map(String::as_str);
    if fields.is_empty() {
        return Ok(None);
    }
    let called = field("package").ok_or_else(|| "a stanza without `Package`".to_owned())?;
    if !wanted.admits(called) {
        return Ok(None);
    }
    let stated = |name: &str| field(name).ok_or_else(|| format!("{called}: it has no `{name}`"));
    let version = stated("version")?;
    let version = version.split_once(':').map_or(version, |(_, version)| version);
    let name = Name {
        name: called.to_owned(),
        version: version.to_owned(),
        architecture: stated("architecture")?.to_owned(),
        format: Format::Deb,
    };
    // The parts become a file's name here and must be one.
    if name.to_string().parse::<Name>().ok().as_ref() != Some(&name) {
        return Err(format!("{called}: its name is none of a file"));
    }
    let path = stated("filename")?;
    if path.split('/').all(|part| matches!(part, "" | ".")) {
        return Err(format!("{called}: its `Filename` is none"));
    }
    let location = join(base, path).map_err(|_| format!("{called}: `{path}` leads out of the repository"))?;
    let sha256: Option<Digest> = field("sha256").and_then(|hex| format!("sha256:{hex}").parse().ok());
    let others = OTHER_KINDS.iter().find_map(|kind| Checksum::new(kind, field(kind)?));
    Ok(Some(Package {
        name,
        location: location.into(),
        size: field("size").and_then(|size| size.parse().ok()),
        is_digest_stated: sha256.is_some(),
        checksum: others.filter(|_| sha256.is_none()),
        sha256,
        relations: Some(Relations::from_deb_fields(&fields)),
        vendor: None,
    }))
}

const STANZA_LIMIT: u64 = limits::DOCUMENT;

/// The digests of a package that may be stated in place of SHA-256, the strongest first.
const OTHER_KINDS: [&str; 4] = ["sha512", "sha384", "sha1", "md5sum"];

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn only_kernel_stanzas_are_read_whatever_stands_between_them() {
        let other = "Package: bash\nVersion: 5.2-1\nDescription: shell\n more\n .\n text\n\n";
        let kernel = |n: u32| {
            format!(
                "Package: linux-headers-6.1.0-{n}-amd64\nVersion: 1:6.1.4-1\nArchitecture: amd64\n\
                 Depends: linux-headers-6.1.0-{n}-common (= 6.1.4-1)\nFilename: pool/l/x+{n}.deb\nSize: {n}\nSHA256: {n:064x}\n\n"
            )
        };
        let unfit = "Package: linux-a/b\nVersion: 1\nArchitecture: amd64\nFilename: x\n\n";
        let nowhere = "Package: linux-a\nVersion: 1\nArchitecture: amd64\nFilename: ./\n\n";
        let text = [other, &kernel(1), other, other, unfit, nowhere, &kernel(2), other, kernel(3).trim_end()].concat();
        let base = "https://h/debian".parse().unwrap();
        for capacity in [1, 7, 64, 1 << 16] {
            let read = |wanted| parse_packages(BufReader::with_capacity(capacity, text.as_bytes()), &base, wanted);
            let Listing { packages, problems, .. } = read(Wanted::Kernels).unwrap();
            assert_eq!(problems, ["linux-a/b: its name is none of a file", "linux-a: its `Filename` is none"]);
            let names: Vec<String> = packages.iter().map(|package| package.name.to_string()).collect();
            let expected: Vec<String> =
                (1..4).map(|n| format!("linux-headers-6.1.0-{n}-amd64_6.1.4-1_amd64.deb")).collect();
            assert_eq!(names, expected, "{capacity}");
            assert_eq!(packages[0].location, "https://h/debian/pool/l/x+1.deb");
            assert_eq!((packages[1].size, packages[1].sha256.is_some()), (Some(2), true));
            // A stanza without a place or with a name that is no file's is left out even then.
            let all = read(Wanted::All).unwrap();
            assert_eq!((all.packages.len(), all.problems.len()), (3, 6));
            // What another system wrote, and blanks in lines that should be empty.
            for text in
                [text.replace('\n', "\r\n"), text.replace("\n\n", "\n \t\n"), text.replace("\n\n", "\n\n\n# x\n")]
            {
                let reader = BufReader::with_capacity(capacity, text.as_bytes());
                let other = parse_packages(reader, &base, Wanted::Kernels).unwrap();
                assert_eq!(other.packages, packages, "{text:?}");
            }
        }
    }
}
