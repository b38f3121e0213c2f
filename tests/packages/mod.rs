//! Packages built byte by byte, good ones and such as no tool would build.

use std::fs;
use std::io::Write;
use std::path::Path;

use haversack::digest::Digest;
use tar::EntryType;

/// A deb with gzip-compressed members.
pub(crate) struct Deb {
    name: String,
    version: String,
    architecture: String,
    depends: String,
    more: Vec<u8>,
    data: tar::Builder<flate2::write::GzEncoder<Vec<u8>>>,
}

impl Deb {
    pub(crate) fn new(name: &str, version: &str, architecture: &str) -> Self {
        let data = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        Deb {
            name: name.into(),
            version: version.into(),
            architecture: architecture.into(),
            depends: String::new(),
            more: Vec::new(),
            data,
        }
    }

    pub(crate) fn depends(mut self, depends: &str) -> Self {
        self.depends = format!("Depends: {depends}\n");
        self
    }

    /// A line of the control file, in whatever encoding.
    pub(crate) fn line(mut self, line: &[u8]) -> Self {
        self.more.extend_from_slice(line);
        self
    }

    pub(crate) fn file(self, name: &str, mode: u32, content: &[u8]) -> Self {
        self.raw_file(name.as_bytes(), mode, content)
    }

    /// A name as it is, which the tar writer would refuse.
    pub(crate) fn raw_file(mut self, name: &[u8], mode: u32, content: &[u8]) -> Self {
        let mut header = header(EntryType::Regular, mode, name);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.data.append(&header, content).unwrap();
        self
    }

    pub(crate) fn directory(self, name: &str, mode: u32) -> Self {
        self.special(EntryType::Directory, name, mode, "")
    }

    pub(crate) fn symlink(self, name: &str, to: &str) -> Self {
        self.special(EntryType::Symlink, name, 0o777, to)
    }

    pub(crate) fn hard_link(self, name: &str, to: &str) -> Self {
        self.special(EntryType::Link, name, 0o644, to)
    }

    pub(crate) fn device(self, name: &str) -> Self {
        self.special(EntryType::Char, name, 0o644, "")
    }

    pub(crate) fn zeros(mut self, name: &str, size: u64) -> Self {
        let mut header = header(EntryType::Regular, 0o644, name.as_bytes());
        header.set_size(size);
        header.set_cksum();
        self.data.append(&header, std::io::Read::take(std::io::repeat(0), size)).unwrap();
        self
    }

    fn special(mut self, kind: EntryType, name: &str, mode: u32, to: &str) -> Self {
        let mut header = header(kind, mode, name.as_bytes());
        header.as_old_mut().linkname[..to.len()].copy_from_slice(to.as_bytes());
        header.set_cksum();
        self.data.append(&header, &b""[..]).unwrap();
        self
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        let control = format!(
            "Package: {}\nVersion: {}\nArchitecture: {}\n{}Description: made up\n more of it\n",
            self.name, self.version, self.architecture, self.depends
        );
        let control = [control.as_bytes(), &self.more].concat();
        let mut head = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        let mut header = header(EntryType::Regular, 0o644, b"./control");
        header.set_size(control.len() as u64);
        header.set_cksum();
        head.append(&header, &control[..]).unwrap();
        let mut bytes = b"!<arch>\n".to_vec();
        for (name, member) in [
            ("debian-binary", b"2.0\n".to_vec()),
            ("control.tar.gz", head.into_inner().unwrap().finish().unwrap()),
            // dpkg passes over members that begin so.
            ("_gpgorigin", b"odd".to_vec()),
            ("data.tar.gz", self.data.into_inner().unwrap().finish().unwrap()),
        ] {
            writeln!(bytes, "{name:16}{:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, 0, 100_644, member.len()).unwrap();
            bytes.extend_from_slice(&member);
            bytes.resize(bytes.len().next_multiple_of(2), b'\n');
        }
        bytes
    }

    pub(crate) fn write(self, directory: &Path) {
        fs::create_dir_all(directory).unwrap();
        let file = format!("{}_{}_{}.deb", self.name, self.version, self.architecture);
        fs::write(directory.join(file), self.bytes()).unwrap();
    }
}

fn header(kind: EntryType, mode: u32, name: &[u8]) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(1);
    header.set_size(0);
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header
}

/// An rpm with an uncompressed payload.
pub(crate) struct Rpm {
    name: [String; 4],
    files: Vec<RpmFile>,
    is_twice: bool,
    payload_digest: Option<String>,
    header_digest: Option<String>,
    cut: usize,
    /// Every `é` in names is two bytes that are not UTF-8.
    is_latin: bool,
}

