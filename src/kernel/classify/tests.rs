use super::*;
use crate::kernel::package::{Comparison, Relation, Relations};

/// `distribution uname machine flavour role`, or which kernels share it, or why it is ignored.
fn says(file: &str) -> String {
    match classify(&Package::from_location(file).unwrap()) {
        Class::Kernel { release, role } => {
            let Release { distribution, uname, machine, flavour, build: _ } = release;
            format!("{distribution} {uname} {machine} {flavour} {}", role.name())
        }
        Class::Shared { with, role } => match with {
            Shared::DebianCommon { version, topic } => format!("{} {version} topic={topic}", role.name()),
            Shared::DebianKbuild { version } => format!("{} {version}", role.name()),
            Shared::UbuntuHeaders { version, topic } => format!("ubuntu {} {version} topic={topic}", role.name()),
            Shared::SuseDevel { topic } => format!("suse {} topic={topic}", role.name()),
            Shared::SuseBase { flavour } => format!("suse {} of {flavour}", role.name()),
        },
        Class::Ignored(reason) => reason.to_string(),
    }
}

/// Real names and what they must be: one per rule, and those that older tools got wrong.
#[test]
fn real_names_belong_to_the_kernels_that_they_were_built_for() {
    for (file, expected) in [
        ("kernel-3.10.0-1160.el7.x86_64.rpm", "el 3.10.0-1160.el7.x86_64 x86_64 default image"),
        ("kernel-devel-3.10.0-1160.el7.x86_64.rpm", "el 3.10.0-1160.el7.x86_64 x86_64 default devel"),
        ("kernel-core-4.18.0-305.10.2.el8_4.x86_64.rpm", "el 4.18.0-305.10.2.el8_4.x86_64 x86_64 default core"),
        ("kernel-modules-4.18.0-305.10.2.el8_4.x86_64.rpm", "el 4.18.0-305.10.2.el8_4.x86_64 x86_64 default modules"),
        (
            "kernel-modules-core-5.14.0-427.68.1.el9_4.x86_64.rpm",
            "el 5.14.0-427.68.1.el9_4.x86_64 x86_64 default modules",
        ),
        (
            "kernel-modules-extra-5.14.0-427.68.1.el9_4.x86_64.rpm",
            "el 5.14.0-427.68.1.el9_4.x86_64 x86_64 default modules",
        ),
        (
            "kernel-devel-matched-5.14.0-427.68.1.el9_4.x86_64.rpm",
            "el 5.14.0-427.68.1.el9_4.x86_64 x86_64 default meta",
        ),
        ("kernel-headers-4.18.0-305.10.2.el8_4.x86_64.rpm", "not needed to build modules"),
        (
            "kernel-rt-devel-4.18.0-305.100.1.rt7.175.el8_4.x86_64.rpm",
            "el 4.18.0-305.100.1.rt7.175.el8_4.x86_64 x86_64 rt devel",
        ),
        (
            "kernel-rt-core-5.14.0-284.13.1.rt14.298.el9_2.x86_64.rpm",
            "el 5.14.0-284.13.1.rt14.298.el9_2.x86_64 x86_64 rt core",
        ),
        ("kernel-rt-core-5.14.0-427.68.1.el9_4.x86_64.rpm", "el 5.14.0-427.68.1.el9_4.x86_64+rt x86_64 rt core"),
        (
            "kernel-64k-devel-5.14.0-427.68.1.el9_4.aarch64.rpm",
            "el 5.14.0-427.68.1.el9_4.aarch64+64k aarch64 64k devel",
        ),
        (
            "kernel-debug-devel-4.18.0-305.10.2.el8_4.x86_64.rpm",
            "el 4.18.0-305.10.2.el8_4.x86_64+debug x86_64 debug devel",
        ),
        ("kernel-debug-devel-3.10.0-1160.el7.x86_64.rpm", "el 3.10.0-1160.el7.x86_64.debug x86_64 debug devel"),
        ("kernel-uek-5.4.17-2136.305.5.4.el8uek.x86_64.rpm", "ol 5.4.17-2136.305.5.4.el8uek.x86_64 x86_64 uek image"),
        (
            "kernel-uek-devel-4.14.35-2047.510.0.el7uek.x86_64.rpm",
            "ol 4.14.35-2047.510.0.el7uek.x86_64 x86_64 uek devel",
        ),
        ("kernel-uek-core-5.15.0-100.96.32.el8uek.x86_64.rpm", "ol 5.15.0-100.96.32.el8uek.x86_64 x86_64 uek core"),
        ("kernel-uek-firmware-2.6.39-100.10.1.el6uek.noarch.rpm", "not needed to build modules"),
        ("kernel-devel-4.14.51-66.38.amzn2.x86_64.rpm", "amazonlinux 4.14.51-66.38.amzn2.x86_64 x86_64 default devel"),
        (
            "kernel-5.10.96-90.460.amzn2022.aarch64.rpm",
            "amazonlinux 5.10.96-90.460.amzn2022.aarch64 aarch64 default image",
        ),
        (
            "kernel6.12-devel-6.12.20-23.97.amzn2023.x86_64.rpm",
            "amazonlinux 6.12.20-23.97.amzn2023.x86_64 x86_64 default devel",
        ),
        ("kernel-core-6.9.1-200.fc40.x86_64.rpm", "fedora 6.9.1-200.fc40.x86_64 x86_64 default core"),
        ("kernel-default-devel-5.14.21-150400.22.1.x86_64.rpm", "suse 5.14.21-150400.22-default x86_64 default devel"),
        ("kernel-devel-5.14.21-150400.22.1.noarch.rpm", "suse common topic="),
        ("kernel-devel-azure-5.14.21-150400.14.10.1.noarch.rpm", "suse common topic=azure"),
        ("kernel-default-5.8.0-3.1.gd4e7682.x86_64.rpm", "suse 5.8.0-3.gd4e7682-default x86_64 default image"),
        ("kernel-default-5.13~rc7-17.1.x86_64.rpm", "suse 5.13.0-rc7-17-default x86_64 default image"),
        ("kernel-preempt-5.3.18-lp152.20.7.1.x86_64.rpm", "suse 5.3.18-lp152.20.7-preempt x86_64 preempt image"),
        ("kernel-rt-devel-5.15.55.1-2.cm2.x86_64.rpm", "azurelinux 5.15.55.1-2.cm2 x86_64 rt devel"),
        ("kernel-azure-5.15.160.1-1.cm2.x86_64.rpm", "azurelinux 5.15.160.1-1.cm2 x86_64 azure image"),
        ("kernel-hwe-devel-6.12.57.1-2.azl3.x86_64.rpm", "azurelinux 6.12.57.1-2.azl3 x86_64 hwe devel"),
        ("kernel-mshv-6.6.57.mshv4-1.azl3.x86_64.rpm", "azurelinux 6.6.57.mshv4-1.azl3 x86_64 mshv image"),
        ("kernel-uvm-devel-6.1.0.mshv16-2.cm2.x86_64.rpm", "azurelinux 6.1.0.mshv16-2.cm2 x86_64 uvm devel"),
        ("kernel-drivers-gpu-6.6.64.2-7.azl3.x86_64.rpm", "azurelinux 6.6.64.2-7.azl3 x86_64 default modules"),
        (
            "kernel-extra-modules-6.6.0-72.0.0.76.oe2403.aarch64.rpm",
            "openeuler 6.6.0-72.0.0.76.oe2403.aarch64 aarch64 default modules",
        ),
        ("kernel-6.6.57.1-6.azl3.aarch64.rpm", "azurelinux 6.6.57.1-6.azl3 aarch64 default image"),
        ("kernel-6.12.1-1.azl4.x86_64.rpm", "azurelinux 6.12.1-1.azl4.x86_64 x86_64 default image"),
        (
            "kernel-rt-devel-5.10.0-153.12.0.92.rt62.54.oe2203sp2.x86_64.rpm",
            "openeuler 5.10.0-153.12.0.92.rt62.54.oe2203sp2.x86_64 x86_64 rt devel",
        ),
        ("kernel-default-base-5.14.21-150400.24.33.2.150400.9.11.2.x86_64.rpm", "suse image of default"),
        ("kernel-lt-devel-4.4.100-1.el7.elrepo.x86_64.rpm", "el 4.4.100-1.el7.elrepo.x86_64 x86_64 lt devel"),
        ("linux-devel-4.19.15-2.ph3.x86_64.rpm", "photon 4.19.15-2.ph3 x86_64 default devel"),
        ("linux-aws-devel-4.19.217-1.ph3.x86_64.rpm", "photon 4.19.217-1.ph3-aws x86_64 aws devel"),
        ("Linux-PAM-devel-1.3.0-2.ph3.x86_64.rpm", "not a kernel package"),
        ("linux-headers-5.10.0-8-amd64_5.10.46-5_amd64.deb", "debian 5.10.0-8-amd64 x86_64 default headers"),
        ("linux-headers-5.10.0-8-common_5.10.46-5_all.deb", "common 5.10.0-8 topic="),
        ("linux-headers-5.16.0-1-common-rt_5.16.7-2_all.deb", "common 5.16.0-1 topic=rt"),
        ("linux-headers-5.16.0-1-rt-amd64_5.16.7-2_amd64.deb", "debian 5.16.0-1-rt-amd64 x86_64 rt headers"),
        ("linux-image-5.16.0-1-cloud-amd64_5.16.7-2_amd64.deb", "debian 5.16.0-1-cloud-amd64 x86_64 cloud image"),
        ("linux-image-6.1.0-56-amd64-unsigned_6.1.192-2_amd64.deb", "debian 6.1.0-56-amd64 x86_64 default image"),
        ("linux-image-6.1.0-56-amd64-dbg_6.1.192-2_amd64.deb", "debug information"),
        ("linux-kbuild-3.16_3.16.56-1_amd64.deb", "kbuild 3.16"),
        ("linux-kbuild-6.1_6.1.192-2_amd64.deb", "kbuild 6.1"),
        ("linux-kbuild-6.6.8_6.6.8-1_amd64.deb", "kbuild 6.6.8"),
        ("linux-kbuild-6.5.0-0.deb12.4_6.5.10-1~bpo12+1_amd64.deb", "kbuild 6.5.0-0.deb12.4"),
        (
            "linux-headers-6.1.0-0.deb11.11-rt-amd64_6.1.38-4~bpo11+1_amd64.deb",
            "debian 6.1.0-0.deb11.11-rt-amd64 x86_64 rt headers",
        ),
        ("linux-headers-6.6.8-rt-amd64_6.6.8-1_amd64.deb", "debian 6.6.8-rt-amd64 x86_64 rt headers"),
        (
            "linux-headers-6.12.117+deb12-amd64_6.12.117-1~deb12u1_amd64.deb",
            "debian 6.12.117+deb12-amd64 x86_64 default headers",
        ),
        ("linux-kbuild-6.12.117+deb12_6.12.117-1~deb12u1_amd64.deb", "kbuild 6.12.117+deb12"),
        (
            "linux-headers-5.15.114-gardenlinux-cloud-amd64_5.15.114-0gardenlinux3_amd64.deb",
            "gardenlinux 5.15.114-gardenlinux-cloud-amd64 x86_64 cloud headers",
        ),
        (
            "linux-headers-5.15.110-gardenlinux-common_5.15.110-0gardenlinux1_all.deb",
            "common 5.15.110-gardenlinux topic=",
        ),
        ("linux-headers-amd64_6.1.192-2_amd64.deb", "a meta package that belongs to no kernel"),
        ("linux-headers-6.12-amd64_6.12.117-1_amd64.deb", "a meta package that belongs to no kernel"),
        ("linux-headers-5.4.0-86-generic_5.4.0-86.97_amd64.deb", "ubuntu 5.4.0-86-generic x86_64 generic headers"),
        ("linux-headers-5.4.0-86_5.4.0-86.97_all.deb", "ubuntu common 5.4.0-86 topic="),
        (
            "linux-image-unsigned-4.15.0-29-lowlatency_4.15.0-29.31_amd64.deb",
            "ubuntu 4.15.0-29-lowlatency x86_64 lowlatency image",
        ),
        (
            "linux-headers-5.4.0-1063-azure-cvm_5.4.0-1063.66+cvm3_amd64.deb",
            "ubuntu 5.4.0-1063-azure-cvm x86_64 azure-cvm headers",
        ),
        ("linux-aws-headers-5.4.0-1063_5.4.0-1063.66_all.deb", "ubuntu common 5.4.0-1063 topic=aws"),
        ("linux-hwe-5.15-headers-5.15.0-41_5.15.0-41.44~20.04.1_all.deb", "ubuntu common 5.15.0-41 topic=hwe"),
        (
            "linux-headers-4.15.0-2094-aws-fips_4.15.0-2094.100_amd64.deb",
            "ubuntu 4.15.0-2094-aws-fips x86_64 aws-fips headers",
        ),
        (
            "linux-headers-6.8.0-31-generic-64k_6.8.0-31.31_arm64.deb",
            "ubuntu 6.8.0-31-generic-64k aarch64 generic-64k headers",
        ),
        (
            "linux-headers-5.18.20-051820-generic_5.18.20-051820.202208231639_amd64.deb",
            "ubuntu 5.18.20-051820-generic x86_64 generic headers",
        ),
        ("linux-headers-generic_5.15.0.41.43_amd64.deb", "a meta package that belongs to no kernel"),
        ("linux-headers-10.0.0-5-generic_10.0.0-5.5_amd64.deb", "ubuntu 10.0.0-5-generic x86_64 generic headers"),
        // Beyond the old tools' table.
        ("kernel-5.14.0-427.68.1.el9_4.src.rpm", "a source package"),
        ("kernel-debuginfo-5.14.0-427.68.1.el9_4.x86_64.rpm", "debug information"),
        ("kernel-livepatch-4.14.165-131.185-1.0-1.amzn2.x86_64.rpm", "not needed to build modules"),
        (
            "kernel-rt-debug-devel-5.14.0-427.68.1.el9_4.x86_64.rpm",
            "el 5.14.0-427.68.1.el9_4.x86_64+rt-debug x86_64 rt-debug devel",
        ),
        ("kernelshark-2.2.0-1.el9.x86_64.rpm", "not a kernel package"),
        ("bash-5.1.8-9.el9.x86_64.rpm", "not a kernel package"),
        ("kernel-syms-6.4.0-150600.23.47.1.x86_64.rpm", "a meta package that belongs to no kernel"),
        ("kernel-syms-azure-6.4.0-150600.8.31.1.x86_64.rpm", "a meta package that belongs to no kernel"),
        ("linux-libc-dev_6.1.192-2_amd64.deb", "not needed to build modules"),
        ("linux-source-6.1_6.1.192-2_all.deb", "a source package"),
        ("linux-base_4.9_all.deb", "not a kernel package"),
        ("proxmox-headers-6.8.4-2-pve_6.8.4-2_amd64.deb", "proxmox 6.8.4-2-pve x86_64 default headers"),
        ("proxmox-kernel-6.8.4-2-pve-signed_6.8.4-2_amd64.deb", "proxmox 6.8.4-2-pve x86_64 default image"),
        (
            "proxmox-kernel-6.14.0-2-bpo12-pve_6.14.0-2~bpo12+1_amd64.deb",
            "proxmox 6.14.0-2-bpo12-pve x86_64 default image",
        ),
        ("pve-kernel-5.15.102-1-pve_5.15.102-1_amd64.deb", "proxmox 5.15.102-1-pve x86_64 default image"),
        ("pve-kernel-5.15.102-1-pve-dbgsym_5.15.102-1_amd64.deb", "debug information"),
        ("proxmox-kernel-6.8_6.8.4-2_all.deb", "a meta package that belongs to no kernel"),
        ("proxmox-default-headers_1.1.0_all.deb", "a meta package that belongs to no kernel"),
        ("proxmox-kernel-helper_8.1.0_all.deb", "not needed to build modules"),
        ("proxmox-backup-client_3.2.2-1_amd64.deb", "not a kernel package"),
        ("linux-headers-3.16.0-4-686-pae_3.16.7-1_i386.deb", "debian 3.16.0-4-686-pae i686 pae headers"),
    ] {
        assert_eq!(says(file), expected, "{file}");
    }
}

