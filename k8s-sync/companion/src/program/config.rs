//! The configuration: one TOML file. Every key has a default; what is unknown is a fault.

use super::exit::Failure;
use companion::Config as Bounds;
use serde::Deserialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use tracing_subscriber::EnvFilter;

/// See docs/operate.md, "The companion".
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub service: Service,
    pub push: Push,
    pub api: Api,
    pub hpa: Hpa,
    pub metrics: Metrics,
    pub map: Map,
    pub tls: Tls,
    pub join: Join,
    pub kubernetes: Kubernetes,
    pub names: Names,
    pub limits: Limits,
    pub log: Log,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Service {
    pub namespace: String,
    pub name: String,
    /// Empty: `$POD_NAME`, else the host's name.
    pub pod: String,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Push {
    pub listen: SocketAddr,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    pub enabled: bool,
    pub listen: SocketAddr,
}

/// Figures for autoscalers. A cluster has one provider of each group.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hpa {
    /// `custom.metrics.k8s.io`
    pub custom_metrics: bool,
    /// `external.metrics.k8s.io`
    pub external_metrics: bool,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    pub listen: SocketAddr,
}

/// The service map, for a browser.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Map {
    pub enabled: bool,
    pub listen: SocketAddr,
    /// Whether others than `kubectl port-forward` may reach it: the map knows no user.
    pub proxy: bool,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Join {
    pub token: PathBuf,
    /// Name of the Secret that says which nodes have joined; empty: nodes join by the token alone.
    pub nodes: String,
    /// A node may tell of workloads that have, or had of late, a pod there.
    pub pods: bool,
    /// Of tokens of pods by which agents may join; empty: none may.
    pub audience: String,
    /// Of agents that run as pods, in `service.namespace`.
    pub service_account: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Where an API server is found.
    #[default]
    Auto,
    Off,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kubernetes {
    pub mode: Mode,
    pub kubeconfig: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Names {
    /// Watch pods, Services and what belongs to them, once for all agents.
    pub enabled: bool,
    /// Over all streams of agents.
    pub bytes_per_s: u64,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    pub agents: usize,
    pub connections: usize,
    pub names_bytes: usize,
    pub values_bytes: usize,
    /// From one push of an agent to the next, seconds.
    pub period_s: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    pub level: String,
    pub format: Format,
}

fn everywhere(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))
}

impl Default for Service {
    fn default() -> Service {
        Service { namespace: "pilotfish".to_owned(), name: "companion".to_owned(), pod: String::new() }
    }
}

impl Default for Push {
    fn default() -> Push {
        Push { listen: everywhere(10_251) }
    }
}

impl Default for Api {
    /// 10250: the port of pods that control planes of managed clusters reach.
    fn default() -> Api {
        Api { enabled: true, listen: everywhere(10_250) }
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics { listen: everywhere(9_465) }
    }
}

impl Default for Map {
    /// The pod's own loopback, where `kubectl port-forward` comes and other pods do not.
    fn default() -> Map {
        Map { enabled: true, listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8_080)), proxy: false }
    }
}

impl Default for Tls {
    fn default() -> Tls {
        let file = |name: &str| Path::new("/etc/pilotfish-companion/tls").join(name);
        Tls { certificate: file("tls.crt"), key: file("tls.key") }
    }
}

impl Default for Join {
    fn default() -> Join {
        Join {
            token: "/etc/pilotfish-companion/join/token".into(),
            nodes: "pilotfish-nodes".to_owned(),
            pods: true,
            audience: "pilotfish".to_owned(),
            service_account: "pilotfish-agent".to_owned(),
        }
    }
}

impl Default for Names {
    /// A quarter of a gigabit a second.
    fn default() -> Names {
        Names { enabled: true, bytes_per_s: 32 << 20 }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        let Bounds { period, agents, names, values, findings: _ } = Bounds::default();
        Limits { agents, connections: 10_000, names_bytes: names, values_bytes: values, period_s: period.as_secs() }
    }
}

impl Default for Log {
    fn default() -> Log {
        Log { level: "info".to_owned(), format: Format::Text }
    }
}

