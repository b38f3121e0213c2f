use super::*;
use crate::digest::Digest;
use crate::kernel::package::{Relation, Relations};

fn packages(files: &[&str]) -> Vec<Package> {
    files.iter().map(|file| Package::from_location(file).unwrap()).collect()
}

/// `RELEASE: NAME NAME…` a kernel, with what is missing after `!`.
fn says(grouping: &Grouping) -> Vec<String> {
    let line = |kernel: &Kernel| {
        let names = kernel.packages.iter().map(|(_, package)| format!(" {}", package.name.name)).collect::<String>();
        let missing = kernel.missing.iter().map(|what| format!(" !{what}")).collect::<String>();
        format!("{}:{names}{missing}", kernel.release.uname)
    };
    grouping.kernels.iter().map(line).collect()
}

#[test]
fn shared_packages_join_the_kernels_that_their_names_say_and_no_others() {
    let grouping = group(packages(&[
        "linux-headers-6.1.0-56-rt-amd64_6.1.192-2_amd64.deb",
        "linux-headers-6.1.0-56-amd64_6.1.192-2_amd64.deb",
        "linux-headers-6.1.0-56-arm64_6.1.192-2_arm64.deb",
        "linux-headers-6.1.0-56-common-rt_6.1.192-2_all.deb",
        "linux-headers-6.1.0-56-common_6.1.192-2_all.deb",
        "linux-kbuild-6.1_6.1.187-1_amd64.deb",
        "linux-kbuild-6.1_6.1.192-2_amd64.deb",
        "linux-image-6.1.0-56-amd64_6.1.192-2_amd64.deb",
        "linux-image-6.1.0-56-amd64-unsigned_6.1.192-2_amd64.deb",
        "linux-image-6.1.0-56-cloud-amd64-unsigned_6.1.192-2_amd64.deb",
        "linux-headers-5.4.0-1063-aws_5.4.0-1063.66_amd64.deb",
        "linux-headers-5.4.0-1063-azure_5.4.0-1063.66_amd64.deb",
        "linux-headers-5.4.0-1063-aws-fips_5.4.0-1063.66_amd64.deb",
        "linux-aws-headers-5.4.0-1063_5.4.0-1063.66_all.deb",
        "linux-aws-fips-headers-5.4.0-1063_5.4.0-1063.66_all.deb",
        "linux-aws-headers-5.4.0-1063_5.4.0-1063.66~18.04.1_all.deb",
        "kernel-default-devel-5.14.21-150400.24.33.2.x86_64.rpm",
        "kernel-devel-5.14.21-150400.24.33.1.noarch.rpm",
        "bash-5.1.8-9.el9.x86_64.rpm",
    ]));
    insta::assert_snapshot!(says(&grouping).join("\n"), @r"
    6.1.0-56-amd64: linux-headers-6.1.0-56-amd64 linux-headers-6.1.0-56-common linux-kbuild-6.1 linux-image-6.1.0-56-amd64
    6.1.0-56-arm64: linux-headers-6.1.0-56-arm64 linux-headers-6.1.0-56-common
    6.1.0-56-cloud-amd64: linux-image-6.1.0-56-cloud-amd64-unsigned
    6.1.0-56-rt-amd64: linux-headers-6.1.0-56-rt-amd64 linux-headers-6.1.0-56-common-rt linux-kbuild-6.1
    5.14.21-150400.24.33-default: kernel-default-devel kernel-devel
    5.4.0-1063-aws: linux-headers-5.4.0-1063-aws linux-aws-headers-5.4.0-1063
    5.4.0-1063-aws-fips: linux-headers-5.4.0-1063-aws-fips linux-aws-fips-headers-5.4.0-1063
    5.4.0-1063-azure: linux-headers-5.4.0-1063-azure
    ");
    let unplaced: Vec<String> =
        grouping.unplaced.iter().map(|(package, reason)| format!("{}: {reason}", package.name)).collect();
    assert_eq!(
        unplaced,
        [
            "bash-5.1.8-9.el9.x86_64.rpm: not a kernel package",
            "linux-aws-headers-5.4.0-1063_5.4.0-1063.66~18.04.1_all.deb: no kernel here needs it",
            "linux-image-6.1.0-56-amd64-unsigned_6.1.192-2_amd64.deb: the signed package of this kernel is here, too",
            "linux-kbuild-6.1_6.1.187-1_amd64.deb: no kernel here needs it",
        ]
    );
}

#[test]
fn where_metadata_is_there_dependencies_decide_and_what_is_missing_is_named() {
    let mut list = packages(&[
        "linux-headers-6.1.0-56-amd64_6.1.192-2_amd64.deb",
        "linux-headers-6.1.0-56-common_6.1.192-2_all.deb",
        "linux-headers-6.1.0-56-common_6.1.192-1_all.deb",
        "linux-kbuild-6.1_6.1.187-1_amd64.deb",
    ]);
    list[0].relations = Some(Relations::from_deb(
        "linux-headers-6.1.0-56-common (= 6.1.192-2), linux-kbuild-6.1 (>= 6.1.192-2), linux-compiler-gcc-12-x86",
        "",
    ));
    let grouping = group(list);
    insta::assert_snapshot!(says(&grouping).join("\n"), @r"
    6.1.0-56-amd64: linux-headers-6.1.0-56-amd64 linux-headers-6.1.0-56-common !linux-kbuild-6.1 (>= 6.1.192-2)
    ");
    assert_eq!(grouping.kernels[0].packages[1].1.name.version, "6.1.192-2");
}

#[test]
fn one_name_with_two_contents_is_a_conflict_and_with_one_content_counts_once() {
    let mut list = packages(&["a/kernel-core-5.14.0-1.el9.x86_64.rpm"; 4]);
    list[1].sha256 = Some(Digest::sha256("one"));
    list[2].sha256 = Some(Digest::sha256("two"));
    list[3].sha256 = Some(Digest::sha256("one"));
    let grouping = group(list.clone());
    assert_eq!(grouping.conflicts, [list[2].clone()]);
    assert_eq!(grouping.kernels[0].packages, [(Role::Core, list[1].clone())]);
}

/// Raspberry Pi OS, Ubuntu for riscv64 and SUSE's flavours by their names alone; a part of a kernel by its version.
#[test]
fn headers_of_other_makers_are_joined_by_their_names_too() {
    let grouping = group(packages(&[
        "linux-headers-6.6.20+rpt-rpi-v8_6.6.20-1+rpt1_arm64.deb",
        "linux-headers-6.6.20+rpt-common-rpi_6.6.20-1+rpt1_all.deb",
        "linux-kbuild-6.6.20+rpt_6.6.20-1+rpt1_arm64.deb",
        "linux-headers-5.19.0-1004-generic_5.19.0-1004.4_riscv64.deb",
        "linux-riscv-headers-5.19.0-1004_5.19.0-1004.4_all.deb",
        "kernel-azure-devel-5.14.21-150400.14.10.1.x86_64.rpm",
        "kernel-devel-azure-5.14.21-150400.14.10.2.noarch.rpm",
        "kernel-rt_debug-devel-5.14.21-150400.15.5.1.x86_64.rpm",
        "kernel-devel-rt-5.14.21-150400.15.5.1.noarch.rpm",
        "kernel-default-5.14.21-150400.24.33.2.x86_64.rpm",
        "kernel-default-base-5.14.21-150400.24.33.2.150400.9.11.2.x86_64.rpm",
        "kernel-default-base-5.14.21-150400.24.41.1.150400.9.14.1.x86_64.rpm",
        "proxmox-headers-6.8.4-2-pve_6.8.4-2_amd64.deb",
        "proxmox-kernel-6.8.4-2-pve_6.8.4-2_amd64.deb",
        "proxmox-kernel-6.8.4-2-pve-signed_6.8.4-2_amd64.deb",
        "pve-headers-5.15.102-1-pve_5.15.102-1_amd64.deb",
        "proxmox-headers-6.8_6.8.4-2_all.deb",
    ]));
    insta::assert_snapshot!(says(&grouping).join("\n"), @r"
    6.6.20+rpt-rpi-v8: linux-headers-6.6.20+rpt-rpi-v8 linux-headers-6.6.20+rpt-common-rpi linux-kbuild-6.6.20+rpt
    5.15.102-1-pve: pve-headers-5.15.102-1-pve
    6.8.4-2-pve: proxmox-headers-6.8.4-2-pve proxmox-kernel-6.8.4-2-pve-signed
    5.14.21-150400.14.10-azure: kernel-azure-devel kernel-devel-azure
    5.14.21-150400.15.5-rt_debug: kernel-rt_debug-devel kernel-devel-rt
    5.14.21-150400.24.33-default: kernel-default kernel-default-base
    5.19.0-1004-generic: linux-headers-5.19.0-1004-generic linux-riscv-headers-5.19.0-1004
    ");
    let unplaced: Vec<String> =
        grouping.unplaced.iter().map(|(package, reason)| format!("{}: {reason}", package.name)).collect();
    insta::assert_snapshot!(unplaced.join("\n"), @r"
    kernel-default-base-5.14.21-150400.24.41.1.150400.9.14.1.x86_64.rpm: no kernel here needs it
    proxmox-headers-6.8_6.8.4-2_all.deb: a meta package that belongs to no kernel
    proxmox-kernel-6.8.4-2-pve_6.8.4-2_amd64.deb: the signed package of this kernel is here, too
    ");
}

#[test]
fn what_a_set_states_stays_and_what_it_lacked_is_taken_from_others() {
    let list = packages(&[
        "linux-headers-6.6.20+odd-x_6.6.20-1_arm64.deb",
        "one-of-another-name_6.6.20-1_all.deb",
        "linux-kbuild-6.6.20+odd_6.6.20-1_arm64.deb",
        "linux-headers-6.6.20+odd-y_6.6.20-1_arm64.deb",
    ]);
    let Class::Kernel { release, .. } = classify(&list[0]) else { panic!("headers") };
    let kernel = Kernel {
        release,
        packages: vec![(Role::Headers, list[0].clone()), (Role::Common, list[1].clone())],
        missing: vec!["linux-kbuild-6.6.20+odd (>= 6.6.20-1)".into(), "other (= 1)".into()],
    };
    let offer = Offer { placed: vec![kernel], packages: list, together: Vec::new() };
    insta::assert_snapshot!(says(&group(offer)).join("\n"), @r"
    6.6.20+odd-x: linux-headers-6.6.20+odd-x one-of-another-name linux-kbuild-6.6.20+odd !other (= 1)
    6.6.20+odd-y: linux-headers-6.6.20+odd-y linux-kbuild-6.6.20+odd
    ");
}

/// kernel-crawler names headers together of which no name tells that they belong together.
#[test]
fn what_a_list_names_together_is_joined_where_names_do_not_tell() {
    let list = packages(&[
        "linux-headers-6.6.20+odd-v8_6.6.20-1_arm64.deb",
        "linux-headers-6.6.20+odd-common-strange_6.6.20-1_all.deb",
        "linux-headers-6.6.21+odd-common-strange_6.6.21-1_all.deb",
    ]);
    let together = vec![list.iter().map(|package| package.name.clone()).collect()];
    let offer = Offer { packages: list, together, placed: Vec::new() };
    insta::assert_snapshot!(says(&group(offer)).join("\n"), @r"
    6.6.20+odd-v8: linux-headers-6.6.20+odd-v8 linux-headers-6.6.20+odd-common-strange
    ");
}

#[test]
fn what_the_headers_of_rpm_distributions_require_is_joined_or_missing() {
    let relation = |text: &str| Relation::parse(text);
    let mut list = packages(&[
        "kernel-azure-devel-5.14.21-150400.14.10.1.x86_64.rpm",
        "kernel-devel-azure-5.14.21-150400.14.10.3.noarch.rpm",
        "kernel-longterm-devel-6.12.74-1.1.x86_64.rpm",
        "kernel-devel-6.12.74-1.1.noarch.rpm",
    ]);
    for (at, requires, provides) in [
        (0, "kernel-devel-azure (= 5.14.21-150400.14.10)", "kernel-azure-devel (= 5.14.21-150400.14.10)"),
        (1, "kernel-macros", "kernel-devel-azure (= 5.14.21-150400.14.10)"),
        (2, "kernel-devel-longterm (= 6.12.74-1)", "kernel-longterm-devel (= 6.12.74-1)"),
        (3, "kernel-macros", "kernel-devel (= 6.12.74-1)"),
    ] {
        let (depends, provides) = (vec![vec![relation(requires)]], vec![relation(provides)]);
        list[at].relations = Some(Relations { depends, provides, ..Relations::default() });
    }
    insta::assert_snapshot!(says(&group(list)).join("\n"), @r"
    5.14.21-150400.14.10-azure: kernel-azure-devel kernel-devel-azure
    6.12.74-1-longterm: kernel-longterm-devel !kernel-devel-longterm (= 6.12.74-1)
    ");
}
