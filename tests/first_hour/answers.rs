//! What is answered to what people try first, and the commands that the pages show.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::{command, said};

#[test]
fn short_help_is_about_the_command_and_long_help_has_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    for words in [&["copy"][..], &["kernel", "fetch"], &["catalog", "snapshot"], &["build"]] {
        let help = |option: &str| said(dir.path(), &[words, &[option]].concat()).1;
        let (short, long) = (help("-h"), help("--help"));
        for option in ["--retry-delay", "--ca-file", "--cert-dir", "--timeout", "--progress"] {
            assert!(!short.contains(option) && long.contains(option), "{words:?} {option}: {short}");
        }
        assert!(short.contains("--json") && short.contains("see more with '--help'"), "{words:?}: {short}");
    }
}

#[test]
fn a_search_that_finds_nothing_says_so() {
    let (dir, checkout) = (tempfile::tempdir().unwrap(), Path::new(env!("CARGO_MANIFEST_DIR")));
    let pages = checkout.join("testdata/catalog");
    said(dir.path(), &["catalog", "snapshot", "--from", pages.to_str().unwrap()]);
    let nothing = "nothing in catalog.db has `zzzz` in its name\n";
    assert_eq!(said(dir.path(), &["catalog", "search", "zzzz"]), (Some(1), String::new(), nothing.to_owned()));
    assert_eq!(
        said(dir.path(), &["--json", "-q", "catalog", "search", "zzzz"]),
        (Some(1), "{\n  \"hits\": [],\n  \"more\": 0\n}\n".to_owned(), String::new())
    );
}

#[test]
fn requests_are_told_with_two_v_and_a_host_without_a_name_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["-vv", "inspect", "docker://127.0.0.1:9/a/b:1", "--retries", "0", "--tls-verify=false"];
    let (status, _, talk) = said(dir.path(), &args);
    let told = talk.lines().filter(|line| line.starts_with("GET https://127.0.0.1:9/v2/: no answer in ")).count();
    assert_eq!((status, told), (Some(1), 1), "{talk}");
    let (_, _, talk) =
        said(dir.path(), &["kernel", "fetch", "rpm:http://127.0.0.1:9/x", "--to", "to", "--retries", "0"]);
    assert!(!talk.contains("All done") && talk.contains("cannot connect"), "{talk}");
}

/// A set of one kernel in which packages are `image` and `headers`, of 70 and 7 bytes.
fn kernels(dir: &Path) {
    for (name, size) in
        [("linux-image-6.1.0-9-amd64_6.1.27-1_amd64.deb", 70), ("linux-headers-6.1.0-9-amd64_6.1.27-1_amd64.deb", 7)]
    {
        std::fs::create_dir_all(dir.join("packages")).unwrap();
        std::fs::write(dir.join("packages").join(name), vec![b'x'; size]).unwrap();
    }
}

#[test]
fn a_fetch_is_shown_before_it_is_done_and_leaves_out_what_nobody_builds_with() {
    let dir = tempfile::tempdir().unwrap();
    kernels(dir.path());
    let fetch = |more: &[&str]| {
        said(dir.path(), &[&["kernel", "fetch", "dir:packages", "--names-only", "--to", "to"][..], more].concat())
    };
    let (status, lines, talk) = fetch(&["--dry-run"]);
    let (image, headers) =
        ("linux-image-6.1.0-9-amd64_6.1.27-1_amd64.deb", "linux-headers-6.1.0-9-amd64_6.1.27-1_amd64.deb");
    assert_eq!(status, Some(0), "{talk}");
    let names: Vec<&str> = lines.lines().filter_map(|line| line.split_whitespace().last()).collect();
    assert_eq!(names[..2], [headers, image], "{lines}");
    assert!(lines.lines().last().unwrap().starts_with("2 packages would be fetched: "), "{lines}");
    let (_, json, _) = fetch(&["--dry-run", "--json", "--role", "build"]);
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&report["dry_run"], report["packages"].as_array().unwrap().len()), (&json!(true), 1));
    assert_eq!(report["packages"][0]["file"], headers);
    assert!(!dir.path().join("to").exists());
    let (status, _, talk) = fetch(&["--role", "headers"]);
    assert_eq!(status, Some(0), "{talk}");
    assert!(dir.path().join("to").join(headers).exists() && !dir.path().join("to").join(image).exists());
    let (status, _, talk) = fetch(&["--role", "header"]);
    assert!(status == Some(2) && talk.contains("known roles: build, core, devel, headers, "), "{talk}");
}

/// The commands of a page's console blocks.
fn commands(page: &str) -> Vec<String> {
    blocks(page).concat()
}

