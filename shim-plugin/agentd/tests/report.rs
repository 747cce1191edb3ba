//! `pilotfish report` without an agent and without a journal or with one: one file, and what could
//! not be had is named.
#![forbid(unsafe_code)]

use flate2::read::GzDecoder;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A directory with a configuration, and with what stands in for journalctl.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::Builder::new().prefix("pfr").tempdir().expect("temporary directory"));
        let config = format!(
            "# zqx-secret\n[containerd]\nsockets = [{:?}]\n[kubernetes]\nmode = \"off\"\nnode = \"zqx-node\"\n[admin]\nlisten = \"192.0.2.7:9464\"\n",
            place.path("containerd.sock")
        );
        fs::write(place.path("agent.toml"), config).expect("write");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn journal(&self, script: &str) {
        fs::write(self.path("journalctl"), format!("#!/bin/sh\n{script}\n")).expect("write");
        fs::set_permissions(self.path("journalctl"), fs::Permissions::from_mode(0o755)).expect("mode");
    }

    fn report(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pilotfish"));
        // What the developer's shell has set is no part of the test.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PILOTFISH_")) {
            command.env_remove(name);
        }
        // First of all the stand-in; the rest for the shell that runs it.
        let path = format!("{}:/usr/bin:/bin", self.0.path().display());
        command.args(["report", "--config"]).arg(self.path("agent.toml")).args(args);
        command.arg("--socket").arg(self.path("agent.sock")).env("PATH", path).current_dir(self.0.path());
        command.output().expect("runs")
    }
}

fn unpacked(archive: &[u8]) -> BTreeMap<String, String> {
    let mut tar = tar::Archive::new(GzDecoder::new(archive));
    let mut files = BTreeMap::new();
    for entry in tar.entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("path").into_owned();
        let mut text = String::new();
        entry.read_to_string(&mut text).expect("text");
        files.insert(path.strip_prefix("pilotfish-report").expect("its folder").display().to_string(), text);
    }
    files
}

/// State and detail of each part, as the manifest has them.
fn manifest(files: &BTreeMap<String, String>) -> BTreeMap<String, (String, String)> {
    let manifest: serde_json::Value = serde_json::from_str(&files["manifest.json"]).expect("JSON");
    assert_eq!(manifest["schema"], "pilotfish.report/1");
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    let parts = manifest["parts"].as_array().expect("parts").iter();
    parts.map(|part| (text(&part["file"]), (text(&part["state"]), text(&part["detail"])))).collect()
}

const LINE: &str = r#"{"__REALTIME_TIMESTAMP":"1795242600123456","PRIORITY":"4","_HOSTNAME":"zqx-host","SYSLOG_IDENTIFIER":"pilotfish","MESSAGE":"stopped observing","F_NAMESPACE":"zqx-shop","F_ERROR":"zqx-shop at 192.0.2.9"}"#;

#[test]
fn without_an_agent_it_tells_what_it_can_and_names_the_rest() {
    let place = Place::new();
    place.journal("echo nothing to read >&2; exit 1");
    let output = place.report(&["-o", "r.tar.gz"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(said.starts_with("r.tar.gz: ") && said.contains("missing  nothing to read; an agent that logs"), "{said}");
    let archive = fs::read(place.path("r.tar.gz")).expect("written");
    assert_eq!(fs::metadata(place.path("r.tar.gz")).expect("there").permissions().mode() & 0o7777, 0o600);
    let files = unpacked(&archive);
    let parts = manifest(&files);
    for part in ["config.txt", "check.json", "version.json", "kernel.txt"] {
        assert_eq!(parts[part].0, "whole", "{part}: {parts:?}");
    }
    for part in ["status.json", "timeline.json", "metrics.txt"] {
        assert_eq!(parts[part].0, "missing");
        assert!(parts[part].1.contains("no agent answers on"), "{part}: {parts:?}");
        assert!(!files.contains_key(part));
    }
    assert!(parts.contains_key("doctor.json"), "made, or why not: {parts:?}");
    assert!(files["config.txt"].contains("kubernetes.node = \"zqx-node\"  # "), "{}", files["config.txt"]);
    assert!(!files["config.txt"].contains("zqx-secret"), "a comment is no key");
    assert!(files["check.json"].contains("\"can_run\"") && files["kernel.txt"].starts_with("kernel: "));
}

#[test]
fn a_file_that_is_there_stays_and_standard_output_will_do() {
    let place = Place::new();
    place.journal("exit 0");
    fs::write(place.path("r.tar.gz"), "precious").expect("write");
    let refused = place.report(&["-o", "r.tar.gz"]);
    assert_eq!(refused.status.code(), Some(64), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is there already"), "{refused:?}");
    assert_eq!(fs::read_to_string(place.path("r.tar.gz")).expect("read"), "precious");
    let output = place.report(&["-o", "-"]);
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("standard output: "), "{output:?}");
    assert!(manifest(&unpacked(&output.stdout))["log.jsonl"].1.starts_with("the journal has no line of it"));
}

#[test]
fn the_journal_is_told_and_masked_with_everything_else() {
    let place = Place::new();
    place.journal(&format!("printf '%s\\n' '{LINE}'"));
    let plain = unpacked(&place.report(&["-o", "-"]).stdout);
    assert!(plain["log.jsonl"].contains("zqx-shop at 192.0.2.9") && !plain["log.jsonl"].contains("zqx-host"));
    let masked = unpacked(&place.report(&["-o", "-", "--mask"]).stdout);
    assert_eq!(masked["manifest.json"].matches("\"masked\": true").count(), 1);
    for (file, text) in &masked {
        for name in ["zqx", "192.0.2."] {
            assert!(!text.contains(name), "{name} in {file}: {text}");
        }
    }
    let line: serde_json::Value = serde_json::from_str(masked["log.jsonl"].trim()).expect("one line");
    let mask = line["namespace"].as_str().expect("a mask");
    assert!(mask.starts_with("namespace-"), "{line}");
    assert!(line["error"].as_str().is_some_and(|error| error.starts_with(&format!("{mask} at address-"))), "{line}");
    assert_eq!(line["message"], "stopped observing");
    assert!(masked["config.txt"].contains("kubernetes.node = \"node-"), "{}", masked["config.txt"]);
}
