use super::*;
use crate::config::LogFormat;
use capture_engine::attach::Mode;
use expect_test::{Expect, expect};
use toml::de::DeValue;

fn load_from(file: &str, environment: &[(&str, &str)], flags: &Flags) -> Result<(Config, Vec<String>), Faults> {
    let source = Source { path: "pilotfish.toml".into(), text: file.to_owned() };
    load(Some(&source), environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())), flags)
}

fn check_faults(file: &str, environment: &[(&str, &str)], flags: &Flags, expected: Expect) {
    let faults = load_from(file, environment, flags).expect_err("the configuration has faults");
    expected.assert_eq(&faults.to_string());
}

#[test]
fn every_default_is_valid_and_sets_its_key() {
    for key in KEYS {
        let value = DeValue::parse(key.default).unwrap_or_else(|e| panic!("{}: {e}", key.dotted()));
        let mut config = Config::blank();
        (key.apply)(&mut config, &Given::Toml(value.get_ref())).unwrap_or_else(|e| panic!("{}: {e}", key.dotted()));
        assert!(SECTIONS.iter().any(|(section, _)| *section == key.section), "{}", key.dotted());
    }
}

#[test]
fn the_printed_default_is_the_default() {
    let printed = Config::documented_default();
    assert_eq!(load_from(&printed, &[], &vec![]).expect("valid").0, Config::default());
    let live: String = printed
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if KEYS.iter().any(|key| rest == format!("{} = {}", key.name, key.default)) => {
                format!("{rest}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    assert!(live.matches(" = ").count() >= KEYS.len(), "{live}");
    assert_eq!(load_from(&live, &[], &vec![]).expect("valid").0, Config::default());
}

#[test]
fn all_faults_are_reported_at_once_with_line_key_and_remedy() {
    check_faults(
        r#"
[attach]
mode = "tcp"
loopback = "maybe"
[containerd]
socket = ["/run/containerd/containerd.sock"]
namespaces = "k8s.io"
[capture]
ring_bytes = 100_000
head_bytes = "1MiB"
ports = [80, "9000-8000"]
flows = 3
[admn]
listen = "localhost"
[admin]
listen = 9464
socket = "pilotfish.sock"
[log]
level = "loud=very=much"
"#,
        &[("PILOTFISH_ATTACH_LOOPBACK", "perhaps"), ("PILOTFISH_METRICS_EXPIRY", "2s")],
        &vec![("--log-format", "log.format", "xml".into())],
        expect![[r#"
            15 faults in the configuration:
              pilotfish.toml:3: attach.mode: "tcp" is none of auto, tcx, clsact; write "tcx"
              pilotfish.toml:4: attach.loopback: "maybe" is not a switch; write true or false
              pilotfish.toml:6: containerd.socket: no such key; write sockets
              pilotfish.toml:7: containerd.namespaces: "k8s.io" is not a list; write one like ["a", "b"]
              pilotfish.toml:9: capture.ring_bytes: 100000 is not a power of two; write 131072
              pilotfish.toml:10: capture.head_bytes: "1MiB" is not a size from 64 to 16KiB; write bytes or a text like "4MiB"
              pilotfish.toml:11: capture.ports: "9000-8000" is not a port or a range of ports; write one like 80 or "8000-8100"
              pilotfish.toml:12: capture.flows: 3 is not a number from 1024 to 4194304; write one, like 1024
              pilotfish.toml:13: admn: no such section; write [admin]
              pilotfish.toml:16: admin.listen: 9464 is not a text; put it in quotes
              pilotfish.toml:17: admin.socket: "pilotfish.sock" is not an absolute path; write one that begins with /
              pilotfish.toml:19: log.level: "loud=very=much" is not a level or a filter (error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5); write "info"
              environment PILOTFISH_ATTACH_LOOPBACK: attach.loopback: "perhaps" is not a switch; write true or false
              environment PILOTFISH_METRICS_EXPIRY: metrics.expiry: "2s" is not a time from 10s to 86400s; write seconds or a text like "30s", "5m"
              flag --log-format: log.format: "xml" is none of auto, text, json, journald; write "auto""#]],
    );
}

#[test]
fn broken_toml_is_located_and_the_rest_is_still_checked() {
    check_faults(
        "[attach]\nmode = \n[log]\nlevle = \"info\"\n",
        &[],
        &vec![],
        expect![[r#"
        3 faults in the configuration:
          pilotfish.toml:2: string values must be quoted, expected literal string
          pilotfish.toml:2: attach.mode: "" is none of auto, tcx, clsact; write "auto"
          pilotfish.toml:4: log.levle: no such key; [log] has level, format"#]],
    );
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let file = "[attach]\nmode = \"tcx\"\nloopback = true\n[admin]\nconnections = 8\n[log]\nformat = \"json\"\nlevel = \"debug\"";
    let environment = [("PILOTFISH_ADMIN_CONNECTIONS", "16"), ("PILOTFISH_LOG_LEVEL", "trace")];
    let flags = vec![("--log-level", "log.level", "warn".to_owned())];
    let (config, _) = load_from(file, &environment, &flags).expect("valid");
    assert_eq!(config.attach.mode, Mode::Tcx, "file");
    assert_eq!(config.log.format, LogFormat::Json, "file");
    assert_eq!(config.admin.connections, 16, "environment");
    assert!(config.attach.loopback, "file");
    assert_eq!(config.log.level, "warn", "flag");
    assert_eq!(config.capture, Config::default().capture, "default");
}

#[test]
fn lists_come_from_the_environment_separated_by_commas() {
    let environment =
        [("PILOTFISH_CONTAINERD_SOCKETS", "/a.sock, /b.sock"), ("PILOTFISH_CAPTURE_PORTS", "80,8000-8100")];
    let (config, _) = load_from("", &environment, &vec![]).expect("valid");
    assert_eq!(config.containerd.sockets, [PathBuf::from("/a.sock"), PathBuf::from("/b.sock")]);
    assert_eq!(config.capture.ports, [(80, 80), (8000, 8100)]);
}

#[test]
fn variables_that_kubernetes_makes_for_a_service_stop_nothing() {
    let environment = [
        ("PILOTFISH_METRICS_SERVICE_HOST", "10.0.0.1"),
        ("PILOTFISH_PORT_9464_TCP", "tcp://10.0.0.1:9464"),
        ("PILOTFISH_ATTACH_MOD", "tcx"),
    ];
    let (config, warnings) = load_from("", &environment, &vec![]).expect("valid");
    assert_eq!(config, Config::default());
    expect![[r#"
        environment PILOTFISH_ATTACH_MOD is not a key and was ignored; PILOTFISH_ATTACH_MODE is
        environment PILOTFISH_METRICS_SERVICE_HOST is not a key and was ignored
        environment PILOTFISH_PORT_9464_TCP is not a key and was ignored"#]]
    .assert_eq(&warnings.join("\n"));
}

#[test]
fn a_named_file_that_is_missing_is_a_fault() {
    assert!(read_file(Some(Path::new("/nonexistent/pilotfish.toml"))).is_err());
}

#[test]
fn a_key_that_was_renamed_is_read_by_its_old_name_and_that_is_said() {
    let warned = |file: &str, environment: &[(&str, &str)]| {
        let (config, warnings) = load_from(file, environment, &vec![]).expect("valid");
        assert!(!config.attach.node, "{warnings:?}");
        warnings.join("\n")
    };
    expect!["pilotfish.toml:2: attach.host is now attach.node"].assert_eq(&warned("[attach]\nhost = false\n", &[]));
    expect!["environment PILOTFISH_ATTACH_HOST: attach.host is now attach.node"]
        .assert_eq(&warned("", &[("PILOTFISH_ATTACH_HOST", "false")]));
    assert_eq!(warned("[attach]\nnode = false\n", &[]), "");
    // Each source by itself: the environment goes before the file, whatever they call it.
    assert_eq!(
        warned("[attach]\nhost = true\n", &[("PILOTFISH_ATTACH_NODE", "false")]),
        "pilotfish.toml:2: attach.host is now attach.node"
    );
}

#[test]
fn a_key_by_both_of_its_names_is_a_fault() {
    check_faults(
        "[attach]\nnode = true\nhost = false\n",
        &[("PILOTFISH_ATTACH_HOST", "true"), ("PILOTFISH_ATTACH_NODE", "true")],
        &vec![],
        expect![[r#"
            2 faults in the configuration:
              pilotfish.toml:3: attach.host: is the old name of attach.node, which is given too; remove one of them
              environment PILOTFISH_ATTACH_HOST: attach.host: is the old name of attach.node, which is given too; remove one of them"#]],
    );
    check_faults(
        "[attach]\nhost = \"maybe\"\n",
        &[],
        &vec![],
        expect![[r#"
            1 fault in the configuration:
              pilotfish.toml:2: attach.host: "maybe" is not a switch; write true or false"#]],
    );
}

#[test]
fn an_old_name_is_the_name_of_no_other_key() {
    for old in KEYS.iter().flat_map(|key| key.was.iter().map(|old| (key.section, *old))) {
        assert!(!KEYS.iter().any(|key| (key.section, key.name) == old), "{old:?}");
    }
}
