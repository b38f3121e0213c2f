//! The real Masterminds/semver as the judge of constraints: what it takes, what it refuses, what it allows.

use std::io::Write;
use std::process::{Command, Stdio};

use haversack::catalog::constraint::{Constraint, version};
use serde_json::{Value, json};

/// The newest release when this was written; certsuite and Helm follow them.
const MODULE: &str = "github.com/Masterminds/semver/v3@v3.5.0";

const JUDGE: &str = r#"package main

import (
	"bufio"
	"encoding/json"
	"os"

	"github.com/Masterminds/semver/v3"
)

func main() {
	in := json.NewDecoder(bufio.NewReader(os.Stdin))
	out := json.NewEncoder(os.Stdout)
	for {
		var asked struct{ Version, Constraint string }
		if in.Decode(&asked) != nil {
			return
		}
		constraint, err := semver.NewConstraint(asked.Constraint)
		version, err2 := semver.NewVersion(asked.Version)
		if err != nil || err2 != nil {
			out.Encode("refused")
			continue
		}
		out.Encode(constraint.Check(version))
	}
}
"#;

#[test]
#[ignore = "needs go; fetches one module"]
fn constraints_are_what_masterminds_says_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let go = |args: &[&str]| {
        let output = Command::new("go").args(args).current_dir(dir.path()).output().unwrap();
        assert!(output.status.success(), "go {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    std::fs::write(dir.path().join("main.go"), JUDGE).unwrap();
    go(&["mod", "init", "judge"]);
    go(&["get", MODULE]);
    go(&["build", "-o", "judge", "."]);

    let questions = questions();
    let mut child =
        Command::new(dir.path().join("judge")).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let asked = questions.clone();
    let writer = std::thread::spawn(move || {
        for (version, constraint) in asked {
            writeln!(input, "{}", json!({ "version": version, "constraint": constraint })).unwrap();
        }
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let answers: Vec<Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), questions.len());

    let mut differs = Vec::new();
    let (mut taken, mut refused) = (0, 0);
    for ((asked, constraint), answer) in questions.iter().zip(&answers) {
        let own = match (constraint.parse::<Constraint>(), version(asked)) {
            (Ok(constraint), Ok(version)) => Value::Bool(constraint.allows(&version)),
            _ => "refused".into(),
        };
        let is_refused = answer == "refused";
        *if is_refused { &mut refused } else { &mut taken } += 1;
        // By a fault of its own it refuses `A||B - C` without blanks, which by its rules has an answer.
        let is_fault_of_the_judge = is_refused && constraint.contains("||") && constraint.contains(" - ");
        if own != *answer && !is_fault_of_the_judge {
            differs.push(format!("{asked} {constraint:?}: {answer}, and here {own}"));
        }
    }
    assert!(taken > 3_000 && refused > 1_000, "{taken} taken, {refused} refused");
    assert!(differs.is_empty(), "{} differ:\n{}", differs.len(), differs[..differs.len().min(40)].join("\n"));
}

/// Versions and constraints: those that were met or reported, and made-up ones from the same pieces; always the same.
fn questions() -> Vec<(String, String)> {
    const VERSIONS: &[&str] = &[
        "1.20.0",
        "v1.25.4+18eadca",
        "1.25.4-rc.1",
        "1.19",
        "1",
        "v1",
        "1.20.0-alpha",
        "0.0.0",
        "2.0.0",
        "1.40.0",
        "1.2.3.4",
        "",
        "garbage",
        "1.20.0+a..b",
        "01.2.3",
        "1.20.x",
        "99999999999999999999.0.0",
    ];
    const CONSTRAINTS: &[&str] = &[
        "",
        " ",
        ">=1.20.0<1.40.0",
        ">=1.20.0\u{a0}<1.40.0",
        ">=1.20.0\u{3000}<1.40.0",
        ">=1.20.0\u{b}<1.40.0",
        ">=1.20.0\u{85}<1.40.0",
        ">=1.20.0\t<1.40.0",
        ">=1.20.0\n<1.40.0",
        ">1.19 1.20 - 1.40",
        "1.20 - 1.40 >1.19",
        ">=1.20.0+a..b",
        ">=1.20.0-",
        ">=1.20.0-0",
        ">= 1.20.0-0",
        "^1.20",
        "~1.20",
        "~>1.20",
        "1.x",
        "1.2.X",
        "*",
        ">*",
        "!=1.20",
        "!= 1.20.x",
        "=1.20.0",
        "==1.20.0",
        "=>1.20",
        "=<1.20",
        "1.20||1.30",
        "1.20 || >=1.30 <1.40",
        "1.20,1.30",
        ">=1.20,<1.30",
        ">=1.20, <1.30",
        ">=1.20 ,<1.30",
        ",1.20",
        "1.20,",
        "||",
        "1.20||",
        "||1.20",
        "1.20 |1.30",
        "<= v1.30.0",
        ">=v1.20",
        ">= V1",
        "1.20.0 - 1.30.0",
        "1.20.0-1.30.0",
        "1.20 -1.30",
        "1.20 - 1.30 - 1.40",
        "^0.0",
        "^0.0.3",
        "~0",
        "^*",
        "~x",
        ">=1.20.0 foo",
        "foo",
        ">= 1..2",
        ">=1.2.3.4",
        "^1.20.0-beta",
        "~1.20.0-beta.1",
        "<1.20.0-0 || >1.30",
        "1|x",
        "1*",
        ">=*.1",
    ];
    const PIECES: &[&str] = &[
        ">=",
        "<",
        "<=",
        ">",
        "=",
        "!=",
        "^",
        "~",
        "~>",
        "=>",
        "=<",
        "",
        "",
        " ",
        " ",
        ",",
        ", ",
        " || ",
        "||",
        " - ",
        "1.20.0",
        "1.20",
        "1",
        "v1.25.4",
        "1.30.x",
        "*",
        "1.20.0-0",
        "1.25.4-rc.1",
        "1.25.4+build",
        "2.0.0",
        "0.1.2",
        "x",
        "-",
        ".",
    ];
    let mut questions: Vec<(String, String)> = Vec::new();
    for constraint in CONSTRAINTS {
        questions.extend(VERSIONS.iter().map(|version| ((*version).to_owned(), (*constraint).to_owned())));
    }
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below as u64).unwrap()
    };
    for _ in 0..12_000 {
        let constraint = match next(3) {
            // Anything.
            0 => (0..=next(6)).map(|_| PIECES[next(PIECES.len())]).collect::<String>(),
            // Operators before versions, joined in any way.
            _ => {
                let parts: Vec<String> =
                    (0..=next(3)).map(|_| format!("{}{}", PIECES[next(13)], PIECES[20 + next(12)])).collect();
                parts.join([" ", ", ", " || ", ",", "||", " - "][next(6)])
            }
        };
        questions.push((VERSIONS[next(12)].to_owned(), constraint));
    }
    questions
}