impl Config {
    /// # Errors
    /// The file cannot be read, or has faults: the message names the key or the line.
    pub fn read(path: &Path) -> Result<Config, Failure> {
        let shown = path.display();
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| Failure::of_system(&format!("read {shown}"), &error))?;
        Config::parse(&text).map_err(|fault| Failure::usage(format!("{shown}: {fault}")))
    }

    fn parse(text: &str) -> Result<Config, String> {
        let config: Config = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        let faults = config.faults();
        if faults.is_empty() { Ok(config) } else { Err(faults.join("; ")) }
    }

    fn faults(&self) -> Vec<String> {
        let Limits { agents, connections, names_bytes, values_bytes, period_s } = &self.limits;
        let within = |key: &str, value: u64, from: u64, to: u64| {
            (!(from..=to).contains(&value)).then(|| format!("limits.{key} = {value}: must be {from} to {to}"))
        };
        let mut faults: Vec<String> = [
            within("agents", *agents as u64, 1, 20_000),
            within("connections", *connections as u64, 1, 100_000),
            within("names_bytes", *names_bytes as u64, 1 << 20, 64 << 30),
            within("values_bytes", *values_bytes as u64, 1 << 20, 64 << 30),
            within("period_s", *period_s, 1, 300),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !(64 << 10..=16 << 30).contains(&self.names.bytes_per_s) {
            faults.push(format!("names.bytes_per_s = {}: must be 65536 to 17179869184", self.names.bytes_per_s));
        }
        if self.map.enabled && !self.map.proxy && !self.map.listen.ip().is_loopback() {
            let text = "is not the loopback: whoever reaches it sees all. map.proxy = true says that this is meant";
            faults.push(format!("map.listen = {}: {text}", self.map.listen));
        }
        let Hpa { custom_metrics, external_metrics } = self.hpa;
        if (custom_metrics || external_metrics)
            && !(self.api.enabled && self.names.enabled && self.kubernetes.mode == Mode::Auto)
        {
            faults.push("hpa: needs api.enabled, names.enabled and kubernetes.mode = \"auto\"".to_owned());
        }
        let is_name = |name: &str| {
            let is_inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            (1..=63).contains(&name.len()) && name.bytes().all(is_inside)
        };
        for (key, name) in [("namespace", &self.service.namespace), ("name", &self.service.name)] {
            if !is_name(name) {
                faults.push(format!("service.{key} = {name:?}: no name of a Kubernetes {key}"));
            }
        }
        if !self.join.nodes.is_empty() && !join::is_node_name(&self.join.nodes) {
            faults.push(format!("join.nodes = {:?}: no name of a Secret", self.join.nodes));
        }
        if !self.join.audience.is_empty() && !join::is_node_name(&self.join.service_account) {
            faults
                .push(format!("join.service_account = {:?}: no name of a service account", self.join.service_account));
        }
        if let Err(error) = EnvFilter::try_new(&self.log.level) {
            faults.push(format!("log.level = {:?}: {error}", self.log.level));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default_and_every_fault_is_named() {
        assert_eq!(Config::parse(""), Ok(Config::default()));
        let told = Config::parse(
            "[limits]\nagents = 0\nperiod_s = 1000\n[log]\nlevel = \"a=b=c\"\n[service]\nname = \"A\"\n[join]\nnodes = \"B b\"\nservice_account = \"\"",
        );
        let told = told.unwrap_err();
        for part in [
            "limits.agents = 0: must be 1 to 20000",
            "limits.period_s",
            "log.level",
            "service.name = \"A\"",
            "join.nodes = ",
            "join.service_account = ",
        ] {
            assert!(told.contains(part), "{part} in {told}");
        }
    }

    /// The lines below a key of a manifest that stand further in.
    fn block<'a>(manifest: &'a str, key: &str) -> Vec<&'a str> {
        let after = manifest.lines().skip_while(|line| line.trim() != key).skip(1);
        after.take_while(|line| line.starts_with("    ")).map(str::trim_start).collect()
    }

    #[test]
    fn the_manifest_that_is_shipped_fits_the_program() {
        let manifest = include_str!("../../../../packaging/kubernetes/companion/companion.yaml");
        let config = Config::parse(&block(manifest, "companion.toml: |").join("\n")).expect("a configuration");
        assert_eq!(config.log.format, Format::Json);
        let Config { push, api, metrics, tls, join, .. } = &config;
        for port in [push.listen.port(), api.listen.port(), metrics.listen.port()] {
            assert!(manifest.contains(&format!("containerPort: {port}\n")), "{port}");
            assert!(manifest.contains(&format!("- port: {port}\n")), "{port}");
        }
        // Port-forward asks the Service which port of the pod it is.
        assert!(manifest.contains(&format!("port: {0}\n      targetPort: {0}\n", config.map.listen.port())));
        assert!(config.map.listen.ip().is_loopback());
        for directory in [tls.certificate.parent(), tls.key.parent(), join.token.parent()].into_iter().flatten() {
            assert!(manifest.contains(&format!("mountPath: {}\n", directory.display())), "{directory:?}");
        }
        for secret in ["companion-tls", "pilotfish-join"] {
            assert!(manifest.contains(&format!("secretName: {secret}\n")), "{secret}");
        }
        let rights = include_str!("../../../../packaging/kubernetes/companion/rbac.yaml");
        assert!(manifest.contains(&format!("  name: {}\n", join.nodes)));
        assert!(rights.contains(&format!("resourceNames: [{}]\n", join.nodes)));
        let kustomization = include_str!("../../../../packaging/kubernetes/companion/kustomization.yaml");
        assert!(kustomization.contains(concat!("newTag: ", env!("CARGO_PKG_VERSION"), "\n")));
        let namespace = format!("namespace: {}\n", config.service.namespace);
        assert!(manifest.contains(&namespace) && manifest.contains(&format!("name: {}\n", config.service.name)));
    }

    #[test]
    fn the_map_is_for_others_only_where_that_is_meant() {
        let open = "[map]\nlisten = \"0.0.0.0:8080\"\n";
        assert!(Config::parse(open).unwrap_err().starts_with("map.listen = 0.0.0.0:8080: is not the loopback"));
        assert!(Config::parse(&format!("{open}proxy = true")).is_ok());
        assert!(Config::parse(&format!("{open}enabled = false")).is_ok());
        assert!(Config::parse("[map]\nlisten = \"[::1]:8080\"").is_ok());
    }

    #[test]
    fn the_manifest_with_figures_fits_too() {
        let manifest = include_str!("../../../../packaging/kubernetes/companion-hpa/config.yaml");
        let config = Config::parse(&block(manifest, "companion.toml: |").join("\n")).expect("a configuration");
        assert_eq!(config.hpa, Hpa { custom_metrics: true, external_metrics: true });
        let rights = include_str!("../../../../packaging/kubernetes/companion-hpa/rbac.yaml");
        for measure in companion::Measure::ALL.map(companion::Measure::name) {
            assert!(rights.contains(&format!("- \"*/{measure}\"\n")) && rights.contains(&format!("- {measure}\n")));
        }
    }

    #[test]
    fn figures_need_to_know_where_pods_run() {
        assert!(Config::parse("[hpa]\ncustom_metrics = true").is_ok_and(|config| !config.hpa.external_metrics));
        for without in ["[api]\nenabled = false", "[names]\nenabled = false", "[kubernetes]\nmode = \"off\""] {
            let told = Config::parse(&format!("[hpa]\nexternal_metrics = true\n{without}")).unwrap_err();
            assert!(told.starts_with("hpa: needs "), "{told}");
        }
    }

    #[test]
    fn what_is_no_key_or_no_value_is_named_with_its_line() {
        for (text, part) in [
            ("[push]\nlisten = \"here\"", "invalid socket address"),
            ("[push]\nlist = 1", "unknown field `list`"),
            ("[other]", "unknown field `other`"),
            ("[kubernetes]\nmode = \"on\"", "unknown variant `on`"),
        ] {
            let told = Config::parse(text).unwrap_err();
            assert!(told.contains(part) && told.contains("line "), "{part} in {told}");
        }
    }
}
