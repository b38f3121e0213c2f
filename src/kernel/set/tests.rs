//! Sets there and back, and which kernels a filter keeps.

use super::*;
use crate::kernel::group::group;

fn set(files: &[&str], filter: &Filter) -> KernelSet {
    let packages: Vec<Package> = files.iter().map(|file| Package::from_location(file).unwrap()).collect();
    let mut kernels = group(packages).kernels;
    filter.apply(&mut kernels);
    KernelSet::new(kernels)
}

#[test]
fn a_package_whose_name_leads_out_of_a_directory_is_refused() {
    let whole = set(&FILES, &Filter::default());
    let json = |change: fn(&mut Name)| {
        let mut set = whole.clone();
        change(&mut set.kernels[0].packages[0].name);
        KernelSet::parse(&serde_json::to_vec(&set).unwrap())
    };
    assert_eq!(json(|_| {}).unwrap(), whole);
    for change in [
        (|name| name.name = "a/../../b".into()) as fn(&mut Name),
        |name| name.version = "1/../../../pwn".into(),
        |name| name.name = "..".into(),
    ] {
        assert!(matches!(json(change), Err(Error::Name(_))));
    }
}

const FILES: [&str; 8] = [
    "https://h/linux-headers-5.4.0-86-generic_5.4.0-86.97_amd64.deb",
    "https://h/linux-headers-5.4.0-86_5.4.0-86.97_all.deb",
    "https://h/linux-headers-5.4.0-9-generic_5.4.0-9.12_amd64.deb",
    "https://h/kernel-uek-devel-5.4.17-2136.305.5.4.el8uek.x86_64.rpm",
    "https://h/kernel-core-4.18.0-305.10.2.el8_4.x86_64.rpm",
    "https://h/kernel-devel-4.18.0-305.10.2.el8_4.x86_64.rpm",
    "https://h/kernel-devel-4.18.0-305.el8.x86_64.rpm",
    "https://h/kernel-rt-devel-4.18.0-305.rt7.72.el8.x86_64.rpm",
];

#[test]
fn a_set_is_the_same_whatever_the_order_of_its_packages_and_is_read_back() {
    let forward = set(&FILES, &Filter::default());
    let mut backward = FILES;
    backward.reverse();
    let json = serde_json::to_string(&forward).unwrap();
    assert_eq!(json, serde_json::to_string(&set(&backward, &Filter::default())).unwrap());
    assert_eq!(KernelSet::parse(json.as_bytes()).unwrap(), forward);
    let earlier = json.replacen("\"version\":2", "\"version\":1", 1);
    assert_eq!(KernelSet::parse(earlier.as_bytes()).unwrap(), forward);
    let later = json.replacen("\"version\":2", "\"version\":3", 1);
    assert_eq!(
        KernelSet::parse(later.as_bytes()).unwrap_err().to_string(),
        "a list of kernels of format `haversack.kernels` version 3; this program reads haversack.kernels up to version 2"
    );
}

#[test]
fn filters_keep_what_is_wanted() {
    let kept = |filter: Filter| {
        set(&FILES, &filter).kernels.into_iter().map(|kernel| kernel.release.uname).collect::<Vec<_>>()
    };
    let rt = "4.18.0-305.rt7.72.el8.x86_64";
    let (el_new, el_old) = ("4.18.0-305.10.2.el8_4.x86_64", "4.18.0-305.el8.x86_64");
    for (filter, expected) in [
        (Filter { flavours: vec!["rt".into()], ..Filter::default() }, vec![rt]),
        (Filter { releases: vec!["4.18.0-305.10".into()], ..Filter::default() }, vec![el_new]),
        (Filter { releases: vec!["4.18.0-305.1".into()], ..Filter::default() }, vec![]),
        (Filter { releases: vec![el_old.into()], ..Filter::default() }, vec![el_old]),
        (
            Filter { since: Some("5.4.0-80".into()), ..Filter::default() },
            vec!["5.4.17-2136.305.5.4.el8uek.x86_64", "5.4.0-86-generic"],
        ),
        (
            Filter { latest: Some(1), ..Filter::default() },
            vec![rt, el_new, "5.4.17-2136.305.5.4.el8uek.x86_64", "5.4.0-86-generic"],
        ),
    ] {
        assert_eq!(kept(filter.clone()), expected, "{filter:?}");
    }
}

