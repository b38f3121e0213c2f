//! Plain HTTP for those who read, without a copy: what is known to be right goes from the page cache to the socket by
//! `sendfile`, at a tenth of the work that reading and writing costs.
//!
//! hyper has no place for that (hyper issues 140 and 3026). So `GET` and `HEAD` without a body are read and answered here, and at
//! the first request that is anything else, or not as expected in any way, hyper takes the connection over for good, with the
//! bytes that were read.

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use hyper::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use hyper::http::request::Parts;
use hyper::{Method, Uri, Version};
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::serve::Server;
use crate::serve::accept::{HEAD, HEADERS, connection};
use crate::serve::answer::Answer;
use crate::serve::body::{self, Part, Sound};

/// Answers on one connection.
pub(super) async fn run(
    server: &Arc<Server>,
    mut stream: TcpStream,
    client: SocketAddr,
    mut ended: watch::Receiver<()>,
) {
    let mut read = BytesMut::new();
    loop {
        let head = tokio::select! {
            head = tokio::time::timeout(server.limits.head, next(&mut stream, &mut read)) => head,
            // Nobody waits for an answer when nothing of a request is there.
            _ = ended.changed(), if read.is_empty() => return,
        };
        let (head, closes) = match head {
            Ok(Ok(Some(Head::Ours(head)))) => {
                let closes =
                    head.headers.get(CONNECTION).is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"close"));
                (*head, closes)
            }
            Ok(Ok(Some(Head::Other))) => {
                return connection(server, Rewound { read, stream }, client, ended).await;
            }
            Ok(Ok(None) | Err(_)) | Err(_) => return,
        };
        let is_head = head.method == Method::HEAD;
        let closes = closes || ended.has_changed().unwrap_or(true);
        let answer = server.clone().answer(client, head, None).await;
        let sent = send(&mut stream, answer, is_head, closes, server.limits.idle).await;
        if let Err(error) = sent {
            tracing::debug!("{client}: {error}");
            return;
        }
        if closes {
            let _ = stream.shutdown().await;
            return;
        }
    }
}

/// The head of a request.
enum Head {
    Ours(Box<Parts>),
    Other,
}

/// Reads the next head; `None` at the end. What is read further stays in `read`, and all of it when the request is not ours.
async fn next(stream: &mut TcpStream, read: &mut BytesMut) -> io::Result<Option<Head>> {
    loop {
        if let Some((head, length)) = parse(read) {
            if matches!(head, Head::Ours(_)) {
                read.advance(length);
            }
            return Ok(Some(head));
        }
        read.reserve(8 << 10);
        if stream.read_buf(read).await? == 0 {
            // Half a head is for hyper to refuse, and none is the end.
            return Ok((!read.is_empty()).then_some(Head::Other));
        }
    }
}

/// Takes a head apart, when all of it is there.
fn parse(read: &[u8]) -> Option<(Head, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(read) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if read.len() <= HEAD => return None,
        _ => return Some((Head::Other, 0)),
    };
    Some((ours(&request).map_or(Head::Other, |parts| Head::Ours(Box::new(parts))), length))
}

fn ours(request: &httparse::Request) -> Option<Parts> {
    let method = match request.method? {
        "GET" => Method::GET,
        "HEAD" => Method::HEAD,
        _ => return None,
    };
    let uri: Uri = request.path?.parse().ok()?;
    let mut built = hyper::Request::builder().method(method).uri(uri).version(Version::HTTP_11);
    let headers = built.headers_mut().filter(|_| request.version == Some(1))?;
    for header in request.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_bytes(header.value).ok()?);
    }
    let is_plain = ![CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT, UPGRADE].iter().any(|name| headers.contains_key(name));
    let connection = headers.get(CONNECTION).map(HeaderValue::as_bytes);
    let is_usual =
        connection.is_none_or(|it| [&b"close"[..], b"keep-alive"].iter().any(|word| it.eq_ignore_ascii_case(word)));
    (is_plain && is_usual).then(|| built.body(()).ok().map(|it| it.into_parts().0))?
}

