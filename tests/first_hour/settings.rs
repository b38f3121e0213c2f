//! `haversack config`, and `inspect --format` as skopeo's users type it.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::docker_registry::DockerRegistry;
use crate::{command, said};

#[test]
fn the_example_is_a_file_that_is_read_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (status, example, talk) = said(dir.path(), &["config", "--example"]);
    assert_eq!((status, talk.as_str()), (Some(0), ""));
    assert!(
        example.starts_with("# Defaults of haversack's options.") && example.contains("\n[catalog.snapshot]\n"),
        "{example}"
    );
    std::fs::write(dir.path().join("haversack.toml"), example).unwrap();
    let nothing = "nothing is set; `haversack config --example` shows what can be\n";
    assert_eq!(said(dir.path(), &["config"]), (Some(0), String::new(), nothing.to_owned()));
}

#[test]
fn what_is_set_is_shown_with_where_and_secrets_are_not() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("haversack.toml"), "offline = true\n[catalog.snapshot]\npage-size = 100\n").unwrap();
    let output = command(dir.path(), &["config"])
        .envs([("HAVERSACK_JOBS", "3"), ("HAVERSACK_S3_SECRET_KEY", "geheim"), ("HAVERSACK_PAGESIZE", "1")])
        .output()
        .unwrap();
    let expected = "offline                     true  haversack.toml\n\
                    catalog.snapshot.page-size  100   haversack.toml\n\
                    jobs                        3     HAVERSACK_JOBS\n\
                    s3-secret-key               …     HAVERSACK_S3_SECRET_KEY\n";
    let lines = String::from_utf8(output.stdout).unwrap();
    let columns = |text: &str| -> Vec<Vec<String>> {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
        let mut lines: Vec<Vec<String>> = text.lines().map(words).collect();
        lines.sort();
        lines
    };
    assert_eq!(columns(&lines), columns(expected));
    let warned = "warning: HAVERSACK_PAGESIZE: no option of haversack has this variable\n";
    assert_eq!(String::from_utf8(output.stderr).unwrap(), warned);
}

fn image(dir: &Path) {
    std::fs::create_dir(dir.join("one")).unwrap();
    let definition = "name = \"x\"\nlabels = { a = \"b\" }\nenv = { PATH = \"/bin\" }\n[[layers]]\nfiles = [{ dest = \"/f\", text = \"1\" }]\n";
    std::fs::write(dir.join("one/image.toml"), definition).unwrap();
    let (status, _, talk) =
        said(dir, &["build", "one", "--no-sbom", "--compression", "gzip", "--output", "oci:store:x:1"]);
    assert_eq!(status, Some(0), "{talk}");
}

#[test]
fn a_wish_for_the_log_that_makes_no_sense_is_said() {
    let dir = tempfile::tempdir().unwrap();
    for (wanted, warning) in [
        ("haversack=debug", ""),
        ("", ""),
        (
            "haversack=loud",
            "warning: HAVERSACK_LOG: `haversack=loud` is not TARGET=LEVEL,… and is ignored: error parsing level filter: \
             expected one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\", or a number 0-5\n",
        ),
    ] {
        let output = command(dir.path(), &["config"]).env("HAVERSACK_LOG", wanted).output().unwrap();
        let nothing = "nothing is set; `haversack config --example` shows what can be\n";
        assert_eq!(String::from_utf8(output.stderr).unwrap(), format!("{warning}{nothing}"));
    }
}

#[test]
fn a_format_has_fields_of_the_json() {
    let dir = tempfile::tempdir().unwrap();
    image(dir.path());
    let inspect = |format: &str| said(dir.path(), &["inspect", "--format", format, "oci:store:x:1"]);
    let json: Value = serde_json::from_str(&said(dir.path(), &["inspect", "--json", "oci:store:x:1"]).1).unwrap();
    let digest = json["digest"].as_str().unwrap();
    let layer = json["images"][0]["layers"][0]["digest"].as_str().unwrap();
    assert_eq!(
        inspect("{{.Digest}} {{.Os}} {{json .Labels}}").1,
        format!("{digest} linux {}\n", json!({ "a": "b", "org.opencontainers.image.created": "1970-01-01T00:00:00Z" }))
    );
    assert_eq!(inspect("{{.images.0.layers.0.digest}}").1, format!("{layer}\n"));
    assert_eq!(inspect("{{.Layers}}").1, format!("{}\n", json!([layer])));
    let (status, data, talk) = inspect("{{.Name}}");
    assert_eq!((status, data.as_str()), (Some(2), ""));
    let fields = talk.strip_prefix("error: --format: no field `Name`; there are ").unwrap_or_else(|| panic!("{talk}"));
    let mut fields: Vec<&str> = fields.trim().split(", ").collect();
    fields.push("Encoders");
    fields.sort_unstable();
    // All that there are, and no others, are in the help.
    let help = said(dir.path(), &["inspect", "--help"]).1;
    let listed = help.split("Fields of --format: ").nth(1).unwrap().split(". ").next().unwrap().replace('\n', " ");
    let listed = listed.replace("with --encoder also ", "").replace("; if it is a single image, also ", ", ");
    let mut listed: Vec<&str> = listed.split(',').map(str::trim).collect();
    listed.sort_unstable();
    assert_eq!(listed, fields);
    let (status, _, talk) = inspect("{{range .Layers}}");
    assert!(status == Some(2) && talk.contains("for more, use --json and jq"), "{talk}");
}

