use std::collections::BTreeMap;

use super::*;
use crate::kernel::package::{Name, Relations};
use crate::kernel::resolve::rich::rpm_relation;

/// Stanzas as in `Packages`, a package a line: `NAME VERSION; depends: …; provides: …; conflicts: …`.
fn debs(lines: &str) -> Vec<Package> {
    let package = |line: &str| {
        let mut parts = line.split(';').map(str::trim);
        let (name, version) = parts.next().unwrap().split_once(' ').unwrap();
        let mut fields: BTreeMap<String, String> = parts
            .map(|part| part.split_once(':').unwrap())
            .map(|(field, value)| (field.to_owned(), value.trim().to_owned()))
            .collect();
        fields.insert("version".into(), version.into());
        let plain = version.split_once(':').map_or(version, |(_, version)| version);
        let mut package = Package::from_location(&format!("{name}_{plain}_all.deb")).unwrap();
        package.relations = Some(Relations::from_deb_fields(&fields));
        package
    };
    lines.lines().map(str::trim).filter(|line| !line.is_empty()).map(package).collect()
}

fn rpm(name: &str, version: &str, requires: &[&str], provides: &[&str]) -> Package {
    let architecture = "noarch".to_owned();
    let name = Name { name: name.into(), version: version.into(), architecture, format: Format::Rpm };
    let list = |texts: &[&str]| texts.iter().map(|text| rpm_relation(text)).collect::<Vec<_>>();
    let relations = Relations {
        depends: list(requires).into_iter().map(|relation| vec![relation]).collect(),
        provides: list(provides),
        ..Relations::default()
    };
    let package = Package::from_location(&name.to_string()).unwrap();
    Package { relations: Some(relations), ..package }
}