/// The console blocks of a page, and their commands: a line that begins with `$`, and those that it goes on in.
pub(crate) fn blocks(page: &str) -> Vec<Vec<String>> {
    let mut blocks: Vec<Vec<String>> = Vec::new();
    let mut is_console = false;
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            is_console = line.contains("console");
            if is_console {
                blocks.push(Vec::new());
            }
        } else if let Some(found) = blocks.last_mut().filter(|_| is_console) {
            let goes_on = found.last().is_some_and(|last| last.ends_with('\\'));
            match line.strip_prefix("$ ") {
                Some(command) => found.push(command.to_owned()),
                None if goes_on => {
                    let last = found.last_mut().unwrap();
                    last.pop();
                    last.push_str(line.trim_start());
                }
                None => {}
            }
        }
    }
    blocks
}

/// Words of a command line as a shell has them: quotes, comments, `$PWD`, `$(id -u)`; `None` for what is more than words.
fn words(command: &str) -> Option<Vec<String>> {
    let output = Command::new("bash").args(["-c", &format!("set -f; printf '%s\\0' {command}")]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.split_terminator('\0').map(str::to_owned).collect())
}

#[test]
fn every_command_of_ours_on_the_pages_is_one_that_the_program_takes() {
    let (dir, root) = (tempfile::tempdir().unwrap(), Path::new(env!("CARGO_MANIFEST_DIR")));
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = ["README.md", "CONTRIBUTING.md"].map(|name| root.join(name)).into_iter().chain(docs);
    let mut checked = 0;
    // What pages speak of as a path has to be one.
    for name in ["carry", "safe", "store", "mirror", "packages"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    for page in pages.filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        for line in commands(&std::fs::read_to_string(&page).unwrap()) {
            // What stands before and after ours is the shell's.
            let ours = line.trim_start_matches("./").split(['|', '<', '>']).next().unwrap();
            let Some(ours) = ours.strip_prefix("haversack ") else { continue };
            let words = words(ours).unwrap_or_else(|| panic!("{}: {line}", page.display()));
            // Help is printed when all words before it were understood; an unknown option or value is an error before.
            let args: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
            let output = command(dir.path(), &args).output().unwrap();
            assert!(output.status.success(), "{}: {line}: {}", page.display(), String::from_utf8_lossy(&output.stderr));
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} commands were found");
}

/// The blocks that need nothing but a shell: each runs in one directory, in the order of its page.
#[test]
fn the_blocks_that_can_run_here_run() {
    let (dir, root) = (tempfile::tempdir().unwrap(), Path::new(env!("CARGO_MANIFEST_DIR")));
    let pages = root.join("testdata/catalog");
    said(dir.path(), &["catalog", "snapshot", "--from", pages.to_str().unwrap()]);
    let question = r#"{"kind":"operator","args":{"csv_name":"acme-db-operator.v1.0.0","ocp_version":"4.16"}}"#;
    std::fs::write(dir.path().join("questions.jsonl"), format!("{question}\n")).unwrap();
    let (mut run, mut left) = (Vec::new(), Vec::new());
    for page in ["README.md", "docs/catalog.md", "docs/images.md", "docs/configuration.md"] {
        for line in commands(&std::fs::read_to_string(root.join(page)).unwrap()) {
            // Hosts of examples, programs of others, our own scripts: elsewhere.
            let elsewhere = [
                ".example",
                "podman ",
                "scripts/",
                "certsuite ",
                "./haversack",
                "https://",
                "docker://",
                "LIST.toml",
                " | ",
            ];
            let reads = [
                "catalog ",
                "build catalog",
                "build bastion",
                "config",
                "doctor --offline",
                "man ",
                "completions",
                "build --print",
            ];
            let ours = line.strip_prefix("haversack ").unwrap_or_default();
            let can_run =
                reads.iter().any(|start| ours.starts_with(start)) && !elsewhere.iter().any(|part| line.contains(part));
            if !can_run || ours.starts_with("catalog snapshot") {
                left.push(line);
                continue;
            }
            let words = words(ours).unwrap();
            let args: Vec<&str> = words.iter().map(String::as_str).collect();
            let (status, _, talk) = said(dir.path(), &args);
            // 1 is an answer, too: what is asked for is not in the recorded pages. 2 is none: a snapshot that is not there.
            let is_answer = ours.starts_with("catalog check")
                || ours.starts_with("catalog search")
                || ours.starts_with("catalog diff");
            assert!(status == Some(0) || matches!(status, Some(1 | 2)) && is_answer, "{page}: {line}: {talk}");
            run.push(line);
        }
    }
    assert!(run.len() >= 6, "{run:#?}\nnot run: {left:#?}");
}

#[test]
fn the_list_that_the_pages_show_is_one_that_is_read() {
    let (dir, root) = (tempfile::tempdir().unwrap(), Path::new(env!("CARGO_MANIFEST_DIR")));
    let page = std::fs::read_to_string(root.join("docs/images.md")).unwrap();
    let block = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(block.starts_with("# LIST.toml"), "{block}");
    std::fs::write(dir.path().join("LIST.toml"), block).unwrap();
    let (status, _, talk) = said(dir.path(), &["sync", "LIST.toml", "--offline"]);
    // It was understood, and then nobody may be asked.
    assert!(status == Some(1) || status == Some(3), "{talk}");
    assert!(talk.contains("because this run is offline") && !talk.contains("LIST.toml:"), "{talk}");
}

#[test]
#[ignore = "needs setpriv; a snapshot of somebody else is not called damaged"]
fn a_snapshot_that_may_not_be_read_is_not_called_damaged() {
    use std::os::unix::fs::PermissionsExt;

    let (dir, checkout) = (tempfile::tempdir().unwrap(), Path::new(env!("CARGO_MANIFEST_DIR")));
    let pages = checkout.join("testdata/catalog");
    said(dir.path(), &["catalog", "snapshot", "--from", pages.to_str().unwrap()]);
    let db = dir.path().join("catalog.db");
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&db, PermissionsExt::from_mode(0o600)).unwrap();
    // A copy that anybody may run, wherever the checkout lies.
    let program = dir.path().join("haversack");
    std::fs::copy(assert_cmd::cargo::cargo_bin!("haversack"), &program).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&program)
        .args(["catalog", "info", "--db"])
        .arg(&db)
        .current_dir("/")
        .output()
        .unwrap();
    let talk = String::from_utf8(output.stderr).unwrap();
    let shown = db.display();
    let expected = format!(
        "error: cannot open {shown}\n  because: Permission denied (os error 13)\nhint: make {shown} readable for this user (`ls -l` \
         shows whose it is), or run as the user who can read it\n"
    );
    assert_eq!((output.status.code(), talk), (Some(1), expected));
}

