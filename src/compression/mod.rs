//! The compressed streams of this field: told by their first bytes, read with a limit, written deterministically.
//!
//! One implementation each: gzip by zlib-rs, zstd and xz by their own libraries (linked in), bzip2 by its Rust port.
//! The same input, compressor and level give the same bytes, whatever the machine: zstd is never run multi-threaded in
//! a way that would let the number of cores change the output. What other programs' gzip writers make is in [`encode`].

pub mod encode;

use std::io::{self, BufRead, Read, Write};
use std::sync::mpsc;
use std::thread;

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952; layers, Packages.gz, old RPMs.
    Gzip,
    /// RFC 8878; layers and everything made lately.
    Zstd,
    /// The .xz format; Debian packages and RPMs.
    Xz,
    /// The older .lzma format, in some RPMs.
    Lzma,
    /// bzip2; old RPMs.
    Bzip2,
}

impl Compression {
    /// Tells the compression by the first bytes of a stream; six are enough.
    pub fn detect(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            // A skippable frame (RFC 8878, 3.1.2): what estargz-like and seekable writers may put first.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Compression::Bzip2,
            // .lzma has no magic: properties byte 0x5d, then a dictionary size that is a power of two in practice.
            [0x5d, 0, 0, _, _, _, ..] => Compression::Lzma,
            _ => Compression::None,
        }
    }

    /// A reader of the decompressed stream.
    pub fn decoder<'a>(self, inner: impl BufRead + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
        Ok(match self {
            Compression::None => Box::new(inner),
            Compression::Gzip => Box::new(GzipMembers { member: Some(flate2::bufread::GzDecoder::new(inner)) }),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(inner)?;
                // Up to 128 MiB of window, as `zstd -d --long=27` and as registries' clients accept; more could be a
                // bomb on memory.
                decoder.window_log_max(27)?;
                Box::new(decoder)
            }
            Compression::Xz => {
                let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(inner, stream))
            }
            Compression::Lzma => {
                let stream = liblzma::stream::Stream::new_lzma_decoder(XZ_MEMORY)?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(inner, stream))
            }
            Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(inner)),
        })
    }
}

/// The members of a gzip file, one after the other. Zeros after the last are padding, as for gzip itself: what was on a tape,
/// or written in blocks.
struct GzipMembers<R: BufRead> {
    member: Option<flate2::bufread::GzDecoder<R>>,
}

impl<R: BufRead> Read for GzipMembers<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(member) = &mut self.member else { return Ok(0) };
            let n = member.read(buf)?;
            if n > 0 || buf.is_empty() {
                return Ok(n);
            }
            let mut inner = self.member.take().expect("it is here").into_inner();
            let mut is_padded = false;
            loop {
                let rest = inner.fill_buf()?;
                let zeros = rest.iter().take_while(|byte| **byte == 0).count();
                match rest.get(zeros) {
                    None if rest.is_empty() => return Ok(0),
                    None => {
                        is_padded = true;
                        inner.consume(zeros);
                    }
                    // What follows padding is no member, and silence about it would lose it.
                    Some(_) if is_padded || zeros > 0 => {
                        return Err(io::Error::new(io::ErrorKind::InvalidData, "something else after the padding"));
                    }
                    Some(_) => break,
                }
            }
            self.member = Some(flate2::bufread::GzDecoder::new(inner));
        }
    }
}

/// Detects the compression of a stream and returns it with a reader of what is inside.
pub fn decoder<'a>(mut inner: impl BufRead + Send + 'a) -> io::Result<(Compression, Box<dyn Read + Send + 'a>)> {
    let compression = Compression::detect(inner.fill_buf()?);
    Ok((compression, compression.decoder(inner)?))
}

/// Hands `work` what `inner` reads, which a thread of its own does some chunks ahead: decompression there and what is made
/// of it here take the longer of their two times instead of the sum.
///
/// What was read of `inner` when `work` ends early is not known. An error of `inner` takes the place of the chunk that it
/// broke.
pub fn read_ahead<T>(mut inner: impl Read + Send, work: impl FnOnce(&mut Ahead) -> T) -> T {
    let (filled, chunks) = mpsc::sync_channel(CHUNKS_AHEAD);
    let (empty, spent) = mpsc::channel::<Vec<u8>>();
    thread::scope(|scope| {
        scope.spawn(move || {
            loop {
                let mut chunk = spent.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK));
                chunk.clear();
                let read = inner.by_ref().take(CHUNK as u64).read_to_end(&mut chunk);
                let is_last = !matches!(read, Ok(n) if n > 0);
                // When the other side is gone, nobody wants the rest.
                if filled.send(read.map(|_| chunk)).is_err() || is_last {
                    return;
                }
            }
        });
        work(&mut Ahead { chunks, empty, chunk: Vec::new(), at: 0 })
    })
}