#[test]
fn the_newest_are_counted_by_release_and_compared_as_their_packager_does() {
    let files = [
        "linux-headers-5.4.0-86-generic_5.4.0-86.97_amd64.deb",
        "linux-headers-5.4.0-86-generic_5.4.0-86.97~18.04.1_amd64.deb",
        "linux-headers-5.4.0-9-generic_5.4.0-9.12_amd64.deb",
        "kernel-devel-5.14.0-427.13.1.el9_4.x86_64.rpm",
        "kernel-devel-5.14.0-427.el9.x86_64.rpm",
    ];
    let kept = |filter: &Filter| {
        let kernels = set(&files, filter).kernels.into_iter();
        kernels.map(|kernel| kernel.release.build).collect::<Vec<_>>()
    };
    let latest = Filter { latest: Some(1), ..Filter::default() };
    assert_eq!(kept(&latest), ["5.14.0-427.13.1.el9_4", "5.4.0-86.97~18.04.1", "5.4.0-86.97"]);
    for (since, expected) in [
        ("5.14.0-427.el9", &["5.14.0-427.el9", "5.14.0-427.13.1.el9_4"][..]),
        ("5.14.0-427.13.1.el9_4", &["5.14.0-427.13.1.el9_4"]),
    ] {
        assert_eq!(kept(&Filter { since: Some(since.into()), ..Filter::default() }), expected, "{since}");
    }
}

#[test]
fn driverkit_gets_its_own_schema() {
    let flavours = vec!["generic".into(), "uek".into()];
    let set = set(&FILES, &Filter { latest: Some(1), flavours, ..Filter::default() });
    insta::assert_snapshot!(serde_json::to_string_pretty(&set.kernel_crawler()).unwrap(), @r#"
    {
      "ol": [
        {
          "headers": [
            "https://h/kernel-uek-devel-5.4.17-2136.305.5.4.el8uek.x86_64.rpm"
          ],
          "kernelrelease": "5.4.17-2136.305.5.4.el8uek.x86_64",
          "kernelversion": "2",
          "target": "ol"
        }
      ],
      "ubuntu": [
        {
          "headers": [
            "https://h/linux-headers-5.4.0-86-generic_5.4.0-86.97_amd64.deb",
            "https://h/linux-headers-5.4.0-86_5.4.0-86.97_all.deb"
          ],
          "kernelrelease": "5.4.0-86-generic",
          "kernelversion": "97",
          "target": "ubuntu-generic"
        }
      ]
    }
    "#);
}

/// An image with the headers of a set needs what they need, and none of what they replace.
#[test]
fn what_headers_say_of_other_packages_is_read_back() {
    let any = |texts: &[&str]| texts.iter().map(|text| Relation::parse(text)).collect::<Vec<_>>();
    for (file, depends) in [
        ("kernel-devel-5.14.0-1.el9.x86_64.rpm", vec![any(&["(gcc or clang)"]), any(&["make (>= 1:4.2)"])]),
        ("linux-headers-6.1.0-1-amd64_6.1.4-1_amd64.deb", vec![any(&["gcc-12", "clang"]), any(&["make (>= 4.2)"])]),
    ] {
        let said = Relations {
            depends,
            provides: any(&["headers (= 2)"]),
            conflicts: any(&["old-headers"]),
            obsoletes: any(&["older-headers (<< 2)"]),
            epoch: 2,
            release: None,
        };
        let package = Package { relations: Some(said.clone()), ..Package::from_location(file).unwrap() };
        let set = KernelSet::new(group(vec![package]).kernels);
        let read = KernelSet::parse(&serde_json::to_vec(&set).unwrap()).unwrap().into_kernels();
        assert_eq!(read[0].packages[0].1.relations.as_ref(), Some(&said), "{file}");
    }
}