#[test]
fn a_failure_is_json_for_programs_and_text_for_people() {
    let dir = tempfile::tempdir().unwrap();
    let (status, data, talk) = said(dir.path(), &["--json", "catalog", "info", "--db", "gone.db"]);
    assert!(status == Some(1) && talk.starts_with("error: gone.db: "), "{talk}");
    let report: Value = serde_json::from_str(&data).unwrap();
    let first = talk.lines().next().unwrap().trim_start_matches("error: ");
    let hint = talk.lines().find_map(|line| line.strip_prefix("hint: "));
    assert_eq!(report, json!({ "error": first, "because": [], "hint": hint, "status": 1 }));
    let (_, data, talk) = said(dir.path(), &["--json", "inspect", "docker://127.0.0.1:9/a/b:1", "--retries", "0"]);
    let report: Value = serde_json::from_str(&data).unwrap();
    assert_eq!(report["because"], json!(["Connection refused (os error 111)"]), "{talk}");
    assert_eq!(said(dir.path(), &["catalog", "info", "--db", "gone.db"]).1, "");
}

#[test]
fn a_command_line_that_makes_no_sense_is_json_for_programs_too() {
    let dir = tempfile::tempdir().unwrap();
    let usage = "usage: haversack copy <SRC> <DST>";
    for (args, error, hint) in [
        (
            &["list-tags", "--json", "--tag", "docker://h.example/a"][..],
            "unexpected argument '--tag' found",
            Some("to pass '--tag' as a value, use '-- --tag'"),
        ),
        (&["--json", "copy"], "the following required arguments were not provided: <SRC> <DST>", Some(usage)),
        (
            &["copy", "oci:a", "--json"],
            "the following required arguments were not provided: <DST>",
            Some("usage: haversack copy --json <SRC> <DST>"),
        ),
        (
            &["--json", "copi"],
            "unrecognized subcommand 'copi'",
            Some("some similar subcommands exist: 'config', 'completions', 'copy'"),
        ),
        (
            &["--json", "catalog", "search", "x", "--limit", "many"],
            "invalid value 'many' for '--limit <N>': invalid digit found in string",
            None,
        ),
        (
            &["--json", "copy", "--tls-verify=false", "oci:a", "oci:b"],
            "unexpected argument '--tls-verify' found",
            Some("each end has its own: '--src-tls-verify' for what is read, '--dest-tls-verify' for what is written"),
        ),
        (
            &["--json", "login", "h.example", "-u", "ann", "-p", "secret"],
            "unexpected argument '-p' found",
            Some(
                "others on this machine can read a command line: '--password-stdin' takes the password from standard input",
            ),
        ),
        (
            &["--json", "copy", "-p", "oci:a", "oci:b"],
            "unexpected argument '-p' found",
            Some("to pass '-p' as a value, use '-- -p'"),
        ),
        (&["catalog", "--json"], "a command is missing", Some("usage: haversack catalog [OPTIONS] <COMMAND>")),
        (&["--json"], "a command is missing", Some("usage: haversack [OPTIONS] <COMMAND>")),
    ] {
        let (status, data, talk) = said(dir.path(), args);
        let report: Value = serde_json::from_str(&data).unwrap_or_else(|_| panic!("{args:?}: {data}{talk}"));
        let expected = json!({ "error": error, "because": [], "hint": hint, "status": 2 });
        assert_eq!((status, report), (Some(2), expected), "{args:?}");
        // People are told as ever.
        let (words, plain): (Vec<&str>, _) =
            (args.iter().copied().filter(|arg| *arg != "--json").collect(), error.split(": <").next().unwrap());
        let (status, data, _) = said(dir.path(), &words);
        assert_eq!(
            (status, data.as_str(), talk.contains(plain) || talk.contains("requires a subcommand")),
            (Some(2), "", true),
            "{talk}"
        );
    }
    // Where it is the environment or a file that says how results are printed, or that is wrong.
    let told = |envs: &[(&str, &str)], args: &[&str]| {
        let output = command(dir.path(), args).envs(envs.iter().copied()).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), report["error"].as_str().unwrap().to_owned())
    };
    let error = "unexpected value 'yes' for '--json' found; no more were expected".to_owned();
    assert_eq!(told(&[], &["--json=yes", "copy", "a", "b"]), (Some(2), error));
    let error = "unexpected argument '--nothing' found".to_owned();
    assert_eq!(told(&[("HAVERSACK_JSON", "1")], &["doctor", "--nothing"]), (Some(2), error));
    let error = "HAVERSACK_LIMIT: `many` is not a valid value for --limit: invalid digit found in string".to_owned();
    assert_eq!(told(&[("HAVERSACK_LIMIT", "many")], &["--json", "catalog", "search", "x"]), (Some(2), error));
    std::fs::write(dir.path().join("haversack.toml"), "nothing = 1\n").unwrap();
    let error = "haversack.toml: no option or command of haversack is called `nothing`".to_owned();
    assert_eq!(told(&[], &["--json", "doctor"]), (Some(2), error));
    // What is asked for by help is no failure.
    let (status, data, talk) = said(Path::new("/"), &["--json", "copy", "--help"]);
    assert!(status == Some(0) && data.starts_with("Copy an image") && talk.is_empty(), "{data}{talk}");
}

