//! What misled the first users, point by point, and the tests that show what is answered now: whole messages, or the whole walk.
//!
//! | what misled | tests |
//! | --- | --- |
//! | 1. `catalog check` said no to what it could not understand | `questions_that_mean_nothing_are_refused_and_a_no_says_what_is_near`, `questions_are_taken_as_people_write_them` |
//! | 2. a cut archive was called none; a database that may not be read was called damaged | `a_cut_archive_is_said_to_be_cut_whichever_way_it_is_read`, `a_snapshot_that_may_not_be_read_is_not_called_damaged` |
//! | 3. plain HTTP was not named, and neither the option of the command at hand; a hint for each image | `a_registry_without_tls_is_called_that_and_the_option_of_the_command_is_named`, `what_is_to_be_done_about_many_images_is_said_once` |
//! | 4. no network: retries, a chain of causes, "All done", failures as warnings | `where_nothing_could_be_read_the_run_failed_and_where_something_could_it_is_in_part`, `requests_are_told_with_two_v_and_a_host_without_a_name_in_one_line` |
//! | 5. values of files and variables were blamed on options; paths without transports; `--mirror`; a wrong suite; an empty search | `a_value_is_blamed_on_the_file_or_the_variable_that_it_is_in`, `a_missing_transport_is_answered_with_what_to_write`, `what_people_have_in_sources_list_is_taken_as_a_source_and_as_a_mirror`, `a_wrong_suite_is_told_from_a_wrong_address_and_a_wrong_component`, `a_search_that_finds_nothing_says_so` |
//! | 6. commands of the pages did not run | `every_command_of_the_pages_works_as_root`, `every_command_of_the_pages_works_as_an_ordinary_user_with_podman_without_root`, `every_command_of_the_page_on_kernels_works_as_root_and_as_an_ordinary_user`, `no_page_with_commands_is_forgotten` |
//! | 7. user 1001 of a toolkit could not write; `LIST.toml` did not parse; definitions needed a checkout | `the_user_of_a_toolkit_writes_where_it_must_and_nowhere_else_and_builds_in_a_directory_of_its_own`, `user_1001_of_a_toolkit_builds_in_a_directory_of_an_ordinary_user`, `the_list_that_the_pages_show_is_one_that_is_read`, `the_list_in_the_help_is_one_that_is_read`, `the_catalog_image_is_built_in_an_empty_directory_as_in_a_checkout`, `definitions_are_printed_and_a_directory_of_the_name_with_one_comes_first` |
//! | 8. a toolkit replaced its base's users | `over_a_base_files_that_yield_leave_what_it_has`, `a_toolkit_compiles_and_keeps_its_base_on_overlay_and_on_vfs` |
//! | 9. `scripts/test.sh` stopped a service and installed without asking | `nothing_is_installed_without_being_asked_for_and_no_service_is_stopped` |
//! | 10. progress stood still | `bytes_move_each_second_and_no_line_is_wider_than_the_terminal` |
//! | 11. `-v` said nothing; Ctrl-C did not say what can be gone on with | `requests_are_told_with_two_v_and_a_host_without_a_name_in_one_line`, `who_stops_a_long_command_is_told_that_the_next_run_goes_on` |
//! | 12. options of all commands on every page; no examples and exit statuses; completions | `a_short_help_is_a_screen`, `short_help_is_about_the_command_and_long_help_has_the_rest`, `every_command_has_examples_that_are_command_lines_of_it_and_tells_its_exit_statuses`, `completions_are_scripts_that_the_shell_takes` |
//! | looked for: logins, tags, deleting | `a_login_is_tried_and_podman_and_skopeo_take_what_was_written`, `on_a_terminal_user_and_password_are_asked_for_and_the_password_is_not_shown`, `tags_are_listed_as_skopeo_lists_them`, `an_image_is_deleted_when_no_other_tag_names_it_or_when_told_to`, `a_registry_that_keeps_its_images_is_said_to` |
//! | looked for: formats, a dry run and roles, man pages, an example of settings, the doctor | `skopeo_says_the_same_of_the_same_fields_of_a_layout_and_of_a_registry`, `a_fetch_is_shown_before_it_is_done_and_leaves_out_what_nobody_builds_with`, `man_shows_the_pages_and_mandoc_finds_nothing_wrong_with_them`, `what_is_taken_into_use_of_the_example_holds_for_a_registry`, `registries_say_whether_they_let_us_in` |
//! | looked for: failures as JSON, `null` for times that are not known | `a_failure_is_json_for_programs_and_text_for_people`, `instants_round_trip_in_the_catalogs_form`, `definitions_are_printed_and_a_directory_of_the_name_with_one_comes_first` |

