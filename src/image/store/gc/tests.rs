use std::collections::BTreeSet;

use super::*;
use crate::image::fixture;
use crate::image::store::Store;
use crate::image::store::layout::{canonical, descriptor, digest_of, index_of, named};
use crate::image::store::referrers::{cosign_tags, fallback_tag};
use crate::image::store::verify::{VerifyOptions, verify};
use crate::progress::Progress;

const NOW: GcOptions = GcOptions { grace: Duration::ZERO, untagged: false, dry_run: false };
const HOUR: GcOptions = GcOptions { grace: Duration::from_secs(3600), untagged: false, dry_run: false };

fn run(layout: &Layout, options: GcOptions) -> GcReport {
    let opened = Layout::open(layout.root()).unwrap();
    gc(&opened, &options, &HashMap::new).unwrap()
}

/// A layout with an image that nothing names, and which nobody writes to.
fn layout() -> (tempfile::TempDir, Layout, Descriptor) {
    let dir = tempfile::tempdir().unwrap();
    let (layout, image) = fixture::image(&dir.path().join("layout"));
    (dir, layout.without_lease(), image)
}

/// A manifest with a blob of its own.
fn manifest(layout: &Layout, content: &str, subject: Option<&Descriptor>) -> Descriptor {
    use oci_spec::image::MediaType;
    let config = layout.write_blob(MediaType::EmptyJSON, b"{}").unwrap();
    let layer = layout.write_blob(MediaType::Other("x/y".to_owned()), content.as_bytes()).unwrap();
    let subject = subject.map(|it| descriptor(it.media_type().clone(), &digest_of(it).unwrap(), it.size()));
    let document = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": [layer], "subject": subject,
    });
    layout.write_blob(MediaType::ImageManifest, &canonical(&document)).unwrap()
}

fn there(layout: &Layout) -> BTreeSet<Digest> {
    let files = layout.files().unwrap();
    files.iter().filter_map(|path| layout.digest_at(path)).collect()
}

fn is_sound(layout: &Layout) {
    let store = Store::Layout(layout.clone());
    let report = verify(&store, None, &VerifyOptions::default(), &Progress::off()).unwrap();
    assert_eq!(report.findings, Vec::new());
}

/// Sets the times back, those that can be set.
fn age(path: &Path, hours: u64) {
    let file = std::fs::File::open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(hours * 3600)).unwrap();
}

