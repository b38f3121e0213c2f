//! Every command of a page is run as it stands there, as root and as an ordinary user with podman without root; or it is in the
//! page's list of those that run elsewhere.

mod kernels;
mod world;

use std::path::Path;

use crate::answers::blocks;
use world::{ORDINARY, World};

/// A page, and what its commands meet.
struct Page {
    name: &'static str,
    /// What whoever reads the page has, as commands.
    given: &'static str,
    /// Commands that begin so end with this status, and not with 0.
    answers: &'static [(&'static str, i32)],
    /// What is another one each time, and the shell's words for it.
    other: &'static [(&'static str, &'static str)],
    /// Commands that begin so are not run here, because.
    elsewhere: &'static [(&'static str, &'static str)],
}

const PAGES: [Page; 6] = [
    Page {
        name: "README.md",
        given: "image one; haversack copy oci:headers:one docker://registry.example/acme/db:1.0",
        answers: &[],
        other: &[],
        elsewhere: &[
            ("scripts/", "the job `release` of .github/workflows/ci.yml, tests/first_hour/scripts.rs"),
            ("haversack kernel ", "the same commands are in docs/kernels.md"),
            ("haversack build driver-toolkit ", "the same command is in docs/kernels.md"),
            ("haversack publish ", "tests/publish has such services"),
        ],
    },
    Page { name: "docs/catalog.md", given: OTHER_SNAPSHOTS, answers: &[], other: &[], elsewhere: &[] },
    Page {
        name: "docs/images.md",
        given: "image one; image two; printf secret > password
            haversack copy oci:headers:one docker://registry.example/acme/db:1.0
            haversack login registry.example:5000 --username me --password-stdin < password
            haversack copy oci:headers:two docker://registry.example:5000/acme/db:1.0
            haversack logout registry.example:5000
            haversack copy oci:headers:one oci:store:one
            haversack catalog snapshot --db catalog.db",
        answers: &[],
        other: &[],
        elsewhere: &[],
    },
    Page {
        name: "docs/carry.md",
        given: "image one; image two
            haversack copy oci:headers:one oci:headers:headers:6.12.117
            haversack copy oci:headers:two oci:headers:headers:6.12.117-deb12
            haversack copy oci:headers:two oci:headers-10:two
            haversack pack oci:headers-10 --out june; haversack pack oci:headers --out july
            openssl ecparam -name prime256v1 -genkey -noout -out packer.key
            openssl ec -in packer.key -pubout -out packer.pub
            echo site: 7 > site.yaml; mkdir rpms; echo 1 > rpms/one.rpm",
        answers: &[("haversack unpack carry-2 --to oci:elsewhere", 1)],
        other: &[("37GZ-RUJW-G5AS-ZETA-WAGB-QPX7-ZX6D-OMEW", "$(sed -n 's/^receipt //p' ~/said | tail -n 1)")],
        elsewhere: &[("cosign ", "tests/carry has it as a judge")],
    },
    Page {
        name: "docs/serve.md",
        given: "image one; haversack copy oci:headers:one oci-archive:app.tar",
        answers: &[],
        other: &[],
        elsewhere: &[("curl ", "tests/serve/shown.rs asks that of a real catalog")],
    },
    Page { name: "docs/configuration.md", given: "", answers: &[], other: &[], elsewhere: &[] },
];

const OTHER_SNAPSHOTS: &str = r#"haversack catalog snapshot --db old.db; cp old.db new.db
    printf '%s\n' '{"kind":"operator","args":{"csv_name":"acme-db-operator.v1.0.0","ocp_version":"4.16"}}' > questions.jsonl"#;

