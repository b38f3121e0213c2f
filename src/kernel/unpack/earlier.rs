//! What an earlier run left of a kernel: whether it can stay, and whether there is less now.

use std::path::{Path, PathBuf};

use crate::fs::{self, Held};
use crate::kernel::classify::Role;
use crate::kernel::group::Kernel;
use crate::kernel::package::Package;
use crate::kernel::unpack::{Check, Status, UnpackOptions, Unpacked, UnpackedPackage, file_name};

/// Where a kernel's entry is in the directory that its own is in.
pub(super) fn entry_in(held: &Held, directory: &Path) -> PathBuf {
    held.join(format!("{}.json", file_name(directory)))
}

impl Unpacked {
    /// The entry of an earlier run, when its directory is there: in the one that is held, whatever is called so by now.
    pub(super) fn earlier(directory: &Path, held: &Held) -> Option<Self> {
        let entry = fs::read(&entry_in(held, directory), ENTRY_LIMIT).ok()?;
        let earlier: Unpacked = serde_json::from_slice(&entry).ok()?;
        (earlier.directory == directory && held.join(file_name(directory)).is_dir()).then_some(earlier)
    }

    /// It as it stays, when it was made from the same packages.
    pub(super) fn unchanged(&self, kernel: &Kernel, options: &UnpackOptions) -> Option<Self> {
        let is_same = |(unpacked, (_, package)): (&UnpackedPackage, &(Role, Package))| {
            let signed = options.keys.is_none() || !unpacked.unverified.contains(&Check::Signature);
            unpacked.file == package.name.to_string() && Some(&unpacked.sha256) == package.sha256.as_ref() && signed
        };
        let same =
            self.packages.len() == kernel.packages.len() && self.packages.iter().zip(&kernel.packages).all(is_same);
        let mut missing = kernel.missing.clone();
        let own = self.missing.iter().filter(|what| !kernel.missing.contains(what) && what.contains('/'));
        missing.extend(own.cloned());
        same.then(|| Unpacked { status: Status::Unchanged, missing, ..self.clone() })
    }

    /// What the kernel lacks now and did not lack then, in whichever version.
    pub(super) fn lost(&self, kernel: &Kernel) -> Option<String> {
        let name = |what: &str| what.split(" (").next().unwrap_or_default().to_owned();
        let lacked: Vec<String> = self.missing.iter().map(|what| name(what)).collect();
        let mut lost = kernel.missing.iter().filter(|what| !lacked.contains(&name(what))).cloned().peekable();
        lost.peek()?;
        Some(lost.collect::<Vec<_>>().join(", "))
    }
}

/// Bytes of an entry, at most. What is larger was not written by us.
const ENTRY_LIMIT: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_in_the_directory_that_was_entered_whatever_takes_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let (root, theirs) = (dir.path().join("root"), dir.path().join("theirs"));
        let directory = root.join("debian/6.1.0-56-amd64");
        let entry = |release: &str| {
            serde_json::json!({
                "status": "unpacked", "distribution": "debian", "release": release, "machine": "x86_64", "flavour": "",
                "directory": directory, "packages": [],
            })
            .to_string()
        };
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::create_dir_all(theirs.join("6.1.0-56-amd64")).unwrap();
        std::fs::write(theirs.join("6.1.0-56-amd64.json"), entry("theirs")).unwrap();
        let found = |held: &Held| Unpacked::earlier(&directory, held).map(|earlier| earlier.release);
        let held = fs::hold_beneath(&root, Path::new("debian")).unwrap();
        assert_eq!(found(&held), None, "there is no entry");
        std::fs::write(root.join("debian/6.1.0-56-amd64.json"), entry("ours")).unwrap();
        assert_eq!(found(&held).as_deref(), Some("ours"));

        std::fs::rename(root.join("debian"), root.join("aside")).unwrap();
        std::os::unix::fs::symlink(&theirs, root.join("debian")).unwrap();
        assert_eq!(found(&held).as_deref(), Some("ours"));
        // Both are looked for there, the entry and the directory.
        std::fs::remove_dir(root.join("aside/6.1.0-56-amd64")).unwrap();
        assert_eq!(found(&held), None);
        std::fs::remove_file(root.join("aside/6.1.0-56-amd64.json")).unwrap();
        assert_eq!(found(&held), None);
    }
}
