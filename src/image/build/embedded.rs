//! The definitions that come with the program, so that it builds its images where there is no checkout.

use std::path::Path;

/// The text of a definition of this name, or of its place in a checkout, `images/NAME`.
pub fn embedded(name: &Path) -> Option<&'static str> {
    let name = name.strip_prefix("images").unwrap_or(name);
    EMBEDDED.iter().find(|(known, _)| Path::new(known) == name).map(|(_, text)| *text)
}

/// Name and text of each, sorted by name.
pub const EMBEDDED: [(&str, &str); 4] = [
    ("bastion", include_str!("../../../images/bastion/image.toml")),
    ("catalog", include_str!("../../../images/catalog/image.toml")),
    ("driver-toolkit", include_str!("../../../images/driver-toolkit/image.toml")),
    ("kernels", include_str!("../../../images/kernels/image.toml")),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Definition, Template};

    /// What lies beside them would have to be embedded, too.
    #[test]
    fn all_definitions_of_the_checkout_are_embedded_and_are_whole_in_themselves() {
        let mut names: Vec<String> = std::fs::read_dir("images")
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, EMBEDDED.map(|(name, _)| name));
        for (name, text) in EMBEDDED {
            let directory = Path::new("images").join(name);
            assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1, "{name}");
            assert_eq!((embedded(Path::new(name)), embedded(&directory)), (Some(text), Some(text)));
            let Definition { base, layers, .. } = Template::find(&directory).unwrap().outline().unwrap();
            assert_eq!(base, crate::image::build::definition::Base::Scratch, "{name}");
            let files = layers.iter().flat_map(|layer| &layer.files).filter_map(|file| file.src.as_ref());
            let directories = layers.iter().flat_map(|layer| &layer.directories).filter_map(|it| it.src.as_ref());
            assert_eq!(files.chain(directories).count(), 0, "{name}");
        }
        assert_eq!(embedded(Path::new("other/catalog")), None);
    }
}