#[test]
fn what_is_needed_stays_and_all_else_goes() {
    use oci_spec::image::MediaType;
    let (_dir, layout, image) = layout();
    let other = manifest(&layout, "other platform", None);
    let list = layout.write_blob(MediaType::ImageIndex, &canonical(&index_of(vec![image.clone(), other]))).unwrap();
    layout.tag(&list, Some("app:1")).unwrap();
    // Found by subject, and what is about it in turn; by cosign's tag, and in a repository; by the fallback tag.
    let signature = manifest(&layout, "signature", Some(&image));
    layout.tag(&signature, None).unwrap();
    layout.tag(&manifest(&layout, "about it", Some(&signature)), Some("a/b@sha256:0")).unwrap();
    let [sig, att, _] = cosign_tags(&digest_of(&list).unwrap());
    layout.tag(&manifest(&layout, "cosign", None), Some(&sig)).unwrap();
    layout.tag(&manifest(&layout, "cosign 2", None), Some(&format!("quay.io:1/a/b:{att}"))).unwrap();
    let listed = manifest(&layout, "listed", Some(&list));
    let fallback = layout.write_blob(MediaType::ImageIndex, &canonical(&index_of(vec![listed]))).unwrap();
    layout.tag(&fallback, Some(&fallback_tag(&digest_of(&list).unwrap()))).unwrap();
    // By its digest alone, with a tag of its own though its subject is gone, and of types that nobody knows.
    layout.tag(&manifest(&layout, "by digest", None), Some("x/y@sha256:1")).unwrap();
    let gone = descriptor(MediaType::ImageManifest, &Digest::sha256("gone"), 4);
    layout.tag(&manifest(&layout, "tagged", Some(&gone)), Some("x/y:sbom")).unwrap();
    let blob = layout.write_blob(MediaType::Other("some/thing".to_owned()), b"some thing").unwrap();
    let odd = serde_json::json!({ "things": [{ "digest": blob.digest() }] });
    let odd = layout.write_blob(MediaType::Other("odd/type".to_owned()), &canonical(&odd)).unwrap();
    layout.tag(&odd, Some("odd:1")).unwrap();
    let needed = there(&layout);

    let useless = manifest(&layout, "useless", Some(&gone));
    layout.tag(&useless, None).unwrap();
    layout.tag(&manifest(&layout, "useless, too", Some(&useless)), Some("x/y@sha256:2")).unwrap();
    let [_, _, sbom] = cosign_tags(&Digest::sha256("gone"));
    layout.tag(&manifest(&layout, "of nothing", None), Some(&sbom)).unwrap();
    layout.write_blob(MediaType::ImageLayer, b"a layer").unwrap();
    std::fs::write(layout.root().join(".sha256-00.partial"), "beginning").unwrap();
    std::fs::create_dir(layout.root().join(".carry-1.partial")).unwrap();
    let all = there(&layout);

    let planned = run(&layout, GcOptions { dry_run: true, ..NOW });
    assert_eq!(there(&layout), all);
    let report = run(&layout, NOW);
    assert_eq!(planned, report);
    assert_eq!(there(&layout), needed);
    let removed: BTreeSet<Digest> = report.blobs.iter().cloned().collect();
    assert_eq!(removed, all.difference(&needed).cloned().collect());
    assert_eq!(report.entries, [useless.digest().to_string(), sbom, "x/y@sha256:2".to_owned()]);
    assert_eq!((report.leftovers, report.waiting), (Tally { files: 1, bytes: 9 }, Tally::default()));
    assert_eq!((report.removed.files, report.needed.files), (removed.len() as u64, needed.len() as u64));
    assert!(layout.root().join(".carry-1.partial").exists());
    std::fs::remove_dir(layout.root().join(".carry-1.partial")).unwrap();
    let kept = layout.index().unwrap().manifests().len();
    assert_eq!((kept, run(&layout, NOW)), (9, GcReport { needed: report.needed, ..GcReport::default() }));
    assert!(!layout.root().join(".haversack/gc").exists());
    layout.untag(&odd).unwrap();
    layout.untag(&layout.find(Some("x/y:sbom")).unwrap()).unwrap();
    run(&layout, NOW);
    is_sound(&layout);
}

#[test]
fn the_grace_time_runs_from_when_something_was_written_and_from_when_it_was_needed() {
    let (_dir, layout, image) = layout();
    let index = layout.root().join(INDEX);
    // Written now.
    age(&index, 5);
    assert_eq!((run(&layout, HOUR).removed.files, run(&layout, HOUR).waiting.files), (0, 3));
    let at = |hours: i64| seconds(SystemTime::now()) - hours * 3600;
    let text = std::fs::read_to_string(layout.root().join(".haversack/gc")).unwrap();
    assert!(text.lines().all(|line| line.starts_with(&at(5).to_string()[..7])) && text.lines().count() == 3, "{text}");
    // It is needed, and no more, which only the record of a run in between can tell from what never was.
    layout.tag(&image, Some("app:1")).unwrap();
    assert_eq!(run(&layout, NOW).needed.files, 3);
    assert!(!layout.root().join(".haversack/gc").exists());
    layout.untag(&image).unwrap();
    let seen = run(&layout, HOUR);
    assert_eq!((seen.removed.files, seen.waiting.files), (0, 3));
    let later = |hours| {
        gc_at(&layout, &GcOptions { dry_run: true, ..HOUR }, &HashMap::new, SystemTime::now() + HOUR.grace * hours)
    };
    assert_eq!((later(0).unwrap().removed.files, later(2).unwrap().removed.files), (0, 3));
    // An index that changes all the time keeps nothing: it was noted when they were needed last.
    let file = std::fs::File::open(&index).unwrap();
    file.set_modified(SystemTime::now() + HOUR.grace * 2).unwrap();
    assert_eq!(later(2).unwrap().removed.files, 3);
    std::fs::remove_file(layout.root().join(".haversack/gc")).unwrap();
    assert_eq!(later(2).unwrap().removed.files, 0);
}