/// `image NAME` puts a small image into the layout `headers`; certsuite is one that only looks whether its directory is there.
const GIVEN_TO_ALL: &str = r#"
set -u
image() {
    mkdir "$1"
    printf 'name = "x"\n[[layers]]\nfiles = [{ dest = "/f", text = "%s" }]\n' "$1" > "$1/image.toml"
    haversack build "$1" --no-sbom --output "oci:headers:$1"
}
certsuite() {
    for word; do case $word in --offline-db=*) test -f "${word#*=}/data/archive.json"; return ;; esac; done
    return 9
}
KUBECONFIG=none
cat > LIST.toml <<X
to = "docker://bastion.example:5000/mirror"
[[images]]
registry = "registry.example"
repositories = ["acme/db"]
tags = ["*"]
X
printf '[catalog.snapshot]\nfrom = "%s/../pages"\n' "$HOME" > haversack.toml
"#;

/// Runs the commands of a page in a world, block by block from home; what is wrong.
fn walk_in(world: &World, page: &Page, user: &str) -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page.name)).unwrap();
    let blocks = blocks(&text);
    for (start, why) in page.elsewhere {
        assert!(blocks.iter().flatten().any(|line| line.starts_with(start)), "{}: no `{start}` ({why})", page.name);
    }
    let mut script = format!("exec > ~/said 2>&1\n{GIVEN_TO_ALL}\nset -e\n{}\nset +e\n", page.given);
    let mut here = Vec::new();
    for block in &blocks {
        script.push_str("cd ~\n");
        for line in block.iter().filter(|line| !page.elsewhere.iter().any(|(start, _)| line.starts_with(start))) {
            let mut run = page.other.iter().fold(line.clone(), |line, (printed, words)| line.replace(printed, words));
            if run.ends_with("haversack serve mirror") {
                // The registry is there until the page ends.
                run += " & until (exec 3<>/dev/tcp/127.0.0.1/5000) 2>/dev/null; do sleep 0.05; done";
            }
            script += &format!("cat <<'X'\n$ {line}\nX\n{run}\necho $? >> ~/statuses\n");
            here.push(line);
        }
    }
    assert!(!here.is_empty());
    let output = world.run(&script);
    let read = |name: &str| std::fs::read_to_string(world.path("home").join(name)).unwrap_or_default();
    let (said, statuses) = (read("said"), read("statuses"));
    let mut statuses = statuses.lines();
    let mut wrong = Vec::new();
    for line in here {
        let answer = page.answers.iter().find(|(start, _)| line.starts_with(start));
        let (expected, status) = (answer.map_or(0, |(_, status)| *status).to_string(), statuses.next());
        if status != Some(&expected) {
            wrong.push(format!("{}: {user}: {line}: {status:?}, not {expected}", page.name));
        }
    }
    if !wrong.is_empty() {
        wrong.push(said + &String::from_utf8_lossy(&output.stderr));
    }
    wrong
}

#[test]
fn no_page_with_commands_is_forgotten() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut pages: Vec<String> = docs.map(|name| format!("docs/{}", name.to_str().unwrap())).collect();
    pages.push("README.md".to_owned());
    pages
        .retain(|page| page.ends_with(".md") && !blocks(&std::fs::read_to_string(root.join(page)).unwrap()).is_empty());
    pages.sort();
    // Its services are stand-ins in tests/publish, which have the same commands.
    let mut known = vec!["docs/publish.md", kernels::PAGE.name];
    known.extend(PAGES.iter().map(|page| page.name));
    known.sort_unstable();
    assert_eq!(pages, known);
}

fn walk_all(user: &'static str) {
    let wrong: Vec<String> = PAGES.iter().flat_map(|page| walk_in(&World::new(user), page, user)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "needs podman, mount, ip, unshare, setpriv, openssl, skopeo, docker-registry and python3; in namespaces of its own"]
fn every_command_of_the_pages_works_as_root() {
    walk_all("root");
}

#[test]
#[ignore = "needs podman, mount, newuidmap, ip, unshare, setpriv, openssl, skopeo, docker-registry and python3; in namespaces of its own"]
fn every_command_of_the_pages_works_as_an_ordinary_user_with_podman_without_root() {
    walk_all(ORDINARY);
}
