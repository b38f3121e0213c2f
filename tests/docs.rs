//! The pages for people: every link between them leads somewhere, and every page is reached from the README.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let docs = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"]
        .map(|name| root.join(name))
        .into_iter()
        .chain(docs)
        .collect()
}

/// The lines of a page that are not code.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    page.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// The targets of links to files of the project.
fn links(page: &str) -> Vec<&str> {
    let targets = prose(page).flat_map(|line| line.split("](").skip(1)).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://")).collect()
}

/// What GitHub calls the headings of a page.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = prose(page).filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let slug = |heading: &str| {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    headings.map(slug).collect()
}

#[test]
fn every_link_leads_to_a_page_and_a_heading() {
    let mut broken = Vec::new();
    let mut checked = 0;
    for path in pages() {
        for link in links(&fs::read_to_string(&path).unwrap()) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let found = if anchor.is_empty() {
                target.exists()
            } else {
                fs::read_to_string(&target).is_ok_and(|page| anchors(&page).contains(anchor))
            };
            checked += 1;
            if !found {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(checked > 20, "only {checked} links were found");
}

/// Recordings of commands at work are made anew when words of theirs change; one that no page shows would be forgotten.
#[test]
fn every_recording_is_shown_on_a_page() {
    let pages = pages();
    let texts: Vec<String> = pages.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let shown: BTreeSet<&str> = texts
        .iter()
        .flat_map(|text| links(text))
        .filter_map(|link| link.split_once("pictures/"))
        .map(|it| it.1)
        .collect();
    let mut made: Vec<String> = Vec::new();
    for command in ["build", "copy", "snapshot", "unpack"] {
        made.extend(["120", "60"].map(|columns| format!("{command}-{columns}.svg")));
    }
    let there = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pictures")).unwrap();
    let mut there: Vec<String> = there.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    there.retain(|name| name.ends_with(".svg"));
    there.sort();
    assert_eq!(there, made);
    made.retain(|name| !shown.contains(name.as_str()));
    assert_eq!(made, [""; 0]);
}

/// Files of this repository that a page names between backquotes.
fn files_named(page: &str) -> Vec<&str> {
    let words = prose(page).flat_map(|line| line.split('`').skip(1).step_by(2)).flat_map(str::split_whitespace);
    let ours = ["src/", "scripts/", "testdata/", "deploy/", "images/"];
    words
        .filter(|word| {
            ours.iter().any(|folder| word.starts_with(folder)) && !word.contains("NAME") && !word.contains('*')
        })
        .collect()
}

#[test]
fn every_file_that_a_page_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = Vec::new();
    let mut checked = 0;
    // The changelog also names what is gone.
    for path in pages().iter().filter(|page| !page.ends_with("CHANGELOG.md")) {
        let page = fs::read_to_string(path).unwrap();
        for file in files_named(&page) {
            checked += 1;
            if !root.join(file).exists() {
                missing.push(format!("{}: {file}", path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    assert!(checked > 10, "only {checked} files were found");
}

/// `MODULE::TEST` of the tests of `serve` and of the attacks; all of these are on the page.
#[test]
fn every_test_that_the_page_on_security_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/security.md")).unwrap();
    let named: BTreeSet<(&str, &str)> =
        page.split('`').skip(1).step_by(2).filter_map(|code| code.split_once("::")).collect();
    assert!(named.len() > 80, "{named:?}");
    for (module, test) in &named {
        let files = ["serve", "security"].map(|tests| root.join("tests").join(tests).join(module).with_extension("rs"));
        let mut texts = files.iter().filter_map(|file| fs::read_to_string(file).ok());
        assert!(texts.any(|text| text.contains(&format!("fn {test}()"))), "{module} has no test {test}");
    }
    for entry in fs::read_dir(root.join("tests/security")).unwrap() {
        let path = entry.unwrap().path();
        let (text, module) = (fs::read_to_string(&path).unwrap(), path.file_stem().unwrap().to_str().unwrap());
        let tests = text.split("#[test]\nfn ").skip(1).filter_map(|rest| rest.split_once("()").map(|(test, _)| test));
        let lost: Vec<&str> = tests.filter(|test| !named.contains(&(module, *test))).collect();
        assert!(lost.is_empty(), "docs/security.md does not name {lost:?} of {module}");
    }
}

/// The names of tests in the tables on what is compared with what.
#[test]
fn every_test_that_the_pages_on_images_and_kernels_name_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = ["images", "kernels"].map(|page| fs::read_to_string(root.join(format!("docs/{page}.md"))).unwrap());
    let mut missing = BTreeSet::new();
    for page in &pages {
        let (_, table) = page.split_once("## Who says that it is right").unwrap();
        let codes = table.split('`').skip(1).step_by(2);
        let named: BTreeSet<&str> = codes.filter(|code| code.matches('_').count() > 3 && !code.contains(' ')).collect();
        assert!(named.len() > 25, "{named:?}");
        missing.extend(named);
    }
    for entry in ["tests", "src"].iter().flat_map(|directory| walkdir::WalkDir::new(root.join(directory))) {
        let path = entry.unwrap().into_path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(path).unwrap();
            missing.retain(|test| !text.contains(&format!("fn {test}()")));
        }
    }
    assert_eq!(missing, BTreeSet::new());
}

#[test]
fn every_page_is_reached_from_the_readme() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let linked: BTreeSet<PathBuf> =
        links(&readme).into_iter().map(|link| root.join(link.split('#').next().unwrap_or_default())).collect();
    let lost: Vec<PathBuf> =
        pages().into_iter().filter(|page| !page.ends_with("README.md") && !linked.contains(page)).collect();
    assert_eq!(lost, Vec::<PathBuf>::new());
}

#[test]
fn headings_are_named_as_github_names_them() {
    let page = "# Two words\n```\n# no heading\n```\n## `copy`, sync & what it doesn't\n";
    let expected = ["two-words", "copy-sync--what-it-doesnt"].map(str::to_owned);
    assert_eq!(anchors(page), BTreeSet::from(expected));
}
