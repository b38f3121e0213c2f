//! The few elements of S3's XML answers that matter here.

use quick_xml::Reader;
use quick_xml::events::Event;

use crate::publish::s3::Part;

/// The text of the first element with this name, whatever it is in.
pub(super) fn text(xml: &[u8], name: &str) -> Option<String> {
    elements(xml).into_iter().find(|(element, _)| element == name).map(|(_, text)| text.trim().to_owned())
}

/// The parts of a `ListPartsResult`.
pub(super) fn parts(xml: &[u8]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for (element, text) in elements(xml) {
        let text = text.trim();
        match (element.as_str(), parts.last_mut()) {
            ("Part", _) => parts.push(Part { number: 0, etag: None, size: None }),
            ("PartNumber", Some(part)) => part.number = text.parse().unwrap_or(0),
            ("ETag", Some(part)) => part.etag = Some(text.trim_matches('"').to_owned()),
            ("Size", Some(part)) => part.size = text.parse().ok(),
            _ => {}
        }
    }
    parts.retain(|part| part.number > 0);
    parts
}

/// All elements in the order in which they begin, each with the text directly after that. Ends at the first fault: what
/// does not parse was not sent by S3.
fn elements(xml: &[u8]) -> Vec<(String, String)> {
    let xml = String::from_utf8_lossy(xml);
    let mut reader = Reader::from_str(&xml);
    let mut elements: Vec<(String, String)> = Vec::new();
    loop {
        let text = match reader.read_event() {
            Ok(Event::Start(start)) => {
                elements.push((start.local_name().as_ref().to_owned(), String::new()));
                continue;
            }
            Ok(Event::Text(text)) => text.to_string(),
            Ok(Event::GeneralRef(reference)) => match &*reference {
                "amp" => "&".to_owned(),
                "lt" => "<".to_owned(),
                "gt" => ">".to_owned(),
                "quot" => "\"".to_owned(),
                "apos" => "'".to_owned(),
                _ => reference.resolve_char_ref().ok().flatten().map(String::from).unwrap_or_default(),
            },
            Ok(Event::Eof) | Err(_) => return elements,
            Ok(_) => continue,
        };
        if let Some((_, into)) = elements.last_mut() {
            into.push_str(&text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_uploads_and_parts_are_read() {
        let error = br#"<?xml version="1.0" encoding="utf-8"?>
            <Error><Code>NoSuchBucket</Code><Message>The &lt;bucket&gt; &amp; key</Message></Error>"#;
        assert_eq!(text(error, "Code").as_deref(), Some("NoSuchBucket"));
        assert_eq!(text(error, "Message").as_deref(), Some("The <bucket> & key"));
        assert_eq!(text(b"<html><body>502 Bad Gateway</body>", "Code"), None);
        assert_eq!(text(b"", "Code"), None);

        let list = br#"<ListPartsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><UploadId>u</UploadId>
            <Part><PartNumber>1</PartNumber><ETag>&quot;0af&quot;</ETag><Size>8</Size></Part>
            <Part><PartNumber>3</PartNumber><Size>2</Size></Part></ListPartsResult>"#;
        assert_eq!(
            parts(list),
            [
                Part { number: 1, etag: Some("0af".into()), size: Some(8) },
                Part { number: 3, etag: None, size: Some(2) }
            ]
        );
    }
}
