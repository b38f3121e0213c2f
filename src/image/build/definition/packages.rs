//! What a definition says of layers that are made of packages.
//!
//! Nothing here knows what a package is: who builds the image turns packages into [`Part`](crate::image::build::Part)s.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `packages = { deb = ["gcc", "mawk | gawk"], rpm = ["gcc"], … }`: packages with all that they depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PackagesDefinition {
    /// What is wanted where packages are debs: names with bounds and alternatives, as in a `Depends` field.
    #[serde(default)]
    pub deb: Vec<String>,
    /// What is wanted where packages are rpms, in the same words.
    #[serde(default)]
    pub rpm: Vec<String>,
    /// Of these the version that the kernel was compiled with, where its configuration says and the sources have it.
    #[serde(default)]
    pub compiler: Vec<String>,
    /// What the base has already: packages, capabilities and paths.
    #[serde(default)]
    pub provided: Vec<String>,
    /// Directories that are others: `"/bin" = "/usr/bin"`. Links are made in their place.
    #[serde(default)]
    pub merge: BTreeMap<String, String>,
    /// What is left out of packages, with all that is below.
    #[serde(default)]
    pub exclude: Vec<String>,
}

/// `kernels = { … }`: the packages of kernels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct KernelsDefinition {
    /// Where they are kept, as DEST/DISTRIBUTION/RELEASE, a layer for each release. Without it the packages of one kernel
    /// are laid over the root, with what they depend on, and the image is one kernel's.
    pub dest: Option<String>,
    /// Kept unpacked, as `kernel unpack` does, and not as files.
    #[serde(default)]
    pub unpacked: bool,
    /// Where `kernels.json` goes that says which kernels are kept.
    pub list: Option<String>,
    /// Which packages, by what they are to a kernel: core, devel, headers, common, kbuild, modules, image, config, meta.
    #[serde(default = "for_building")]
    pub roles: Vec<String>,
    /// Which other flavours of the same kernel come along where there are any: rt, 64k.
    #[serde(default)]
    pub flavours: Vec<String>,
}

fn for_building() -> Vec<String> {
    ["core", "devel", "headers", "common", "kbuild", "modules"].map(str::to_owned).to_vec()
}