use std::path::Path;

use crate::{command, said};

/// Every test of the table above is one.
#[test]
fn each_point_names_tests_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = ["src", "tests"].iter().flat_map(|place| walkdir::WalkDir::new(root.join(place)));
    let sources =
        sources.map(|entry| entry.unwrap().into_path()).filter(|path| path.extension().is_some_and(|it| it == "rs"));
    let text: String = sources.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let rows = include_str!("points.rs").lines().filter_map(|line| line.strip_prefix("//! | "));
    let rows: Vec<&str> = rows.filter(|row| !row.starts_with("---") && !row.starts_with("what misled |")).collect();
    let points = (1..=12).map(|number| format!("{number}. "));
    let missing: Vec<String> = points.filter(|number| !rows.iter().any(|row| row.starts_with(number))).collect();
    assert_eq!(missing, [""; 0]);
    for row in rows {
        let names: Vec<&str> = row.rsplit(" | ").next().unwrap().split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "{row}");
        for name in names {
            assert!(text.contains(&format!("#[test]\n    fn {name}()")) || is_test(&text, name), "{name}");
        }
    }
}

/// Whether there is such a function with an attribute of a test before it.
fn is_test(text: &str, name: &str) -> bool {
    text.match_indices(&format!("\nfn {name}()")).any(|(at, _)| {
        let attributes = text[..at].lines().rev().take_while(|line| line.starts_with("#[")).collect::<Vec<_>>();
        attributes.contains(&"#[test]")
    })
}