/// The reading end of [`read_ahead`].
pub struct Ahead {
    chunks: mpsc::Receiver<io::Result<Vec<u8>>>,
    empty: mpsc::Sender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
}

impl BufRead for Ahead {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.chunk.len() {
            // After the last chunk and after an error there is nothing more.
            let Ok(chunk) = self.chunks.recv() else { return Ok(&[]) };
            let spent = std::mem::replace(&mut self.chunk, chunk?);
            self.at = 0;
            let _ended = self.empty.send(spent);
        }
        Ok(&self.chunk[self.at..])
    }

    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

impl Read for Ahead {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(buf)?;
        self.consume(n);
        Ok(n)
    }
}

/// Writes a compressed stream; [`Encoder::finish`] gives the writer back.
pub enum Encoder<W: Write> {
    /// Passes through.
    None(W),
    /// gzip without name and time.
    Gzip(InPieces<flate2::write::GzEncoder<W>>),
    /// zstd with a checksum.
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

impl<W: Write> Encoder<W> {
    /// Starts a stream. `level` is the compressor's own scale (gzip 0 to 9, zstd 1 to 19), `None` its default.
    ///
    /// Only what layers are written in can be written: none, gzip and zstd. Others are an error.
    pub fn new(inner: W, compression: Compression, level: Option<i32>) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Encoder::None(inner),
            Compression::Gzip => {
                let level = u32::try_from(level.unwrap_or(6).clamp(0, 9)).expect("clamped to 0..=9");
                let encoder = flate2::GzBuilder::new().write(inner, flate2::Compression::new(level));
                Encoder::Gzip(InPieces::new(encoder))
            }
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(inner, level.unwrap_or(3))?;
                encoder.include_checksum(true)?;
                Encoder::Zstd(encoder)
            }
            Compression::Xz | Compression::Lzma | Compression::Bzip2 => {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "layers are written as gzip, zstd or plain tar",
                ));
            }
        })
    }

    /// Ends the stream and returns the writer underneath.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Encoder::None(inner) => Ok(inner),
            Encoder::Gzip(pieces) => pieces.finish()?.finish(),
            Encoder::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Encoder::None(inner) => inner.write(buf),
            Encoder::Gzip(encoder) => encoder.write(buf),
            Encoder::Zstd(encoder) => encoder.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Encoder::None(inner) => inner.flush(),
            Encoder::Gzip(encoder) => encoder.flush(),
            Encoder::Zstd(encoder) => encoder.flush(),
        }
    }
}

/// Hands on what is written in pieces of 64 KiB, whatever the writes: what zlib-rs makes depends on how it is written, and the same
/// bytes have to give the same layer.
pub struct InPieces<W> {
    inner: W,
    piece: Vec<u8>,
}

impl<W: Write> InPieces<W> {
    /// Writes to `inner`.
    pub fn new(inner: W) -> Self {
        InPieces { inner, piece: Vec::with_capacity(PIECE) }
    }

    /// Hands on the last piece and returns the writer underneath.
    pub fn finish(mut self) -> io::Result<W> {
        self.last_piece()?;
        Ok(self.inner)
    }

    /// Hands on the last piece; nothing is to be written after it.
    pub fn last_piece(&mut self) -> io::Result<&mut W> {
        self.inner.write_all(&self.piece)?;
        self.piece.clear();
        Ok(&mut self.inner)
    }

    /// The writer underneath, which lacks the last piece.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.inner
    }
}

impl<W: Write> Write for InPieces<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let taken = buf.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&buf[..taken]);
        if self.piece.len() == PIECE {
            self.inner.write_all(&self.piece)?;
            self.piece.clear();
        }
        Ok(taken)
    }

    /// What it makes is another then.
    fn flush(&mut self) -> io::Result<()> {
        self.last_piece()?.flush()
    }
}

/// Bytes of a piece.
const PIECE: usize = 64 << 10;

