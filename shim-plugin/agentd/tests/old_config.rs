//! Configuration files of older versions still load: a key that has been renamed is read, and said.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::{Command, Output};

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn check(file: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pilotfish"));
    // What the developer's shell has set is no part of the test.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PILOTFISH_")) {
        command.env_remove(name);
    }
    command.arg("config").arg("--config").arg(file).output().expect("pilotfish starts")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_file_of_0_1_0_with_every_key_set_is_valid() {
    let file = fixture("config-0.1.0.toml");
    let output = check(&file);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("The configuration is valid."), "{}", said(&output));
}

/// Else the test above would also pass with a program that reads nothing of the file.
#[test]
fn each_key_of_the_file_is_read() {
    let text = std::fs::read_to_string(fixture("config-0.1.0.toml")).expect("the fixture");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("agent.toml");
    let keys: Vec<&str> = text.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key).collect();
    assert_eq!(keys.len(), 26, "0.1.0 had 26 keys: {keys:?}");
    for (number, line) in text.lines().enumerate().filter(|(_, line)| line.contains(" = ")) {
        let (key, _) = line.split_once(" = ").expect("a key");
        let broken: Vec<String> = text
            .lines()
            .enumerate()
            // No key takes a table.
            .map(|(at, line)| if at == number { format!("{key} = {{}}") } else { line.to_owned() })
            .collect();
        std::fs::write(&file, broken.join("\n")).expect("write");
        let output = check(&file);
        assert_eq!(output.status.code(), Some(64), "{key}: {}", said(&output));
        assert!(said(&output).contains(key), "{key} is not named: {}", said(&output));
    }
}
