//! What somebody types in the first hour: whole answers.

mod answers;
mod definitions;
#[path = "../docker_registry/mod.rs"]
#[allow(dead_code, reason = "each user takes a part")]
mod docker_registry;
mod doctor;
mod leading;
mod logins;
mod manual;
mod pages;
mod points;
mod scripts;
mod settings;
#[path = "../stand_in/mod.rs"]
mod stand_in;
mod terminals;

use std::path::Path;
use std::process::{Command, Output};

use assert_cmd::cargo::cargo_bin;

/// The program in a directory, with nothing of this user's or this machine's settings.
fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(cargo_bin!("haversack"));
    command.args(args).current_dir(dir).env_clear().env("HOME", dir).env("PATH", std::env::var_os("PATH").unwrap());
    command
}

fn haversack(dir: &Path, args: &[&str]) -> Output {
    command(dir, args).output().unwrap()
}

/// Status, stdout and stderr.
fn said(dir: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = haversack(dir, args);
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}