/// Ends with an error when more than `limit` bytes come out of `inner`: what stands between us and a bomb.
pub struct LimitedReader<R> {
    inner: R,
    left: u64,
    limit: u64,
}

impl<R: Read> LimitedReader<R> {
    /// Passes through at most `limit` bytes.
    pub fn new(inner: R, limit: u64) -> Self {
        LimitedReader { inner, left: limit, limit }
    }
}

impl<R: Read> Read for LimitedReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.left = self.left.checked_sub(n as u64).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("decompresses to more than the limit of {} bytes", self.limit),
            )
        })?;
        Ok(n)
    }
}

/// What xz may allocate: enough for the largest dictionary of `xz -9` (64 MiB) and some.
const XZ_MEMORY: u64 = 128 << 20;

/// How far [`read_ahead`] goes: enough to even out a reader and a user that take turns in being slow.
const CHUNKS_AHEAD: usize = 8;
const CHUNK: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_detected_and_read_back_and_is_the_same_each_time() {
        let text = b"kernel-devel ".repeat(1000);
        for (compression, level) in [
            (Compression::None, None),
            (Compression::Gzip, None),
            (Compression::Gzip, Some(9)),
            (Compression::Zstd, None),
            (Compression::Zstd, Some(19)),
        ] {
            let write = || {
                let mut encoder = Encoder::new(Vec::new(), compression, level).unwrap();
                encoder.write_all(&text).unwrap();
                encoder.finish().unwrap()
            };
            let bytes = write();
            assert_eq!(bytes, write());
            let (detected, mut reader) = decoder(&bytes[..]).unwrap();
            let mut back = Vec::new();
            reader.read_to_end(&mut back).unwrap();
            assert_eq!((detected, back == text), (compression, true));
        }
    }

    #[test]
    fn members_of_gzip_follow_each_other_and_padding_ends_them() {
        let member = |text: &[u8]| {
            let mut encoder = Encoder::new(Vec::new(), Compression::Gzip, None).unwrap();
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        };
        let two = [member(b"one "), member(b""), member(b"two")].concat();
        for (tail, expected) in [
            (&[][..], Ok("one two")),
            (&[0; 3], Ok("one two")),
            (&[0; 100_000], Ok("one two")),
            (b"x", Err("unexpected end of file")),
            (b"something else", Err("invalid gzip header")),
            (b"\0\0x", Err("something else after the padding")),
        ] {
            let bytes = [&two, tail].concat();
            let mut text = String::new();
            let (_, mut reader) = decoder(io::BufReader::with_capacity(64, &bytes[..])).unwrap();
            let read = reader.read_to_string(&mut text).map(|_| &*text).map_err(|error| error.to_string());
            assert_eq!(read, expected.map_err(str::to_owned));
        }
        let cut = &two[..two.len() - 3];
        assert!(io::copy(&mut decoder(cut).unwrap().1, &mut io::sink()).is_err());
    }

    #[test]
    fn more_than_the_limit_is_an_error_and_exactly_the_limit_is_not() {
        let read = |limit| io::copy(&mut LimitedReader::new(&b"12345"[..], limit), &mut io::sink());
        assert_eq!(read(5).unwrap(), 5);
        assert_eq!(read(4).unwrap_err().to_string(), "decompresses to more than the limit of 4 bytes");
    }

    #[test]
    fn what_is_read_ahead_is_the_same_and_its_errors_arrive_behind_what_came_before_them() {
        let text: Vec<u8> = (0..5 * CHUNK as u32 / 4 + 1).flat_map(u32::to_be_bytes).collect();
        for size in [0, 1, CHUNK, CHUNK + 1, text.len()] {
            let mut back = Vec::new();
            read_ahead(&text[..size], |ahead| ahead.read_to_end(&mut back).map(|_| ())).unwrap();
            assert!(back == text[..size], "{size}");
        }
        let mut back = Vec::new();
        let limited = LimitedReader::new(&text[..], 2 * CHUNK as u64);
        let error = read_ahead(limited, |ahead| ahead.read_to_end(&mut back)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert!(back == text[..back.len()] && back.len() <= 2 * CHUNK);
        // Whoever stops early is not kept waiting for a reader without an end.
        let mut first = [0; 3];
        read_ahead(io::repeat(7), |ahead| ahead.read_exact(&mut first)).unwrap();
        assert_eq!(first, [7; 3]);
    }
}
