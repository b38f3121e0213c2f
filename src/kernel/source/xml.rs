//! XML documents of repositories, read as a stream: no document type, no entities but those that XML itself has.

use std::io::{self, BufRead};

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use crate::limits::{self, Depth, Exceeded, Pieces};

/// Why an XML file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum XmlError {
    /// It is not well-formed, or cannot be read.
    #[error("not well-formed")]
    Syntax(#[from] quick_xml::Error),
    /// It is well-formed and still not what it should be.
    #[error("{0}")]
    Content(&'static str),
    /// It cannot be decompressed.
    #[error("cannot be decompressed")]
    Io(#[from] io::Error),
    /// There is more of something than is taken.
    #[error("{0}")]
    Exceeded(#[from] Exceeded),
}

/// An XML document from outside: no tag or text of it is longer, and no element deeper, than the limits.
pub(super) struct Xml<R: BufRead> {
    reader: Reader<Pieces<R>>,
    depth: Depth,
}

impl<R: BufRead> Xml<R> {
    pub(super) fn new(reader: R) -> Self {
        let pieces = Pieces::new(reader, limits::XML_PIECE, "bytes in an XML tag or text");
        Xml { reader: Reader::from_reader(pieces), depth: Depth::default() }
    }

    pub(super) fn next<'a>(&mut self, buffer: &'a mut Vec<u8>) -> Result<Event<'a>, XmlError> {
        self.reader.get_mut().next_piece();
        let event = self.reader.read_event_into(buffer).map_err(|error| match error {
            // What the reader below says is the cause.
            quick_xml::Error::Io(error) => XmlError::Io(io::Error::new(error.kind(), error)),
            error => XmlError::Syntax(error),
        })?;
        match event {
            Event::Start(_) => self.depth.enter()?,
            Event::End(_) => self.depth.leave(),
            _ => {}
        }
        Ok(event)
    }
}

/// Appends to a text, which entities cut into many.
pub(super) fn append(text: &mut String, part: &str) -> Result<(), Exceeded> {
    text.push_str(part);
    limits::at_most(text.len(), limits::XML_PIECE, "bytes in an XML tag or text")
}

/// Appends what a reference stands for; what is none of XML's own is passed over, as nothing is expanded.
pub(super) fn append_reference(text: &mut String, reference: &str) -> Result<(), Exceeded> {
    match reference {
        "amp" => append(text, "&"),
        "lt" => append(text, "<"),
        "gt" => append(text, ">"),
        _ => Ok(()),
    }
}

/// The value of an attribute.
pub(super) fn attribute(tag: &BytesStart<'_>, name: &str) -> Result<Option<String>, XmlError> {
    let Some(attribute) = tag.try_get_attribute(name).map_err(quick_xml::Error::from)? else { return Ok(None) };
    let value = attribute.normalized_value(XmlVersion::Implicit1_0)?;
    Ok(Some(value.into_owned()))
}