fn answer(packages: Vec<Package>, wants: &[&str], provided: &[&str]) -> Result<Vec<String>, String> {
    let universe = Universe::new(packages, &"x86_64".parse().unwrap());
    let request = Request {
        wanted: wants.iter().map(|text| wanted(text)).collect(),
        needed: Vec::new(),
        provided: provided.iter().map(|name| (*name).to_owned()).collect(),
        chosen: Vec::new(),
    };
    let name = |number: &usize| {
        let Name { name, version, .. } = &universe.package(*number).name;
        format!("{name} {version}")
    };
    match universe.resolve(&request) {
        Ok(numbers) => Ok(numbers.iter().map(name).collect()),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn what_is_needed_is_found_whatever_the_order_of_the_packages() {
    let lines = "
        gcc 4:12.2.0-3; depends: gcc-12 (>= 12.2.0-1~), cpp (= 4:12.2.0-3)
        gcc-12 12.2.0-14; depends: libc6 (>= 2.36)
        cpp 4:12.2.0-3
        cpp 4:12.1.0-1
        libc6 2.36-9
        libc6 2.36-10
        awk-user 1; depends: awk, mawk | gawk
        gawk 5; provides: awk
        mawk 1.3; provides: awk
        versioned 1; depends: api (>= 2)
        old-api 1; provides: api (= 1)
        new-api 1; provides: api (= 2)
        api-of-no-version 1; provides: api
        by-name 1; depends: thing
        a-thing 9; provides: thing
        thing 1
        circle-a 1; depends: circle-b
        circle-b 1; depends: circle-a
        picky 1; depends: libc6 (= 2.36-9)
        either 1; depends: bad | good
        bad 1; conflicts: gcc
        good 1
    ";
    for (wants, provided, expected) in [
        (&["gcc"][..], &[][..], Ok(&["gcc 12.2.0-3", "gcc-12 12.2.0-14", "cpp 12.2.0-3", "libc6 2.36-10"][..])),
        (&["gcc"], &["gcc-12", "cpp"], Ok(&["gcc 12.2.0-3"])),
        (&["awk-user"], &[], Ok(&["awk-user 1", "gawk 5"])),
        (&["mawk", "awk-user"], &[], Ok(&["mawk 1.3", "awk-user 1"])),
        (&["versioned"], &[], Ok(&["versioned 1", "new-api 1"])),
        (&["by-name"], &[], Ok(&["by-name 1", "thing 1"])),
        (&["circle-a"], &[], Ok(&["circle-a 1", "circle-b 1"])),
        // Going back: the newest libc6 is chosen first and does not stay.
        (&["libc6", "picky"], &[], Ok(&["libc6 2.36-9", "picky 1"])),
        (&["gcc-12", "picky"], &[], Ok(&["gcc-12 12.2.0-14", "picky 1", "libc6 2.36-9"])),
        (&["gcc", "either"], &["gcc-12", "cpp"], Ok(&["gcc 12.2.0-3", "either 1", "good 1"])),
        (&["nothing"], &[], Err("nothing: no source has it")),
        (
            &["cpp (>= 4:13)"],
            &[],
            Err("cpp (>= 4:13): the sources have only cpp_12.1.0-1_all.deb, cpp_12.2.0-3_all.deb"),
        ),
        (
            &["gcc", "bad"],
            &["gcc-12", "cpp"],
            Err("bad: bad_1_all.deb conflicts with gcc, which is gcc_12.2.0-3_all.deb"),
        ),
        (
            &["bad", "gcc"],
            &["gcc-12", "cpp"],
            Err("gcc: bad_1_all.deb conflicts with gcc, which is gcc_12.2.0-3_all.deb"),
        ),
    ] {
        let expected: Result<Vec<String>, String> = match expected {
            Ok(names) => Ok(names.iter().map(|name| (*name).to_owned()).collect()),
            Err(why) => Err(why.to_owned()),
        };
        let mut packages = debs(lines);
        assert_eq!(answer(packages.clone(), wants, provided), expected, "{wants:?}");
        packages.reverse();
        assert_eq!(answer(packages, wants, provided), expected, "{wants:?} reversed");
    }
}

#[test]
fn a_dead_end_is_explained_by_the_chain_that_leads_to_it() {
    let lines = "
        toolkit 1; depends: compiler, other
        compiler 2; depends: library (= 2)
        other 1
        library 1
        left 1; depends: shared (= 1)
        right 1; depends: shared (= 2)
        shared 1
        shared 2
    ";
    let why = |wants: &[&str]| answer(debs(lines), wants, &[]).unwrap_err();
    insta::assert_snapshot!(why(&["toolkit"]), @"toolkit_1_all.deb needs compiler_2_all.deb needs library (= 2): the sources have only library_1_all.deb");
    insta::assert_snapshot!(why(&["left", "right"]), @"right_1_all.deb needs shared (= 2): shared_2_all.deb: shared_1_all.deb is needed, too");
}

/// Asked for or needed, at whatever depth; and what hangs on the choice of another is looked for, too.
#[test]
fn all_that_is_missing_is_named_at_once() {
    let lines = "
        gcc 12; depends: gcc-12 (>= 13), libc6, binutils
        gcc-12 12
        libc6 2; depends: nowhere | elsewhere
        binutils 2
    ";
    for (wants, expected) in [
        (&["make"][..], "make: no source has it"),
        (
            &["make", "libc6", "kmod (>= 3)", "binutils"],
            "make, kmod (>= 3): no source has them; libc6_2_all.deb needs nowhere | elsewhere: no source has it",
        ),
        (
            &["gcc", "make"],
            "make: no source has it; gcc_12_all.deb needs gcc-12 (>= 13): the sources have only gcc-12_12_all.deb; \
             gcc_12_all.deb needs libc6_2_all.deb needs nowhere | elsewhere: no source has it",
        ),
    ] {
        assert_eq!(answer(debs(lines), wants, &[]).unwrap_err(), expected, "{wants:?}");
    }
}

#[test]
fn dead_ends_in_one_corner_do_not_multiply_those_in_another() {
    // 30 independent packages of 10 versions each, and then something that is not there: 10^30 combinations.
    let mut lines: String = (0..30).flat_map(|n| (0..10).map(move |v| format!("p{n} {v}\n"))).collect();
    lines.push_str("last 1; depends: nowhere\n");
    let wants: Vec<String> = (0..30).map(|n| format!("p{n}")).chain(["last".to_owned()]).collect();
    let wants: Vec<&str> = wants.iter().map(String::as_str).collect();
    assert_eq!(answer(debs(&lines), &wants, &[]).unwrap_err(), "last_1_all.deb needs nowhere: no source has it");
    // Only another choice of the first one helps, and it is found: no other was made anew on the way.
    let lines = lines.replace("depends: nowhere", "depends: p0 (= 0)");
    let found = answer(debs(&lines), &wants, &[]).unwrap();
    assert_eq!((found.len(), &*found[0], &*found[1]), (31, "p0 0", "p1 9"));
}

#[test]
fn rpm_requirements_are_met_by_capabilities_files_and_rich_expressions() {
    let universe = || {
        vec![
            rpm("gcc", "11.5.0-5.el9", &["libmpc.so.3()(64bit)", "rpmlib(CompressedFileNames) <= 3.0.4-1"], &[]),
            rpm("gcc", "11.4.1-3.el9", &[], &[]),
            rpm("libmpc", "1.2.1-4.el9", &["/bin/sh", "(glibc-a or glibc-b)"], &["libmpc.so.3()(64bit)"]),
            rpm("bash", "5.1-9.el9", &[], &["/bin/sh"]),
            rpm("glibc-b", "2-1", &["(x if y)", "(z >= 2 with z < 3)"], &[]),
            rpm("z", "2.5-1", &[], &[]),
            rpm("z", "3.0-1", &[], &[]),
            rpm("capable", "1-1", &[], &["capability"]),
        ]
    };
    // What is provided without a version fulfils every bound.
    assert_eq!(answer(universe(), &["capability (>= 2)"], &[]).unwrap(), ["capable 1-1"]);
    let names = answer(universe(), &["gcc"], &[]);
    assert_eq!(names.unwrap(), ["gcc 11.5.0-5.el9", "libmpc 1.2.1-4.el9", "bash 5.1-9.el9", "glibc-b 2-1", "z 2.5-1"]);
    // A bound without a release takes any release of that version.
    assert_eq!(answer(universe(), &["gcc (= 11.4.1)"], &[]).unwrap(), ["gcc 11.4.1-3.el9"]);
    assert_eq!(answer(universe(), &["libmpc"], &["/bin/sh", "glibc-a"]).unwrap(), ["libmpc 1.2.1-4.el9"]);
    // What is wanted may be rich, too.
    let universe = Universe::new(universe(), &"x86_64".parse().unwrap());
    let wanted = ["(clang or z >= 3)", "rpmlib(FileDigests) <= 4.6"].map(|text| vec![rpm_relation(text)]).to_vec();
    let request = Request {
        wanted: [wanted, vec![vec![Relation { name: "(bash)".into(), version: None }]]].concat(),
        ..Request::default()
    };
    let names: Vec<String> =
        universe.resolve(&request).unwrap().iter().map(|it| universe.package(*it).name.to_string()).collect();
    assert_eq!(names, ["z-3.0-1.noarch.rpm", "bash-5.1-9.el9.noarch.rpm"]);
}

/// Of those that would do, what replaces another; what was asked for by a name, and what a package needs.
#[test]
fn what_replaces_a_package_is_taken_in_its_place_and_never_beside_it() {
    let with = |name: &str, version: &str, requires: &[&str], provides: &[&str], obsoletes: &[&str]| {
        let mut package = rpm(name, version, requires, provides);
        let obsoletes = obsoletes.iter().map(|text| rpm_relation(text)).collect();
        package.relations.as_mut().unwrap().obsoletes = obsoletes;
        package
    };
    let universe = || {
        vec![
            with("old", "1-1", &[], &[], &[]),
            with("new", "2-1", &[], &["old = 2"], &["old < 2"]),
            with("kept", "3-1", &[], &[], &["old < 1"]),
            with("user", "1-1", &["old"], &[], &[]),
            with("older", "1-1", &[], &[], &[]),
            with("newer", "1-1", &[], &[], &["older"]),
            with("older-user", "1-1", &["older"], &[], &[]),
            with("newer-user", "1-1", &["newer"], &[], &[]),
        ]
    };
    for (wants, expected) in [
        (&["old"][..], Ok("new 2-1")),
        (&["user"], Ok("user 1-1, new 2-1")),
        (&["kept", "old"], Ok("kept 3-1, new 2-1")),
        (&["older"], Ok("newer 1-1")),
        (&["older-user"], Ok("older-user 1-1, older 1-1")),
        (
            &["newer", "older-user"],
            Err("older-user-1-1.noarch.rpm needs older: newer-1-1.noarch.rpm replaces older-1-1.noarch.rpm"),
        ),
        // The one that is replaced was chosen first.
        (
            &["older-user", "newer-user"],
            Err("newer-user-1-1.noarch.rpm needs newer: newer-1-1.noarch.rpm replaces older-1-1.noarch.rpm"),
        ),
        (
            &["older-user", "newer"],
            Err("older-user-1-1.noarch.rpm needs older: newer-1-1.noarch.rpm replaces older-1-1.noarch.rpm"),
        ),
    ] {
        let found = answer(universe(), wants, &[]).map(|names| names.join(", "));
        assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned), "{wants:?}");
    }
}