/// Sends an answer, and gives up when nothing is taken for so long.
async fn send(
    stream: &mut TcpStream,
    answer: Answer,
    is_head: bool,
    closes: bool,
    idle: std::time::Duration,
) -> io::Result<()> {
    let patiently = |error: tokio::time::error::Elapsed| {
        let words = format!("the client has not read anything for {} seconds", idle.as_secs());
        io::Error::new(io::ErrorKind::TimedOut, format!("{words} ({error})"))
    };
    let (head, mut body) = answer.into_parts();
    let mut bytes = head_bytes(&head, closes);
    if is_head {
        return tokio::time::timeout(idle, stream.write_all(&bytes)).await.map_err(patiently)?;
    }
    while let Some(part) = body.next_part() {
        match part {
            Part::Bytes(more) if bytes.len() + more.len() <= TOGETHER => {
                bytes.extend_from_slice(&more);
                body.sent(more.len());
            }
            part => {
                // A head that goes alone goes with what follows.
                write(stream, &mut bytes, idle).await?;
                match part {
                    Part::Bytes(more) => {
                        for piece in more.chunks(TOGETHER) {
                            write(stream, &mut piece.to_vec(), idle).await?;
                            body.sent(piece.len());
                        }
                    }
                    Part::File(sound, range) => file_part(stream, &sound, range, &mut body, idle).await?,
                    Part::Unverified(blob) => {
                        let (more, rest) = body.read(Part::Unverified(blob)).await?;
                        write(stream, &mut more.to_vec(), idle).await?;
                        body.sent(more.len());
                        body.put_back(rest);
                    }
                }
            }
        }
    }
    write(stream, &mut bytes, idle).await
}

/// Writes all of it, piece by piece, each within the time.
async fn write(stream: &mut TcpStream, bytes: &mut Vec<u8>, idle: std::time::Duration) -> io::Result<()> {
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let written = tokio::time::timeout(idle, stream.write(rest)).await;
        let n = written.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        rest = &rest[n..];
    }
    bytes.clear();
    Ok(())
}

/// Sends a part of a file from the page cache.
async fn file_part(
    stream: &mut TcpStream,
    sound: &Arc<Sound>,
    range: Range<u64>,
    body: &mut body::Body,
    idle: std::time::Duration,
) -> io::Result<()> {
    let mut at = range.start;
    while at < range.end {
        let wanted = usize::try_from(range.end - at).unwrap_or(PIECE).min(PIECE);
        if !body::is_cached(&sound.file, at) {
            // The disk is waited for where nobody else has to wait, too.
            let sound = sound.clone();
            let reading = tokio::task::spawn_blocking(move || body::read_ahead(&sound.file, at, wanted));
            reading.await.map_err(io::Error::other)??;
        }
        if range.end - at <= PIECE as u64
            && let Err(error) = sound.check()
        {
            body.failed(&error.to_string());
            return Err(error);
        }
        let writable = tokio::time::timeout(idle, stream.writable()).await;
        writable.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let sent = stream.try_io(Interest::WRITABLE, || {
            let mut offset = at;
            match rustix::fs::sendfile(&*stream, &sound.file, Some(&mut offset), wanted) {
                Err(Errno::INTR) => Err(io::ErrorKind::WouldBlock.into()),
                sent => Ok(sent?),
            }
        });
        match sent {
            Ok(0) => {
                body.failed("the blob became shorter while it was sent");
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(n) => {
                body.sent(n);
                at += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn head_bytes(head: &hyper::http::response::Parts, closes: bool) -> Vec<u8> {
    let status = head.status;
    let mut text = format!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or_default());
    let now = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT");
    let _ = write!(text, "date: {now}\r\n");
    if closes {
        text += "connection: close\r\n";
    }
    let mut bytes = text.into_bytes();
    for (name, value) in &head.headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// A stream with what was read of it before.
struct Rewound {
    read: BytesMut,
    stream: TcpStream,
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let n = self.read.len().min(buffer.remaining());
        buffer.put_slice(&self.read[..n]);
        self.read.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Bytes that are sent in one call.
const PIECE: usize = 512 << 10;
/// Bytes that are copied so that they go in one packet with the head.
const TOGETHER: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_reads_are_ours() {
        let is_ours = |text: &str| parse(text.as_bytes()).map(|(head, _)| matches!(head, Head::Ours(_)));
        for (text, expected) in [
            ("GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n", Some(true)),
            ("HEAD /v2/ HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n\r\nGET", Some(true)),
            ("GET http://x/v2/?a=b HTTP/1.1\r\n\r\n", Some(true)),
            ("GET /v2/ HTTP/1.1\r\nHost: x\r\n", None),
            ("GET /v2/ HTTP/1.0\r\n\r\n", Some(false)),
            ("PUT /v2/ HTTP/1.1\r\n\r\n", Some(false)),
            ("GET /v2/ HTTP/1.1\r\nContent-Length: 5\r\n\r\n", Some(false)),
            ("GET /v2/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", Some(false)),
            ("GET /v2/ HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", Some(false)),
            ("GET /v2/ HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", Some(false)),
            ("GET /v2/ HTTP/1.1\r\nBad Header\r\n\r\n", Some(false)),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(false)),
            ("\u{16}\u{3}\u{1}", Some(false)),
        ] {
            assert_eq!(is_ours(text), expected, "{text:?}");
        }
        assert_eq!(is_ours(&format!("GET /v2/ HTTP/1.1\r\nX: {}", "a".repeat(HEAD))), Some(false));
    }
}