#[test]
fn who_stops_a_long_command_is_told_that_the_next_run_goes_on() {
    use std::net::TcpListener;
    use std::process::Stdio;

    let dir = tempfile::tempdir().unwrap();
    // It takes a connection and says nothing: what comes then waits.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = listener.local_addr().unwrap();
    let copy = "run the command again: it goes on where it was, and what has arrived is not sent again";
    for (args, hint) in [
        (
            vec![
                "copy".to_owned(),
                format!("docker://{there}/a/b:1"),
                "oci:to".to_owned(),
                "--src-tls-verify=false".to_owned(),
            ],
            copy,
        ),
        (
            ["kernel", "fetch", &format!("rpm:http://{there}/x"), "--to", "to"].map(str::to_owned).to_vec(),
            "run the command again: packages that are there stay, and a half one is gone on with",
        ),
        (
            [
                "catalog",
                "snapshot",
                "--api",
                &format!("http://{there}/"),
                "--charts",
                &format!("http://{there}/i.yaml"),
            ]
            .map(str::to_owned)
            .to_vec(),
            "run the command again: it goes on with what was fetched",
        ),
    ] {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let child = command(dir.path(), &args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // It listens for signals before it asks anybody.
        let _connection = listener.accept().unwrap();
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        let talk = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(130), "{args:?}: {talk}");
        assert!(talk.ends_with(&format!("error: stopped by SIGINT\nhint: {hint}\n")), "{args:?}: {talk}");
        // What else waits to be taken is of the command that has ended.
        listener.set_nonblocking(true).unwrap();
        while listener.accept().is_ok() {}
        listener.set_nonblocking(false).unwrap();
    }
}
