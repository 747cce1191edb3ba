//! `pilotfish identity`: who has an address.

use super::output::{for_people, json, print};
use crate::cli::args::Output;
use crate::cli::table::{Align, age, table};
use crate::exit::{Exit, Failure};
use agent_api::{Client, Fact, Identity};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// An address as people type it: `10.0.0.1`, `10.0.0.1:80`, `fd00::1`, `[fd00::1]`, `[fd00::1]:80`.
pub fn parse(text: &str) -> Result<(IpAddr, Option<u16>), String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok((address.ip(), Some(address.port())));
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok((ip, None));
    }
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match inner.and_then(|inner| inner.parse::<Ipv6Addr>().ok()) {
        Some(ip) => Ok((ip.into(), None)),
        None => Err(format!(
            "{text:?} is no address; write one like 10.0.0.1, 10.0.0.1:80, fd00::1 or [fd00::1]:80 (names are not looked up)"
        )),
    }
}

/// Ends with `NoHost` when nobody says who that is.
pub fn run(socket: &Path, address: &str, output: Output) -> Result<Exit, Failure> {
    let (ip, port) = parse(address).map_err(|what| Failure::say(Exit::Usage, what))?;
    let found = Client::new(socket).identity(ip, port)?;
    match output {
        Output::Json => print(&json(&found)?)?,
        Output::Table => print(&page(&for_people(&found)?))?,
    }
    Ok(if found.known { Exit::Ok } else { Exit::NoHost })
}

fn page(found: &Identity) -> String {
    let Identity { ip, port, known, shown, service, facts, missing } = found;
    let address = match (ip.contains(':'), port) {
        (_, None) => ip.clone(),
        (false, Some(port)) => format!("{ip}:{port}"),
        (true, Some(port)) => format!("[{ip}]:{port}"),
    };
    let mut out = match known {
        true => format!("{address} is {} {}", shown.kind, full(&shown.namespace, &shown.name)),
        false => format!("{address} is known to nobody ({})", shown.name),
    };
    if !service.is_empty() {
        out.push_str(&format!(", reached by Service {service}"));
    }
    out.push('\n');
    if !facts.is_empty() {
        let columns = ["SOURCE", "KIND", "NAME", "POD", "PORT", "NODE", "SERVICE", "SINCE", "STATE", "BY"];
        let columns = columns.map(|name| (name, Align::Left));
        out.push('\n');
        out.push_str(&table(&columns, &facts.iter().map(row).collect::<Vec<_>>()));
    }
    for what in missing {
        out.push_str(&format!("\nmay be missing or old: {what}\n"));
    }
    out
}

fn full(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

fn row(fact: &Fact) -> Vec<String> {
    let Fact { source, kind, namespace, name, pod, node, service, port, since_s, ended_s, stale, by } = fact;
    let or_dash = |text: &String| if text.is_empty() { "-".to_owned() } else { text.clone() };
    let state = match (ended_s, stale) {
        (Some(ended), _) => format!("until {} ago", age(*ended)),
        (None, true) => "stale".to_owned(),
        (None, false) => "now".to_owned(),
    };
    vec![
        source.clone(),
        kind.clone(),
        full(namespace, name),
        or_dash(pod),
        port.map_or("all".to_owned(), |port| port.to_string()),
        or_dash(node),
        or_dash(service),
        since_s.map_or("-".to_owned(), age),
        state,
        or_dash(by),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_api::Party;
    use expect_test::expect;

    #[test]
    fn an_address_has_a_port_or_none_and_brackets_only_where_they_belong() {
        let check =
            |text: &str, ip: &str, port| assert_eq!(parse(text), Ok((ip.parse().expect("an address"), port)), "{text}");
        check("10.0.0.1", "10.0.0.1", None);
        check("10.0.0.1:80", "10.0.0.1", Some(80));
        check("fd00::1", "fd00::1", None);
        check("[fd00::1]", "fd00::1", None);
        check("[fd00::1]:80", "fd00::1", Some(80));
        for text in
            ["", "api", "10.0.0", "10.0.0.1:", "10.0.0.1:70000", "[10.0.0.1]", "[fd00::1", "fd00::1]:80", "10.0.0.1/8"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_source_is_told_with_its_time() {
        let party = Party { name: "api".into(), namespace: "shop".into(), kind: "Deployment".into() };
        let fact = |source: &str, pod: &str| Fact {
            source: source.into(),
            kind: "Deployment".into(),
            namespace: "shop".into(),
            name: "api".into(),
            pod: pod.into(),
            since_s: Some(192),
            ..Fact::default()
        };
        let mut found = Identity {
            ip: "10.0.0.1".into(),
            port: Some(80),
            known: true,
            shown: party,
            service: "api".into(),
            facts: vec![
                Fact { node: "n1".into(), service: "api".into(), stale: true, ..fact("kubernetes", "api-7d-x") },
                fact("containerd", "api-7d-x"),
                Fact { ended_s: Some(70), since_s: None, ..fact("containerd", "api-7d-old") },
            ],
            missing: vec!["the API server has not answered for 12 s: refused".into()],
        };
        expect![[r#"
            10.0.0.1:80 is Deployment shop/api, reached by Service api

            SOURCE      KIND        NAME      POD         PORT  NODE  SERVICE  SINCE  STATE            BY
            kubernetes  Deployment  shop/api  api-7d-x    all   n1    api      3m12s  stale            -
            containerd  Deployment  shop/api  api-7d-x    all   -     -        3m12s  now              -
            containerd  Deployment  shop/api  api-7d-old  all   -     -        -      until 1m10s ago  -

            may be missing or old: the API server has not answered for 12 s: refused
        "#]]
        .assert_eq(&page(&found));
        found = Identity { ip: "fd00::1".into(), port: Some(80), ..Identity::default() };
        found.shown.name = "private".into();
        expect![[r#"
            [fd00::1]:80 is known to nobody (private)
        "#]]
        .assert_eq(&page(&found));
    }
}
