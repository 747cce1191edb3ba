//! Stories of what is found where.

use super::files::LARGEST_FILE;
use super::*;
use std::fs;
use tempfile::TempDir;

fn kubeconfig_text(server: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: here\ncontexts:\n- {{name: here, context: {{cluster: c, user: u}}}}\n\
         clusters:\n- {{name: c, cluster: {{server: '{server}'}}}}\nusers:\n- name: u\n  user: {user}\n"
    )
}

fn write(directory: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, text).expect("write");
    path
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn token(access: &Access) -> Option<String> {
    let headers = format!("{:?}", access.config.auth_info.token.is_some());
    (headers == "true").then_some(headers)
}

#[test]
fn nothing_found_is_a_normal_answer_that_says_where_it_looked() {
    let nowhere = Sources { usual: vec![PathBuf::from("/nonexistent/k3s.yaml")], ..Sources::default() };
    let none = find(&nowhere).expect_err("nothing");
    assert!(none.is_normal());
    assert!(none.to_string().contains("/nonexistent/k3s.yaml"), "{none}");
}

#[test]
fn the_named_file_wins_and_nothing_else_is_looked_at() {
    let place = directory();
    let named = write(&place, "named", &kubeconfig_text("https://a:6443", "{token: x}"));
    let usual = write(&place, "usual", &kubeconfig_text("https://b:6443", "{token: x}"));
    let sources = Sources { kubeconfig: Some(named.clone()), usual: vec![usual], ..Sources::default() };
    assert_eq!(find(&sources).expect("found").url(), "https://a:6443/");
    fs::remove_file(&named).expect("remove");
    let fault = find(&sources).expect_err("gone");
    assert!(!fault.is_normal(), "{fault}");
}

#[test]
fn the_usual_path_is_taken_where_nothing_was_said() {
    let place = directory();
    let usual = write(&place, "k3s.yaml", &kubeconfig_text("https://127.0.0.1:6443", "{token: x}"));
    let missing = place.path().join("missing").into_os_string();
    let sources = Sources { env: Some(missing), usual: vec![usual], ..Sources::default() };
    assert_eq!(find(&sources).expect("found").url(), "https://127.0.0.1:6443/");
}

#[test]
fn k3s_and_rke2_keep_theirs_where_they_are_looked_for() {
    let usual = Sources::of_this_process(None).usual;
    assert_eq!(usual, ["/etc/rancher/k3s/k3s.yaml", "/etc/rancher/rke2/rke2.yaml"].map(PathBuf::from));
    let place = directory();
    let second = write(&place, "rke2.yaml", &kubeconfig_text("https://127.0.0.1:6443", "{token: x}"));
    let sources = Sources { usual: vec![place.path().join("k3s.yaml"), second], ..Sources::default() };
    assert_eq!(find(&sources).expect("found").url(), "https://127.0.0.1:6443/");
}

#[test]
fn a_token_file_is_read_and_its_replacement_noticed() {
    let place = directory();
    let secret = write(&place, "token", "first\n");
    let path = write(&place, "config", &kubeconfig_text("https://a:6443", "{tokenFile: token}"));
    let access = find(&Sources { kubeconfig: Some(path), ..Sources::default() }).expect("found");
    assert!(token(&access).is_some() && access.config.auth_info.token_file.is_none());
    assert!(access.fingerprint.is_current());
    let next = write(&place, "next", "second\n");
    fs::rename(next, secret).expect("rename");
    assert!(!access.fingerprint.is_current());
}

#[test]
fn the_service_account_of_a_pod_is_its_token_and_its_authority() {
    let place = directory();
    let account = |host: &str| ServiceAccount {
        host: host.to_owned(),
        port: "443".to_owned(),
        directory: place.path().to_owned(),
    };
    let sources = |host| Sources { service_account: Some(account(host)), ..Sources::default() };
    assert!(!find(&sources("10.96.0.1")).expect_err("no files").is_normal());
    write(&place, "token", "t");
    write(&place, "ca.crt", "no certificate");
    assert!(find(&sources("10.96.0.1")).expect_err("no certificate").to_string().contains("no certificate"));
    write(&place, "ca.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let access = find(&sources("fd00::1")).expect("found");
    assert_eq!(access.url(), "https://[fd00::1]:443/");
    assert_eq!(access.config.root_cert.map(|all| all.len()), Some(1));
}

#[test]
fn programs_providers_and_proxies_are_refused_with_a_reason() {
    let place = directory();
    let exec = "{exec: {apiVersion: client.authentication.k8s.io/v1, command: aws}}";
    let refused = |text: &str| {
        let path = write(&place, "config", text);
        find(&Sources { kubeconfig: Some(path), ..Sources::default() }).expect_err("refused").to_string()
    };
    assert!(refused(&kubeconfig_text("https://a:6443", exec)).contains("runs aws for credentials"));
    assert!(refused(&kubeconfig_text("https://a:6443", "{auth-provider: {name: gcp, config: {}}}")).contains("gcp"));
    let proxied = kubeconfig_text("https://a:6443', proxy-url: 'http://p:1", "{token: x}");
    assert!(refused(&proxied).contains("proxy"));
}

#[test]
fn files_that_make_no_sense_are_refused_and_never_fatal() {
    let place = directory();
    let large = "#".repeat(usize::try_from(LARGEST_FILE).expect("small") + 1);
    for text in ["", "{", "a: [", "current-context: x", "\u{0}", &kubeconfig_text("not a url", "{}"), &large] {
        let path = write(&place, "config", text);
        let fault = find(&Sources { kubeconfig: Some(path), ..Sources::default() }).expect_err("refused");
        assert!(!fault.is_normal(), "{fault}");
    }
}
