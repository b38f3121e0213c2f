//! `--format`: a text with places for fields of the result, as skopeo's and podman's users know it, without its language.
//!
//! `{{.digest}}` stands for a field of what `--json` prints, `{{.images.0.platform}}` for one further in, `{{json .images}}` for
//! JSON. Names are found in any case and without their underscores, so that skopeo's `{{.Digest}}` is understood. What is more
//! than that (`range`, `if`) is refused: `jq` does it better.

use std::str::FromStr;

use serde_json::Value;

/// A text with places for fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field { path: Vec<String>, json: bool },
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        // Shells hand these two over as they are typed.
        let text = text.replace("\\n", "\n").replace("\\t", "\t");
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once("{{") {
            let (inside, behind) = after.split_once("}}").ok_or("a {{ without its }}")?;
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(field(inside.trim())?);
            rest = behind;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        Ok(Format(pieces))
    }
}

fn field(text: &str) -> Result<Piece, String> {
    let (path, json) = match text.strip_prefix("json ") {
        Some(path) => (path.trim(), true),
        None => (text, false),
    };
    let is_path = |path: &str| path.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-'));
    match path.strip_prefix('.') {
        Some(path) if is_path(path) => Ok(Piece::Field {
            path: path.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect(),
            json,
        }),
        _ => Err(format!(
            "`{{{{{text}}}}}`: expected {{{{.FIELD}}}} or {{{{json .FIELD}}}}; for more, use --json and jq"
        )),
    }
}

impl Format {
    /// The text with the fields of a result. The error names a field that is not there, and those that are.
    pub fn fill(&self, result: &Value) -> Result<String, String> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(piece) => text += piece,
                Piece::Field { path, json } => match (find(result, path)?, json) {
                    (Value::String(value), false) => text += value,
                    (value, _) => text += &value.to_string(),
                },
            }
        }
        Ok(text)
    }
}

fn find<'a>(result: &'a Value, path: &[String]) -> Result<&'a Value, String> {
    let plain = |name: &str| name.replace('_', "").to_lowercase();
    let mut value = result;
    for part in path {
        let found = match value {
            Value::Object(fields) => {
                let exact = fields.get(part);
                exact.or_else(|| fields.iter().find(|(name, _)| plain(name) == plain(part)).map(|(_, value)| value))
            }
            Value::Array(values) => part.parse().ok().and_then(|at: usize| values.get(at)),
            _ => None,
        };
        value = found.ok_or_else(|| match value {
            Value::Object(fields) => {
                format!("no field `{part}`; there are {}", fields.keys().cloned().collect::<Vec<_>>().join(", "))
            }
            Value::Array(values) => format!("no field `{part}`; there are 0 to {}", values.len().saturating_sub(1)),
            _ => format!("no field `{part}` in what is a single value"),
        })?;
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_found_however_they_are_spelled_and_what_is_not_understood_is_refused() {
        let result =
            json!({ "digest": "sha256:0", "media_type": "x", "size": 7, "images": [{ "a": "b" }], "none": null });
        let fields = "digest, images, media_type, none, size";
        for (format, expected) in [
            ("{{.Digest}}", Ok("sha256:0".to_owned())),
            (r"{{ .digest }}\t{{.MediaType}}\n", Ok("sha256:0\tx\n".to_owned())),
            ("size={{.size}}", Ok("size=7".to_owned())),
            ("{{.images.0.a}}", Ok("b".to_owned())),
            ("{{json .images}}", Ok(r#"[{"a":"b"}]"#.to_owned())),
            ("{{json .digest}}", Ok(r#""sha256:0""#.to_owned())),
            ("{{.none}}", Ok("null".to_owned())),
            ("plain", Ok("plain".to_owned())),
            ("{{.Name}}", Err(format!("no field `Name`; there are {fields}"))),
            ("{{.images.1}}", Err("no field `1`; there are 0 to 0".to_owned())),
            ("{{.digest.x}}", Err("no field `x` in what is a single value".to_owned())),
            ("{{.digest", Err("a {{ without its }}".to_owned())),
            (
                "{{range .images}}",
                Err("`{{range .images}}`: expected {{.FIELD}} or {{json .FIELD}}; for more, use --json and jq"
                    .to_owned()),
            ),
        ] {
            let filled = format.parse::<Format>().and_then(|format| format.fill(&result));
            assert_eq!(filled, expected, "{format}");
        }
    }
}