#[test]
fn an_image_that_lost_its_tag_goes_when_that_is_asked_for() {
    let (_dir, layout, image) = layout();
    let at = |hours: i64| jiff::Timestamp::from_second(seconds(SystemTime::now()) - hours * 3600).unwrap().to_string();
    let mut entry = named(&image, "a/b@sha256:0");
    let mut annotations = entry.annotations().clone().unwrap();
    annotations.insert(UNTAGGED.to_owned(), at(2));
    entry.set_annotations(Some(annotations));
    layout.tag_all(&[entry]).unwrap();
    let untagged = |grace: u64| GcOptions { grace: Duration::from_secs(grace), untagged: true, dry_run: true };
    assert_eq!(run(&layout, NOW).needed.files, 3);
    // The time of the file is now.
    assert_eq!(run(&layout, untagged(3600)).entries, Vec::<String>::new());
    assert_eq!(run(&layout, untagged(0)).entries, ["a/b@sha256:0"]);
    let report = run(&layout, GcOptions { dry_run: false, ..untagged(0) });
    assert_eq!((report.removed.files, there(&layout).len()), (3, 0));
}

#[test]
fn nothing_goes_while_somebody_writes_or_when_what_is_needed_is_not_known() {
    let (dir, layout, image) = layout();
    let opened = Layout::open(layout.root()).unwrap();
    let refused = || gc(&opened, &NOW, &HashMap::new).unwrap_err().to_string();
    let all = there(&layout);
    let writer = Layout::create(layout.root()).unwrap();
    let mut run = Run {
        layout: &opened,
        options: &NOW,
        pushed: &HashMap::new,
        now: SystemTime::now(),
        record: Record::default(),
        documents: Documents::default(),
        report: GcReport::default(),
    };
    assert!(opened.exclusive(Duration::ZERO).unwrap().is_none());
    assert_eq!(run.plan().unwrap().blobs.len(), 3);
    drop(writer);
    // Pushed of late.
    let pushed = || HashMap::from([(digest_of(&image).unwrap(), seconds(SystemTime::now()))]);
    let long = GcOptions { grace: Duration::from_secs(3600), ..NOW };
    assert_eq!(gc(&opened, &long, &pushed).unwrap().removed.files, 0);

    layout.tag(&image, Some("app:1")).unwrap();
    let path = layout.blob_path(&digest_of(&image).unwrap());
    let bytes = std::fs::read(&path).unwrap();
    let damaged = String::from_utf8(bytes.clone()).unwrap().replace("schemaVersion", "schemaversion");
    for content in [Some(damaged.as_bytes()), Some(b"{"), None] {
        std::fs::remove_file(&path).unwrap();
        content.iter().for_each(|content| std::fs::write(&path, content).unwrap());
        let error = refused();
        assert!(error.contains(image.digest().as_ref()) && error.contains("nothing is removed"), "{error}");
        std::fs::write(&path, &bytes).unwrap();
    }
    assert_eq!(there(&layout), all);

    std::fs::rename(layout.root().join(BLOBS), dir.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), layout.root().join(BLOBS)).unwrap();
    assert!(refused().contains("a link"));
}

#[test]
fn a_layer_of_an_image_that_is_needed_may_be_missing_and_so_may_a_platform() {
    use oci_spec::image::MediaType;
    let (_dir, layout, image) = layout();
    let absent = descriptor(MediaType::ImageManifest, &Digest::sha256("absent"), 6);
    let list = layout.write_blob(MediaType::ImageIndex, &canonical(&index_of(vec![image, absent]))).unwrap();
    layout.tag(&list, Some("app:1")).unwrap();
    layout.write_blob(MediaType::ImageLayer, b"useless").unwrap();
    let report = run(&layout, NOW);
    assert_eq!((report.removed.files, report.needed.files, report.missing_manifests), (1, 4, 1));
}