#[test]
fn inspect_shows_what_an_image_is_run_with() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("one")).unwrap();
    let definition = "name = \"x\"\nuser = \"1001\"\nentrypoint = [\"/bin/sh\", \"-c\"]\ncmd = [\"echo a b\"]\nworkdir = \"/src\"\n\
        volumes = [\"/data\"]\nstop-signal = \"SIGINT\"\nenv = { PATH = \"/bin\", A = \"b\\u001bc\" }\nlabels = { a = \"b\" }\n\
        [[layers]]\nfiles = [{ dest = \"/f\", text = \"1\" }]\n";
    std::fs::write(dir.path().join("one/image.toml"), definition).unwrap();
    let (status, _, talk) =
        said(dir.path(), &["build", "one", "--no-sbom", "--platform", "linux/amd64", "--output", "oci:store:x:1"]);
    assert_eq!(status, Some(0), "{talk}");
    let (status, text, talk) = said(dir.path(), &["inspect", "oci:store:x:1"]);
    assert_eq!((status, talk.as_str()), (Some(0), ""));
    let of_image = text.split_once("\nlinux/amd64 sha256:").unwrap().1;
    let lines: Vec<&str> = of_image.lines().skip(1).take_while(|line| !line.starts_with("  sha256:")).collect();
    assert_eq!(
        lines,
        [
            "  created    1970-01-01T00:00:00Z",
            "  user       1001",
            r#"  entrypoint ["/bin/sh","-c"]"#,
            r#"  cmd        ["echo a b"]"#,
            "  workdir    /src",
            r"  env        A=b\x1bc",
            "  env        PATH=/bin",
            "  volume     /data",
            "  stopsignal SIGINT",
            "  label      a=b",
            "  label      org.opencontainers.image.created=1970-01-01T00:00:00Z",
        ]
    );
    let format = ["inspect", "oci:store:x:1", "--format", "{{.User}} {{.Entrypoint}} {{.Cmd}} {{.WorkingDir}}"];
    let filled = "1001 [\"/bin/sh\",\"-c\"] [\"echo a b\"] /src\n";
    assert_eq!(said(dir.path(), &format), (Some(0), filled.to_owned(), String::new()));
}

#[test]
#[ignore = "needs skopeo and docker-registry"]
fn skopeo_says_the_same_of_the_same_fields_of_a_layout_and_of_a_registry() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), DockerRegistry::start());
    image(dir.path());
    let remote = registry.at("a/x:1");
    let (status, _, talk) = said(dir.path(), &["copy", "oci:store:x:1", &remote, "--dest-tls-verify=false"]);
    assert_eq!(status, Some(0), "{talk}");
    for place in ["oci:store:x:1", &remote] {
        for format in ["{{.Digest}}", "{{.Os}}/{{.Architecture}}", "is {{ .Digest }}", "{{.Created}}", "{{.Layers}}"] {
            let args = ["inspect", "--tls-verify=false", "--format", format, place];
            let theirs = Command::new("skopeo").args(args).current_dir(dir.path()).output().unwrap();
            assert!(theirs.status.success(), "{}", String::from_utf8_lossy(&theirs.stderr));
            let theirs = String::from_utf8(theirs.stdout).unwrap();
            // Go prints times and lists in forms of its own; here they are as in the JSON.
            let theirs = theirs.replace(" +0000 UTC", "Z").replace("1970-01-01 00", "1970-01-01T00");
            let theirs = theirs.replace('[', "[\"").replace(']', "\"]");
            assert_eq!(said(dir.path(), &args), (Some(0), theirs, String::new()), "{place} {format}");
        }
    }
}

#[test]
#[ignore = "needs docker-registry"]
fn what_is_taken_into_use_of_the_example_holds_for_a_registry() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), DockerRegistry::start());
    let dir = dir.path();
    image(dir);
    let (_, example, _) = said(dir, &["config", "--example"]);
    let (mut taken, mut section) = (Vec::new(), "");
    let lines = example.lines().map(|line| {
        section = if line.starts_with('[') { line } else { section };
        let wanted = [
            ("[copy]", "#dest-tls-verify = true", "dest-tls-verify = false"),
            ("[list-tags]", "#tls-verify = true", "tls-verify = false"),
            ("[inspect]", "#tls-verify = true", "tls-verify = false"),
        ];
        let line = wanted.iter().find(|(of, it, _)| *of == section && *it == line).map_or(line, |(_, _, to)| to);
        taken.extend((!line.starts_with('#') && line.contains(" = ")).then_some(format!("{section} {line}")));
        line.to_owned() + "\n"
    });
    let file: String = lines.collect();
    let expected = ["[copy] dest-tls-verify = false", "[inspect] tls-verify = false", "[list-tags] tls-verify = false"];
    taken.sort();
    assert_eq!(taken, expected);
    // Whom to trust is not for a file in the working directory to say.
    let home = dir.join(".config/haversack");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::write(home.join("haversack.toml"), file).unwrap();
    let file = home.join("haversack.toml");
    let keys = ["copy.dest-tls-verify", "inspect.tls-verify  ", "list-tags.tls-verify"];
    let columns: String = keys.iter().map(|key| format!("{key}  false  {}\n", file.display())).collect();
    assert_eq!(said(dir, &["config"]), (Some(0), columns, String::new()));
    assert_eq!(said(dir, &["copy", "oci:store:x:1", &registry.at("a/x:1")]).0, Some(0));
    assert_eq!(said(dir, &["list-tags", &registry.at("a/x")]), (Some(0), "1\n".to_owned(), String::new()));
    assert_eq!(said(dir, &["inspect", "--format", "{{.Os}}", &registry.at("a/x:1")]).1, "linux\n");
    // Nobody wrote it for the others.
    let plain = format!(
        "error: {}: answers in plain HTTP, without TLS\nhint: if no TLS is intended there, add `--tls-verify=false`\n",
        registry.address
    );
    assert_eq!(said(dir, &["delete", &registry.at("a/x:1")]), (Some(1), String::new(), plain));
}