#[test]
fn questions_that_mean_nothing_are_refused_and_a_no_says_what_is_near() {
    let dir = tempfile::tempdir().unwrap();
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/catalog");
    assert_eq!(said(dir.path(), &["catalog", "snapshot", "--from", pages.to_str().unwrap()]).0, Some(0));
    let check = |args: &[&str]| {
        let (status, answer, talk) = said(dir.path(), &[&["catalog", "check"], args].concat());
        // How old the snapshot is depends on the day.
        (status, answer.rsplit_once(", ").map(|(answer, _)| answer.to_owned()).unwrap_or_default(), talk)
    };
    let of = "\nsnapshot: 2025-01-25T09:24:00.000000+00:00";
    let operator = "acme-db-operator.v1.0.0";
    let bundle =
        "certified\nbundle: acme-db-operator.v1.0.0 for OpenShift 4.16, channel stable (_id 65a000000000000000000002)";
    let versions = "not certified\nsimilar and certified: acme-db-operator.v1.0.0 for OpenShift 4.18, \
        acme-db-operator.v1.0.0 for OpenShift 4.16, acme-db-operator.v1.0.0 for OpenShift 4.14";
    let tags = "not certified\nsimilar and certified: registry.connect.redhat.com/acme/db:latest, \
        registry.connect.redhat.com/acme/db:1.1.0, registry.connect.redhat.com/acme/db:1.0.0";
    let chart = "certified\nchart: acme-db 1.1.0, provider partner, Kubernetes >=1.25.0";
    for (args, status, answer) in [
        (&["operator", operator, "--ocp-version", "4.16"][..], 0, bundle),
        (&["operator", operator, "--ocp-version", "4.16.3"], 0, bundle),
        (&["operator", operator, "--ocp-version", "v4.16"], 0, bundle),
        (&["operator", operator, "--ocp-version", "4.15"], 1, versions),
        (&["container", "docker://registry.connect.redhat.com/acme/db:9"], 1, tags),
        (&["chart", "acme-db", "1.1.0", "--kube-version", "v1.29"], 0, chart),
        (&["chart", "acme-db", "v1.1.0"], 1, "not certified\nsimilar and certified: acme-db 1.0.0, acme-db 1.1.0"),
        (
            &["chart", "acme-db", "1.1.0", "--kube-version", "1.20"],
            1,
            "not certified\nreason: it asks for Kubernetes >=1.25.0\nsimilar and certified: acme-db 1.0.0, acme-db 1.1.0",
        ),
    ] {
        assert_eq!(check(args), (Some(status), format!("{answer}{of}"), String::new()), "{args:?}");
    }
    let ocp = "; expected MAJOR.MINOR, such as 4.16\nhint: `oc get clusterversion` shows it; leave the option out to ask for any version";
    let image = "expected REGISTRY/REPOSITORY[:TAG][@DIGEST], or a digest\nhint: the catalog knows images by the registry's name, such as \
        `registry.connect.redhat.com/ORG/NAME:TAG`";
    for (args, why) in [
        (&["operator", operator, "--ocp-version", "latest"][..], format!("not a version of OpenShift: \"latest\"{ocp}")),
        (&["operator", operator, "--ocp-version", ""], format!("not a version of OpenShift: \"\"{ocp}")),
        (&["container", "ubi9/ubi:latest"], format!("\"ubi9/ubi:latest\": {image}")),
        (&["container", "nginx"], format!("\"nginx\": {image}")),
        (
            &["container", "sha256:abc"],
            "sha256:abc: `sha256:abc`: expected 64 lower-case hexadecimal digits after the colon".to_owned(),
        ),
        (
            &["chart", "acme-db", "1.1.0", "--kube-version", "nonsense"],
            "not a version of Kubernetes: \"nonsense\"; expected one such as v1.29.4\nhint: `kubectl version` shows it; leave the option out to \
             ask for any version"
                .to_owned(),
        ),
    ] {
        assert_eq!(check(args), (Some(2), String::new(), format!("error: {why}\n")), "{args:?}");
    }
}

#[test]
fn a_value_is_blamed_on_the_file_or_the_variable_that_it_is_in() {
    let dir = tempfile::tempdir().unwrap();
    let why = "`x` is not a valid value for --page-size: invalid digit found in string";
    let snapshot = ["catalog", "snapshot"];
    let output = command(dir.path(), &snapshot).env("HAVERSACK_PAGE_SIZE", "x").output().unwrap();
    let talk = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), talk), (Some(2), format!("error: HAVERSACK_PAGE_SIZE: {why}\n")));
    std::fs::write(dir.path().join("haversack.toml"), "[catalog.snapshot]\npage-size = \"x\"\n").unwrap();
    let said = said(dir.path(), &snapshot);
    assert_eq!(said, (Some(2), String::new(), format!("error: haversack.toml: catalog.snapshot.page-size: {why}\n")));
}

#[test]
fn a_short_help_is_a_screen() {
    let dir = tempfile::tempdir().unwrap();
    let help = "\
Log out of a registry: remove its user and password from podman's file

Usage: haversack logout [OPTIONS] <REGISTRY>

Arguments:
  <REGISTRY>  Registry: HOST[:PORT], or HOST[:PORT]/NAMESPACE for a part of it

Options:
      --authfile <FILE>  File with credentials [default: REGISTRY_AUTH_FILE or podman's]
  -h, --help             Print help (see more with '--help')

Common options:
      --json  Print results as JSON

Examples:
  haversack logout quay.io

Exit status: 0 logged out, 1 not logged in, 2 wrong command line
";
    assert_eq!(said(dir.path(), &["logout", "-h"]), (Some(0), help.to_owned(), String::new()));
}
