//! How the writer of a stream cut it into writes, where that shows in what came out.

/// How the plain bytes arrived at an encoder whose output depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Writes {
    /// In pieces of 32 KiB, as Go's `io.Copy` has them.
    Copy,
    /// As Go's `tar.Writer` writes an archive (buildkit, containerd): headers, contents in pieces of 32 KiB, padding.
    Tar,
    /// As vbatts/tar-split puts an archive together again (`docker push`): all that is between contents at once.
    TarSplit,
}

/// Tells where writes begin.
pub(super) struct Cutter {
    writes: Writes,
    /// What is left of the part that is being written.
    left: usize,
    /// The header that comes, as far as it is there.
    header: Vec<u8>,
    /// Bytes of the entry and of the padding after it that are still to come.
    content: u64,
    padding: usize,
    /// Whether the entry is an extended header: content of which the format itself knows.
    is_extension: bool,
    /// Whether what is between contents has begun.
    is_between: bool,
}

const PIECE: usize = 32 << 10;
const TAR_BLOCK: usize = 512;

impl Cutter {
    pub(super) fn new(writes: Writes) -> Self {
        Cutter { writes, left: 0, header: Vec::new(), content: 0, padding: 0, is_extension: false, is_between: false }
    }

    /// How many of the bytes that come next belong together, and whether a write begins with them. At least one if there
    /// are any.
    pub(super) fn next(&mut self, data: &[u8]) -> (usize, bool) {
        let begins = self.left == 0 && self.begin_part();
        let length = data.len().min(self.left);
        self.left -= length;
        if self.header.len() < TAR_BLOCK && self.writes != Writes::Copy {
            self.header.extend_from_slice(&data[..length]);
            if self.header.len() == TAR_BLOCK {
                self.read_header();
            }
        }
        (length, begins)
    }

    /// Sets out for the next part, and says whether it is also the next write.
    fn begin_part(&mut self) -> bool {
        if self.writes == Writes::Copy {
            self.left = PIECE;
            return true;
        }
        if self.content > 0 {
            let most = if self.is_extension { usize::MAX } else { PIECE };
            self.left = most.min(usize::try_from(self.content).unwrap_or(usize::MAX));
            self.content -= self.left as u64;
            if !self.is_extension {
                self.is_between = false;
                return true;
            }
        } else if self.padding > 0 {
            self.left = std::mem::take(&mut self.padding);
        } else {
            self.left = TAR_BLOCK;
            self.header.clear();
        }
        !std::mem::replace(&mut self.is_between, true) || self.writes == Writes::Tar
    }

    fn read_header(&mut self) {
        if self.header.iter().all(|byte| *byte == 0) {
            return;
        }
        // What is no number is no header of a tar: then anything goes, as long as it is bytes.
        let field = &self.header[124..136];
        let size = match field {
            [0x80, high @ .., _, _, _, _, _, _, _, _] if high.iter().all(|byte| *byte == 0) => {
                u64::from_be_bytes(field[4..].try_into().expect("eight bytes"))
            }
            _ => {
                let text = str::from_utf8(field).unwrap_or_default();
                u64::from_str_radix(text.trim_matches([' ', '\0']), 8).unwrap_or(0)
            }
        };
        self.is_extension = matches!(self.header[156], b'x' | b'g' | b'L' | b'K');
        // Links and directories have none, whatever they say.
        self.content = if matches!(self.header[156], b'1'..=b'6') { 0 } else { size };
        self.padding = (self.content.wrapping_neg() % TAR_BLOCK as u64) as usize;
        if !self.is_extension {
            self.is_between = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths of the writes of a stream that arrives in pieces of `size`.
    fn cut(writes: Writes, stream: &[u8], size: usize) -> Vec<usize> {
        let mut cutter = Cutter::new(writes);
        let mut lengths = Vec::new();
        for mut piece in stream.chunks(size) {
            while !piece.is_empty() {
                let (length, begins) = cutter.next(piece);
                if begins {
                    lengths.push(0);
                }
                *lengths.last_mut().unwrap() += length;
                piece = &piece[length..];
            }
        }
        lengths
    }

    #[test]
    fn an_archive_is_cut_as_its_writers_cut_it() {
        let header = |kind: u8, size: usize| {
            let mut header = vec![0; 512];
            header[..4].copy_from_slice(b"name");
            header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
            header[156] = kind;
            header
        };
        let stream = [
            header(b'0', 70_000),
            vec![1; 70_000 + 144],
            header(b'5', 0),
            header(b'x', 600),
            vec![2; 1024],
            header(b'0', 512),
            vec![3; 512],
            header(b'2', 0),
            vec![0; 1024],
        ]
        .concat();
        for size in [1, 511, 10_000, stream.len()] {
            let copy = cut(Writes::Copy, &stream, size);
            assert_eq!(copy, [32_768, 32_768, stream.len() - 65_536]);
            let tar = cut(Writes::Tar, &stream, size);
            assert_eq!(tar, [512, 32_768, 32_768, 4464, 144, 512, 512, 600, 424, 512, 512, 512, 512, 512]);
            let split = cut(Writes::TarSplit, &stream, size);
            assert_eq!(split, [512, 32_768, 32_768, 4464, 656, 512 + 1024 + 512, 512, 512, 1024]);
        }
        // No archive: still every byte, once.
        let noise: Vec<u8> = (0..100_000u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
        for writes in [Writes::Tar, Writes::TarSplit] {
            assert_eq!(cut(writes, &noise, 777).iter().sum::<usize>(), noise.len());
        }
    }
}