/// A file that nobody says to have ends the search when lists of files are unread, and only then is one looked for.
#[test]
fn files_that_nobody_says_to_have_are_asked_for_once_and_all_together() {
    let packages = || {
        vec![
            rpm("a", "1-1", &["/usr/share/x", "(/usr/share/y or z)", "/bin/sh"], &[]),
            rpm("b", "1-1", &["/usr/share/w"], &[]),
            rpm("shell", "1-1", &[], &["/bin/sh"]),
        ]
    };
    let machine = "x86_64".parse().unwrap();
    let unread = Universe::new(packages(), &machine).with_unread_files();
    let request = |name: &str| Request { wanted: vec![wanted(name)], ..Request::default() };
    assert_eq!(unread.resolve(&request("shell")).map(|found| found.len()), Ok(1));
    let error = unread.resolve(&request("a")).unwrap_err();
    assert_eq!(error, Error::UnreadFiles { path: "/usr/share/x".into() });
    assert_eq!(
        unread.unknown_paths().into_iter().collect::<Vec<_>>(),
        ["/usr/share/w", "/usr/share/x", "/usr/share/y"]
    );
    let mut known = packages();
    for path in ["/usr/share/x", "/usr/share/y"] {
        known[2].relations.as_mut().unwrap().provides.push(rpm_relation(path));
    }
    let read = Universe::new(known, &machine);
    assert_eq!(read.resolve(&request("a")).map(|found| found.len()), Ok(2));
    let error = read.resolve(&request("b")).unwrap_err().to_string();
    assert_eq!(error, "b-1-1.noarch.rpm needs /usr/share/w: no source has it");
}