#[test]
fn what_a_package_provides_wins_over_its_name() {
    let mut package = Package::from_location("kernel-rt-devel-6.12.0-1.el10.x86_64.rpm").unwrap();
    let uname = "6.12.0-1.el10.x86_64+rt-new";
    package.relations = Some(Relations {
        provides: vec![Relation {
            name: "kernel-rt-devel-uname-r".into(),
            version: Some((Comparison::Equal, uname.into())),
        }],
        ..Relations::default()
    });
    let Class::Kernel { release, .. } = classify(&package) else { panic!("a kernel package") };
    assert_eq!(release.uname, uname);
}

/// The paths of files decide over everything else, and what tells nothing changes nothing.
#[test]
fn the_release_is_that_of_the_files() {
    for (paths, release) in [
        (&["/lib/modules/5.10.25-rt34-9.ph4-rt/build", "/boot/config-x"][..], Some("5.10.25-rt34-9.ph4-rt")),
        (&["/usr/lib/modules/6.3.1-1-default/kernel"], Some("6.3.1-1-default")),
        (&["/usr/src/linux-headers-5.15.160.1-1.cm2/Makefile"], Some("5.15.160.1-1.cm2")),
        (&["/usr/src/kernels/5.14.0-1.el9.x86_64+rt/Makefile"], Some("5.14.0-1.el9.x86_64+rt")),
        (&["/usr/src/linux-5.8.0-3.gd4e7682-obj/x86_64/default/Makefile"], Some("5.8.0-3.gd4e7682-default")),
        (&["/usr/src/linux-6.4.0-150600.8.31-azure-obj/x86_64/azure/Makefile"], Some("6.4.0-150600.8.31-azure")),
        (&["/usr/src/linux-6.4.0-150600.10.5-rt-obj/x86_64/rt_debug/Makefile"], Some("6.4.0-150600.10.5-rt_debug")),
        (&["/usr/src/kernels/6.1.0/Makefile", "/lib/modules/6.1.0-x/build"], Some("6.1.0-x")),
        (&["/lib/modules/6.1.0-x/build", "/lib/modules/6.1.0-y/build"], None),
        (&["/usr/src/linux-5.8.0-3.gd4e7682/Makefile", "/lib/modules", "/usr/share/doc/x"], None),
    ] {
        assert_eq!(release_of(paths.iter().copied()).as_deref(), release, "{paths:?}");
    }
    let mut package = Package::from_location("linux-rt-devel-5.10.25-9.ph4.x86_64.rpm").unwrap();
    package.relations = Some(Relations { release: Some("5.10.25-rt34-9.ph4-rt".into()), ..Relations::default() });
    let Class::Kernel { release, .. } = classify(&package) else { panic!("a kernel package") };
    assert_eq!((&*release.distribution, &*release.uname), ("photon", "5.10.25-rt34-9.ph4-rt"));
}

/// Words in a name are SUSE's only where nobody else made the package.
#[test]
fn a_flavours_name_does_not_make_a_package_one_of_suse() {
    for (vendor, distribution) in [
        (None, "suse"),
        (Some("SUSE LLC <https://www.suse.com/>"), "suse"),
        (Some("openSUSE"), "suse"),
        (Some("obs://build.opensuse.org/Kernel"), "suse"),
        (Some("Somebody Else"), "linux"),
    ] {
        let mut package = Package::from_location("kernel-azure-devel-5.14.21-150400.14.10.1.x86_64.rpm").unwrap();
        package.vendor = vendor.map(str::to_owned);
        let Class::Kernel { release, .. } = classify(&package) else { panic!("a kernel package") };
        assert_eq!(release.distribution, distribution, "{vendor:?}");
    }
}
