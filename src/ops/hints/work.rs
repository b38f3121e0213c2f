//! Hints for what goes wrong in the work of commands: building, carrying, the ledger.

use crate::carry;
use crate::kernel::classify::Role;
use crate::ops;
use crate::site;

pub(super) fn ops_hint(error: &ops::Error) -> Option<String> {
    let hint = match error {
        ops::Error::NoScratch(_) => "name a directory on a disk with room in TMPDIR",
        ops::Error::NoDumpDirectory(_) | ops::Error::NotWritable { .. } => {
            "mount a directory there that this user may write to: `podman run -v DIR:/tmp/dump:Z …`"
        }
        ops::Error::RefreshUnderWay(_) => "wait for it to end, or refresh into another directory",
        ops::Error::NoReceipt { .. } => "type the code again; `unpack` on the far side said it",
        ops::Error::NotHere(_) => {
            "fetch the packages first: haversack kernel fetch SOURCE… --to DIR, then unpack dir:DIR"
        }
        ops::Error::RepairRemote(_) => "copy it there again",
        ops::Error::RepairArchive => "copy it anew, or repair the layout",
        ops::Error::EvidenceRemote(_) => "copy it to oci:DIR, and check that",
        ops::Error::CompareRemote(_) => "copy it to oci:DIR first",
        ops::Error::SameName(_) => {
            "leave the name out of `--output` and `--push`, or choose one image (of kernels, with `--release`)"
        }
        ops::Error::InTheWay(_) => "move it away, or give --files another directory",
        ops::Error::OnePlace { .. } => {
            "unpack into a layout with `--to oci:DIR`, and copy them from there with `haversack copy`, each to a name of its own"
        }
        ops::Error::OneName { .. } => "pack them into two carries, or give one of them another name",
        ops::Error::OneInDir | ops::Error::SameRepository => "build them one by one",
        ops::Error::NotAlone(_) => "build the others in a run of their own",
        ops::Error::NoCatalog { .. } => "give a snapshot with `--catalog FILE`; `haversack catalog snapshot` takes one",
        ops::Error::NoKernelSource { .. } => "say where they are with `--kernels SOURCE…`, as for `kernel list`",
        ops::Error::UnknownRole { .. } => {
            return Some(format!("known roles: {}", Role::ALL.map(Role::name).join(", ")));
        }
        ops::Error::MatrixOfOneImage => "choose kernels with `--release`, as often as you like",
        ops::Error::NoDefinition { taken: Some((option, word)) } => {
            return Some(format!("name it first: {option} takes all words up to the next option, `{word}` too"));
        }
        ops::Error::NoDefinition { taken: None } => {
            "name one: bastion, catalog, driver-toolkit, kernels, or a directory with an image.toml"
        }
        ops::Error::MatrixOfNothing => {
            "name a channel (`--channel stable-4.16`), a list (`--versions FILE`) or sources, as for `kernel list`"
        }
        ops::Error::NoKernel { .. } | ops::Error::NoKernelLeft => {
            "`haversack kernel list SOURCE…` shows which there are"
        }
        ops::Error::OnlyFlavoured(_) => "select them with `--release UNAME` or `--matrix`",
        ops::Error::NoHeaders { .. } => {
            "add a repository that has them; on EL 9 and later kernel-devel is in AppStream"
        }
        ops::Error::DeleteWhat(image) => {
            return Some(format!("name one: `haversack list-tags docker://{image}` shows them"));
        }
        ops::Error::NoTag(_) => {
            "name the tag in place of the digest, or delete the image with all its tags with `--yes` in place of `--only-tag`"
        }
        ops::Error::Shared { image, .. } if image.target.digest().is_some() => BY_DIGEST,
        ops::Error::TagsUnknown(image) if image.target.digest().is_some() => BY_DIGEST,
        ops::Error::Shared { .. } | ops::Error::TagsUnknown(_) => {
            "`--yes` deletes it with all its tags; `--only-tag` deletes this tag alone, where the registry can"
        }
        ops::Error::NotLoggedIn { remaining: Some(origin), .. } => {
            return Some(format!("there are credentials for it in {origin}"));
        }
        ops::Error::NoChannel { .. } => "expected channels/NAME.yaml, as in the graph data, or graph_NAME_ARCH.json",
        ops::Error::NotInImage { .. } => "leave `--release` out to dump all that it has",
        ops::Error::NothingFetched => "see the warnings above; `dump` writes what the image holds, without a network",
        ops::Error::DamagedImage { .. } => "the image is damaged: `haversack verify` it, and copy it again",
        _ => return None,
    };
    Some(hint.to_owned())
}

pub(super) fn carry_hint(error: &carry::Error) -> Option<&'static str> {
    Some(match error {
        carry::Error::NoCarry(_) => "name the directory that holds carry.json and the volumes",
        carry::Error::Exists(_) => "choose another name, or remove it",
        carry::Error::Format { .. } | carry::Error::Library(_) => "use the haversack that lies in the carry",
        carry::Error::Key { why, .. } if why.contains("password") => {
            "give it in COSIGN_PASSWORD, or in a file with --sign-passphrase-file; one of openssl's is decrypted with `openssl pkey -in KEY -out PLAIN`"
        }
        carry::Error::Key { .. } => {
            "make a pair with `openssl ecparam -name prime256v1 -genkey -noout` and `openssl pkey -pubout`"
        }
        carry::Error::Signature { .. } => "ask who packed it for its public key, and bring the carry again",
        carry::Error::TooSmall { .. } => "choose a larger `--medium`",
        carry::Error::ProgramTooLarge { .. } => {
            "choose a larger `--medium`, or leave the program out with `--no-program`"
        }
        carry::Error::Missing { .. } => "copy the image there again; `haversack verify` says what is missing",
        carry::Error::Incomplete { .. } => "the images of the layout are as they were; ask for another carry",
        carry::Error::Base { .. } => "unpack that first, to the same place, or ask for a carry packed with `--full`",
        carry::Error::NoParity { .. } => "bring the damaged volumes again; `pack --parity N` makes parity",
        carry::Error::Receipt { .. } => "bring the receipt again, or type the code that `unpack` said",
        carry::Error::NoRoom { .. } => "make room, unpack to another disk, or leave `--keep-contents` out",
        carry::Error::Document { .. } | carry::Error::Name { .. } => {
            "bring carry.json again; the layout is as it was, and what has come of the volumes is kept"
        }
        carry::Error::Blob { .. } | carry::Error::Odd { .. } | carry::Error::Cut(_) => {
            "images that were there are as they were; remove .carry-*.partial in the layout, and bring the carry again"
        }
        _ => return None,
    })
}

pub(super) fn site_hint(error: &site::Error) -> Option<&'static str> {
    Some(match error {
        site::Error::NoSite { .. } => "`haversack site show` lists the sites; `haversack pack --site NAME` makes one",
        site::Error::NoCarry { .. } | site::Error::ShortId { .. } | site::Error::Ambiguous { .. } => {
            "`haversack site show NAME` lists its carries"
        }
        site::Error::State { .. } => "unpack the carry there again, or pack with `--full`",
        site::Error::Record { .. } => "remove it, and confirm or pack that carry again",
        _ => return None,
    })
}

const BY_DIGEST: &str = "`--yes` deletes it with all its tags";