/// A file of an rpm; what the header says and what the payload has can differ.
#[derive(Clone)]
pub(crate) struct RpmFile {
    pub(crate) name: String,
    pub(crate) mode: u16,
    pub(crate) content: Vec<u8>,
    pub(crate) listed_target: Option<&'static str>,
    pub(crate) listed_size: Option<u32>,
    pub(crate) payload_name: Option<&'static str>,
    pub(crate) payload_mode: Option<u32>,
    pub(crate) in_payload: bool,
    pub(crate) has_data: bool,
    pub(crate) inode: u32,
    pub(crate) links: u32,
    pub(crate) ghost: bool,
    pub(crate) group: &'static str,
    pub(crate) capabilities: &'static str,
}

impl RpmFile {
    pub(crate) fn regular(name: &str, content: &[u8]) -> Self {
        RpmFile {
            name: name.into(),
            mode: 0o100_644,
            content: content.into(),
            listed_target: None,
            listed_size: None,
            payload_name: None,
            payload_mode: None,
            in_payload: true,
            has_data: true,
            inode: 0,
            links: 1,
            ghost: false,
            group: "root",
            capabilities: "",
        }
    }

    pub(crate) fn symlink(name: &str, to: &str) -> Self {
        RpmFile { mode: 0o120_777, ..RpmFile::regular(name, to.as_bytes()) }
    }
}

impl Rpm {
    pub(crate) fn new(name: &str, version: &str, release: &str, architecture: &str) -> Self {
        Rpm {
            name: [name, version, release, architecture].map(str::to_owned),
            files: Vec::new(),
            is_twice: false,
            is_latin: false,
            payload_digest: None,
            header_digest: None,
            cut: 0,
        }
    }

    pub(crate) fn with(mut self, mut file: RpmFile) -> Self {
        if file.inode == 0 {
            file.inode = 100 + self.files.len() as u32;
        }
        self.files.push(file);
        self
    }

    /// Puts the last file into the payload twice.
    pub(crate) fn twice(mut self) -> Self {
        self.is_twice = true;
        self
    }

    /// Has every `é` in its names be two bytes that are not UTF-8, as names of other encodings are.
    pub(crate) fn latin(mut self) -> Self {
        self.is_latin = true;
        self
    }

    fn encoded(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        for at in 1..bytes.len() {
            if self.is_latin && bytes[at - 1..=at] == *"é".as_bytes() {
                bytes[at - 1..=at].copy_from_slice(&[0xe9, 0xff]);
            }
        }
        bytes
    }

    pub(crate) fn payload_digest(mut self, hex: &str) -> Self {
        self.payload_digest = Some(hex.into());
        self
    }

    pub(crate) fn header_digest(mut self, hex: &str) -> Self {
        self.header_digest = Some(hex.into());
        self
    }

    /// Leaves out so many bytes at the end.
    pub(crate) fn cut(mut self, bytes: usize) -> Self {
        self.cut = bytes;
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let payload = self.encoded(self.payload());
        let files = || self.files.iter();
        let split = |file: &RpmFile| {
            let (directory, base) = file.name.rsplit_once('/').unwrap();
            (format!("{directory}/"), base.to_owned())
        };
        let text = |f: &dyn Fn(&RpmFile) -> String| Data::Texts(files().map(f).collect());
        let words = |f: &dyn Fn(&RpmFile) -> u32| Data::Words(files().map(f).collect());
        let halves = |f: &dyn Fn(&RpmFile) -> u16| Data::Halves(files().map(f).collect());
        let digest = self.payload_digest.clone().unwrap_or_else(|| Digest::sha256(&payload).hex().into());
        let [name, version, release, architecture] = &self.name;
        let header = section(
            63,
            vec![
                (1000, Data::Text(name.clone())),
                (1001, Data::Text(version.clone())),
                (1002, Data::Text(release.clone())),
                (1022, Data::Text(architecture.clone())),
                (1028, words(&|file| file.listed_size.unwrap_or(file.content.len() as u32))),
                (1030, halves(&|file| file.mode)),
                (1033, halves(&|_| 0)),
                (1034, words(&|_| 1)),
                (1035, text(&|_| String::new())),
                (
                    1036,
                    text(&|file| {
                        let target = String::from_utf8_lossy(&file.content).into_owned();
                        let is_link = file.mode & 0o170_000 == 0o120_000;
                        file.listed_target.map_or(if is_link { target } else { String::new() }, str::to_owned)
                    }),
                ),
                (1037, words(&|file| if file.ghost { 0x40 } else { 0 })),
                (1039, text(&|_| "root".into())),
                (1040, text(&|file| file.group.into())),
                (1044, Data::Text("kernel.src.rpm".into())),
                (1095, words(&|_| 1)),
                (1096, words(&|file| file.inode)),
                (1116, Data::Words((0..self.files.len() as u32).collect())),
                (1117, text(&|file| split(file).1)),
                (1118, text(&|file| split(file).0)),
                (5010, text(&|file| file.capabilities.into())),
                (5092, Data::Texts(vec![digest])),
            ],
        );
        let header = self.encoded(header);
        let header_digest = self.header_digest.clone().unwrap_or_else(|| Digest::sha256(&header).hex().into());
        let mut bytes = vec![0xed, 0xab, 0xee, 0xdb, 3, 0];
        bytes.resize(76, 0);
        bytes.extend_from_slice(&[0, 1, 0, 5]);
        bytes.resize(96, 0);
        bytes.extend_from_slice(&section(62, vec![(273, Data::Text(header_digest))]));
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(&payload);
        bytes.truncate(bytes.len() - self.cut);
        bytes
    }

