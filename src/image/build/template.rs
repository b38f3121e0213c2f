//! A definition with gaps: `${version}` stands for what is known only when an image is built.
//!
//! The text is filled in before it is parsed, so a variable may stand in any value. Values are words of letters, digits and
//! `. _ + ~ ^ : / @ -`, so none can end the string it stands in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::fs;
use crate::image::Definition;
use crate::image::build::definition::{Error, FILE};
use crate::image::build::embedded::embedded;

/// The text of a definition.
#[derive(Clone, Debug)]
pub struct Template {
    path: PathBuf,
    text: String,
}

impl Template {
    /// Reads the `image.toml` of a directory.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(FILE);
        let bytes = fs::read(&path, 1 << 20)?;
        Ok(Template { path, text: String::from_utf8_lossy(&bytes).into_owned() })
    }

    /// Reads the `image.toml` of a directory, or takes the [definition of the program](embedded) that has this name. A directory
    /// that has one comes first.
    pub fn find(place: &Path) -> Result<Self, Error> {
        match embedded(place) {
            // What is in a directory of this name without one is something else: the kernels that were unpacked to `kernels`.
            Some(text) if place.join(FILE).try_exists().is_ok_and(|is_there| !is_there) => {
                Ok(Template { path: format!("{} in the program", place.display()).into(), text: text.to_owned() })
            }
            // What has no slash may be a name that is misspelt.
            None if place.components().count() == 1 && place != Path::new(".") && !place.is_dir() => {
                Err(Error::Unknown { name: place.display().to_string() })
            }
            _ => Template::read(place),
        }
    }

    /// The text as it is written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The variables in it.
    pub fn variables(&self) -> BTreeSet<&str> {
        let begins = self.text.match_indices("${").map(|(at, _)| &self.text[at + 2..]);
        begins.filter_map(|rest| Some(rest.split_once('}')?.0)).filter(|name| is_word(name)).collect()
    }

    /// The definition with the variables filled in. One that has no value is an error.
    pub fn fill(&self, values: &BTreeMap<&str, String>) -> Result<Definition, Error> {
        let invalid = |problem| Error::Value { path: self.path.clone(), problem };
        let mut text = self.text.clone();
        for name in self.variables() {
            let Some(value) = values.get(name) else {
                let known = values.keys().map(|name| format!("${{{name}}}")).collect::<Vec<_>>().join(", ");
                return Err(invalid(match known.is_empty() {
                    true => format!("${{{name}}} stands for a property of a kernel, and the image has none"),
                    false => format!("${{{name}}} stands for nothing (known: {known})"),
                }));
            };
            if !value.chars().all(|c| c.is_ascii_alphanumeric() || "._+~^:/@-".contains(c)) {
                return Err(invalid(format!("${{{name}}}: `{value}` cannot stand in a definition")));
            }
            text = text.replace(&format!("${{{name}}}"), value);
        }
        Definition::parse(&self.path, &text)
    }

    /// The definition with `0` for every variable: what it is made of, but not what it will be called.
    pub fn outline(&self) -> Result<Definition, Error> {
        self.fill(&self.variables().into_iter().map(|name| (name, "0".to_owned())).collect())
    }
}

fn is_word(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_filled_in_and_nothing_else_gets_into_the_definition() {
        let text = "name = 'x'\ntags = ['${version}', '${version}.${machine}']\nlabels = { a = '$HOME ${X} ${}' }";
        let template = Template { path: "image.toml".into(), text: text.into() };
        let fill = |values: &[(&'static str, &str)]| {
            let values = values.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
            template.fill(&values).map_err(|error| error.to_string())
        };
        let definition = fill(&[("version", "6.1"), ("machine", "x86_64"), ("more", "1")]).unwrap();
        assert_eq!(definition.tags, ["6.1", "6.1.x86_64"]);
        assert_eq!(definition.labels["a"], "$HOME ${X} ${}");
        assert_eq!(template.outline().unwrap().tags, ["0", "0.0"]);
        for (values, why) in [
            (&[][..], "image.toml: ${machine} stands for a property of a kernel, and the image has none"),
            (&[("machine", "m")], "image.toml: ${version} stands for nothing (known: ${machine})"),
            (
                &[("machine", "m"), ("version", "1']\nbase = 'x")],
                "image.toml: ${version}: `1']\nbase = 'x` cannot stand in a definition",
            ),
        ] {
            assert_eq!(fill(values).unwrap_err(), why);
        }
    }
}
