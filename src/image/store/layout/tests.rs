//! A layout, and what others may have left in it.

use super::*;

fn layout() -> (tempfile::TempDir, Layout) {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::create(dir.path()).unwrap();
    (dir, layout)
}

#[test]
fn a_new_layout_is_what_the_specification_says_and_opens_again() {
    let (dir, layout) = layout();
    let text = |name: &str| String::from_utf8(fs::read(&dir.path().join(name), 1000).unwrap()).unwrap();
    assert_eq!(text("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#);
    let empty = r#"{"manifests":[],"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}"#;
    assert_eq!(text("index.json"), empty);
    layout.write_blob(MediaType::EmptyJSON, b"{}").unwrap();
    Layout::create(dir.path()).unwrap();
    assert_eq!(Layout::open(dir.path()).unwrap().index().unwrap().manifests().len(), 0);
}

#[test]
fn what_is_no_layout_or_a_later_one_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    assert_eq!(Layout::open(&missing).unwrap_err().to_string(), format!("cannot open {}", missing.display()));
    fs::write(&dir.path().join("mine"), b"x").unwrap();
    let error = Layout::create(dir.path()).unwrap_err().to_string();
    assert_eq!(error, format!("{}: not an OCI image layout", dir.path().display()));
    assert_eq!(fs::list(dir.path()).unwrap(), [dir.path().join("mine")]);
    fs::write(&dir.path().join("oci-layout"), br#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    fs::write(&dir.path().join("index.json"), b"{}").unwrap();
    let error = Layout::open(dir.path()).unwrap_err().to_string();
    let expected = format!("{}: image layout version `2.0.0` is not known (known: 1.0.0)", dir.path().display());
    assert_eq!(error, expected);
}

#[test]
fn a_store_of_hauler_is_a_layout_without_its_marker() {
    let (dir, layout) = layout();
    let image = layout.write_blob(MediaType::ImageManifest, b"1").unwrap();
    layout.tag(&image, Some("a:1")).unwrap();
    fs::remove_file(&dir.path().join(MARKER)).unwrap();
    let found = Layout::open(dir.path()).unwrap().find(Some("a:1")).unwrap();
    assert_eq!((found.digest(), dir.path().join(MARKER).exists()), (image.digest(), false));
    // Anything with an index.json is none.
    fs::remove_dir_all(&dir.path().join(BLOBS)).unwrap();
    assert!(matches!(Layout::open(dir.path()), Err(Error::NotALayout(_))));
}

#[test]
fn a_name_belongs_to_one_image_and_the_order_does_not_depend_on_history() {
    let names = |first: &str, second: &str| {
        let (_dir, layout) = layout();
        let one = layout.write_blob(MediaType::ImageManifest, b"1").unwrap();
        let two = layout.write_blob(MediaType::ImageManifest, b"2").unwrap();
        layout.tag(&two, None).unwrap();
        layout.tag(&two, Some(first)).unwrap();
        layout.tag(&two, Some(second)).unwrap();
        layout.tag(&one, Some("b")).unwrap();
        let index = layout.index().unwrap();
        assert_eq!(layout.find(Some("b")).unwrap().digest(), one.digest());
        let found: Vec<_> =
            index.manifests().iter().map(|there| (ref_name(there).unwrap().to_owned(), there.size())).collect();
        (found, fs::read(&layout.root().join(INDEX), 1000).unwrap())
    };
    assert_eq!(names("a", "b"), names("b", "a"));
    assert_eq!(names("a", "b").0, [("a".to_owned(), 1), ("b".to_owned(), 1)]);
}

#[test]
fn an_image_that_is_not_there_or_not_named_is_an_error_that_lists_what_there_is() {
    let (dir, layout) = layout();
    let root = dir.path().display();
    let error = |name| layout.find(name).unwrap_err().to_string();
    assert_eq!(error(None), format!("{root}: holds 0 images, name one"));
    let one = layout.write_blob(MediaType::ImageManifest, b"1").unwrap();
    layout.tag(&one, Some("a:1")).unwrap();
    layout.tag(&one, Some("a:2")).unwrap();
    assert_eq!(layout.find(None).unwrap().digest(), one.digest());
    let two = layout.write_blob(MediaType::ImageManifest, b"2").unwrap();
    layout.tag(&two, None).unwrap();
    assert_eq!(layout.find(None).unwrap().digest(), one.digest());
    layout.tag(&one, Some("a:1")).unwrap();
    layout.tag(&two, Some("a:2")).unwrap();
    assert_eq!(error(None), format!("{root}: holds 2 images, name one (it holds: a:1, a:2)"));
    assert_eq!(error(Some("c")), format!("{root}: holds no image called `c` (it holds: a:1, a:2)"));
}

#[test]
fn wrong_bytes_get_no_name_and_are_not_read_as_right() {
    let (dir, layout) = layout();
    let right = descriptor(MediaType::ImageLayer, &Digest::sha256(b"right"), 5);
    for (bytes, found) in [("wrong", Digest::sha256(b"wrong").to_string()), ("longer", "6 bytes".into())] {
        let mut blob = layout.blob_writer(Algorithm::Sha256).unwrap();
        blob.write_all(bytes.as_bytes()).unwrap();
        let error = blob.finish_expecting(&right).unwrap_err().to_string();
        assert!(error.ends_with(&format!("found {found}")), "{error}");
    }
    assert_eq!(fs::list(&dir.path().join("blobs/sha256")).unwrap(), Vec::<PathBuf>::new());
    let path = layout.blob_path(&digest_of(&right).unwrap());
    for (bytes, problem) in
        [("wrong", "another digest"), ("righ", "fewer bytes"), ("right!", "more bytes"), ("right", "")]
    {
        fs::write(&path, bytes.as_bytes()).unwrap();
        match layout.read_document(&right) {
            Ok(read) => assert_eq!((read.as_slice(), problem), (&b"right"[..], "")),
            Err(Error::Path(error)) => {
                assert!(!problem.is_empty() && error.source.to_string().contains(problem), "{error:?}");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_document_above_4_mib_is_refused_before_it_is_read() {
    let (_dir, layout) = layout();
    let large = vec![b' '; (4 << 20) + 1];
    let described = layout.write_blob(MediaType::ImageManifest, &large).unwrap();
    let error = layout.read_document(&described).unwrap_err().to_string();
    assert!(error.ends_with("4194305 bytes is above the limit of 4194304 bytes for a document"), "{error}");
}

#[test]
fn what_a_killed_writer_left_goes_away_and_what_is_being_written_stays() {
    let (dir, layout) = layout();
    let mut writer = layout.blob_writer(Algorithm::Sha256).unwrap();
    writer.write_all(b"x").unwrap();
    fs::write(&dir.path().join(".blob.killed.partial"), b"x").unwrap();
    assert_eq!(layout.strays().unwrap(), [(PathBuf::from(".blob.killed.partial"), true)]);
    Layout::create(dir.path()).unwrap();
    assert_eq!(layout.strays().unwrap(), []);
    assert_eq!(writer.finish().unwrap(), (Digest::sha256(b"x"), 1));
}

#[test]
fn two_writers_of_one_layout_lose_no_name() {
    let (_dir, layout) = layout();
    let one = layout.write_blob(MediaType::ImageManifest, b"1").unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (layout, one) = (&layout, &one);
            scope.spawn(move || {
                for n in 0..10 {
                    layout.tag(one, Some(&format!("{writer}-{n}"))).unwrap();
                }
            });
        }
    });
    assert_eq!(layout.index().unwrap().manifests().len(), 40);
}