    /// Where the main header begins.
    pub(crate) fn header_offset(bytes: &[u8]) -> usize {
        let magic = [0x8e, 0xad, 0xe8, 1];
        let found: Vec<usize> = (0..bytes.len() - 4).filter(|at| bytes[*at..at + 4] == magic).collect();
        found[1]
    }

    fn payload(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let again = self.files.last().filter(|_| self.is_twice);
        for file in self.files.iter().chain(again).filter(|file| file.in_payload) {
            let name = file.payload_name.map_or_else(|| format!(".{}", file.name), str::to_owned);
            let mode = file.payload_mode.unwrap_or(u32::from(file.mode));
            let content = if file.has_data { &file.content[..] } else { &[] };
            entry(&mut bytes, &name, mode, file.inode, file.links, content);
        }
        entry(&mut bytes, "TRAILER!!!", 0, 0, 1, b"");
        bytes
    }
}

fn entry(bytes: &mut Vec<u8>, name: &str, mode: u32, inode: u32, links: u32, content: &[u8]) {
    let fields = [inode, mode, 0, 0, links, 1, content.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
    bytes.extend_from_slice(b"070701");
    for field in fields {
        write!(bytes, "{field:08x}").unwrap();
    }
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

enum Data {
    Text(String),
    Texts(Vec<String>),
    Words(Vec<u32>),
    Halves(Vec<u16>),
}

/// A header structure with its region tag.
fn section(region: u32, entries: Vec<(u32, Data)>) -> Vec<u8> {
    let mut index = Vec::new();
    let mut store = Vec::new();
    let count = entries.len() as u32 + 1;
    for (tag, data) in entries {
        let (kind, items) = match &data {
            Data::Text(_) => (6, 1),
            Data::Texts(texts) => (8, texts.len()),
            Data::Words(words) => (4, words.len()),
            Data::Halves(halves) => (3, halves.len()),
        };
        if items == 0 {
            continue;
        }
        let align = match kind {
            4 => 4,
            3 => 2,
            _ => 1,
        };
        store.resize(store.len().next_multiple_of(align), 0);
        index.extend([tag, kind, store.len() as u32, items as u32].iter().flat_map(|word| word.to_be_bytes()));
        match data {
            Data::Text(text) => store.extend([text.as_bytes(), b"\0"].concat()),
            Data::Texts(texts) => store.extend(texts.iter().flat_map(|text| [text.as_bytes(), b"\0"].concat())),
            Data::Words(words) => store.extend(words.iter().flat_map(|word| word.to_be_bytes())),
            Data::Halves(halves) => store.extend(halves.iter().flat_map(|half| half.to_be_bytes())),
        }
    }
    let trailer = store.len() as u32;
    store.extend([region, 7, 0_u32.wrapping_sub(count * 16), 16].iter().flat_map(|word| word.to_be_bytes()));
    let mut bytes = vec![0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0];
    let entries = index.len() as u32 / 16 + 1;
    bytes.extend(entries.to_be_bytes());
    bytes.extend((store.len() as u32).to_be_bytes());
    bytes.extend([region, 7, trailer, 16].iter().flat_map(|word| word.to_be_bytes()));
    bytes.extend(index);
    bytes.extend(store);
    bytes
}
