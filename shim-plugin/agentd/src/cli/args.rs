//! The command line as people type it.

use crate::config::{Flags, Given};
use crate::exit::Exit;
use crate::findings;
use crate::replay::ReplayArgs;
use agent_api::Party;
use clap::{Args, Parser, Subcommand, ValueEnum};
use doctor::CheckId;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Parser)]
#[command(
    name = "pilotfish",
    version,
    about = "Golden metrics of every container on this node, without sidecars",
    after_long_help = Exit::table(),
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that mean the same for every command.
#[derive(Clone, Debug, Default, Args)]
pub struct Common {
    /// Configuration file [default: /etc/pilotfish/agent.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE", env = "PILOTFISH_CONFIG", hide_env = true)]
    pub config: Option<PathBuf>,
    /// error, warn, info, debug, trace, or a filter like info,capture_engine=debug
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// auto, text, json or journald
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// The agent's unix socket
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent: attach to every container of this node and count its traffic
    #[command(after_long_help = Exit::table())]
    Agent {
        #[command(flatten)]
        flags: AgentFlags,
        /// Print name, type and labels of each metric that /metrics may show, and end
        #[arg(long)]
        print_metrics: bool,
    },
    /// Say whether the agent can run on this machine, what falls back, and what to do
    Check {
        #[command(flatten)]
        agent: AgentFlags,
        #[arg(short, long, value_enum, default_value = "table")]
        output: Output,
    },
    /// What the agent is attached to, what it lost, what it costs
    Status {
        #[arg(short, long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Golden metrics of each workload as a server
    Stat(StatArgs),
    /// Who calls whom, and how it goes
    Edges(Rows),
    /// Who has an address, and since when: by Kubernetes, by containerd, by DNS
    #[command(after_long_help = Exit::table())]
    Identity {
        // Not a doc comment: rustdoc would read the brackets as a link.
        #[arg(help = "10.0.0.1, 10.0.0.1:80, fd00::1 or [fd00::1]:80")]
        address: String,
        #[arg(short, long, value_enum, default_value = "table")]
        output: Output,
    },
    /// What is wrong on this node, whose it is, and what to do about it
    #[command(after_long_help = Exit::table())]
    Doctor(DoctorArgs),
    /// When containers of this node began and ended, and which requests each end cut
    #[command(after_long_help = Exit::table())]
    Timeline(TimelineArgs),
    /// Exchanges as they end: who asked whom for what, how it ended, how long it took
    #[command(after_long_help = Exit::table())]
    Tap(TapArgs),
    /// The busiest, slowest or failing operations, live
    #[command(after_long_help = Exit::table())]
    Top(TopArgs),
    /// Everything that a report of a fault needs, in one file: no packets, no secrets
    #[command(after_long_help = Exit::table())]
    Report(ReportArgs),
    /// Read a capture file as if its traffic were live: exchanges, flows, golden metrics
    #[command(after_long_help = Exit::table())]
    Replay(ReplayArgs),
    /// The configuration
    Config {
        /// Print a documented file with every key at its default
        #[arg(long)]
        print_default: bool,
    },
    /// Versions of this program and, where it runs, of the agent
    Version {
        #[arg(short, long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Print a completion script for a shell
    Completions { shell: clap_complete::Shell },
    /// Read files for the agent that started this and asks on standard input
    #[command(hide = true)]
    ReadFiles,
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Man { directory: PathBuf },
}

/// Keys of the configuration that have a flag.
#[derive(Clone, Debug, Default, Args)]
pub struct AgentFlags {
    /// Address of /metrics, /livez and /readyz
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// containerd's socket; may be repeated
    #[arg(long, value_name = "PATH")]
    pub containerd_socket: Vec<String>,
    /// auto, tcx or clsact
    #[arg(long, value_name = "MODE")]
    pub attach_mode: Option<String>,
    /// auto, on or off
    #[arg(long, value_name = "MODE")]
    pub kubernetes_mode: Option<String>,
    /// How to reach the Kubernetes API
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct Rows {
    /// Only workloads (for edges: either end) of this namespace
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: WideOutput,
    /// Show it again every two seconds until interrupted
    #[arg(short, long)]
    pub watch: bool,
}

impl Rows {
    /// Whether a workload is of the namespace that is asked for.
    pub fn has(&self, workload: &Party) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| workload.namespace == *namespace)
    }
}

#[derive(Clone, Debug, Args)]
pub struct StatArgs {
    #[command(flatten)]
    pub rows: Rows,
    /// Each workload part by part: route (of HTTP), operation (what was asked for) or status
    #[arg(long, value_enum)]
    pub by: Option<StatBy>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatBy {
    Route,
    Operation,
    Status,
}

#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// Only workloads of this namespace (needs an agent that answers)
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Only this check
    #[arg(long, value_name = "ID", value_parser = check_id)]
    pub id: Option<CheckId>,
    /// How far back what happened is news
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time)]
    pub since: Duration,
    /// Say what a check looks at, from where it is a finding, and what to do; looks at nothing
    #[arg(long, value_name = "ID", value_parser = check_id)]
    pub explain: Option<CheckId>,
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Output,
}

#[derive(Clone, Debug, Args)]
pub struct TimelineArgs {
    /// Only this one: api, shop/api, or the name of a pod
    #[arg(value_name = "WORKLOAD")]
    pub workload: Option<String>,
    /// Only workloads of this namespace
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// How far back
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time)]
    pub since: Duration,
    /// Go on telling what happens until interrupted; with `-o json` an object a line
    #[arg(short, long)]
    pub follow: bool,
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Output,
}

/// Which exchanges; the agent filters.
#[derive(Clone, Debug, Default, Args)]
pub struct Wanted {
    /// Only those of this workload, at either end: api, or shop/api
    #[arg(value_name = "WORKLOAD")]
    pub workload: Option<String>,
    /// Only those of workloads of this namespace, at either end
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Only of these protocols: http1, http2, grpc, dns, kafka, mysql, postgresql, redis, tls,
    /// websocket, or of a family (http, db); several with commas
    #[arg(long, value_name = "PROTOCOL")]
    pub protocol: Option<String>,
    /// Only those that ended so: 5xx, 503, NXDOMAIN, UNAVAILABLE, ok, unanswered, or failed
    #[arg(long, value_name = "STATUS")]
    pub status: Option<String>,
    /// Only those that took at least so long
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub slow: Option<Duration>,
    /// Only as seen from there: client or server. Between two pods of the node each exchange is seen by both
    #[arg(long, value_name = "REPORTER")]
    pub reporter: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct TapArgs {
    #[command(flatten)]
    pub wanted: Wanted,
    /// End after so many
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// With `json` an object a line
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Output,
}

#[derive(Clone, Debug, Args)]
pub struct TopArgs {
    #[command(flatten)]
    pub wanted: Wanted,
    /// Which operations come first
    #[arg(long, value_enum, default_value = "busiest")]
    pub sort: Sort,
    /// How many operations are shown [default: what the terminal has room for, else 20]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub rows: Option<u16>,
    /// Between two pictures
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = time)]
    pub every: Duration,
    /// End after so many pictures
    #[arg(long, value_name = "N")]
    pub times: Option<u64>,
    /// With `json` an object a line, of one picture
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// Most exchanges
    Busiest,
    /// The slowest single exchange
    Slowest,
    /// Most exchanges that failed
    Failing,
}

impl Wanted {
    /// As parameters of the agent's answer.
    #[must_use]
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let Wanted { workload, namespace, protocol, status, slow, reporter } = self;
        let slow = slow.map(|slow| slow.as_nanos().to_string());
        let all = [
            ("workload", workload.clone()),
            ("namespace", namespace.clone()),
            ("protocol", protocol.clone()),
            ("status", status.clone()),
            ("slow_ns", slow),
            ("reporter", reporter.clone()),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

#[derive(Clone, Debug, Args)]
pub struct ReportArgs {
    /// Where to write it, a file that is not there yet; - for standard output [default:
    /// pilotfish-report-TIME.tar.gz]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Replace names of workloads, namespaces, pods and nodes, addresses, hosts and ids: each by the
    /// same mask everywhere
    #[arg(long)]
    pub mask: bool,
}

#[cfg(test)]
impl Default for TimelineArgs {
    fn default() -> TimelineArgs {
        let since = Duration::from_secs(600);
        TimelineArgs { workload: None, namespace: None, since, follow: false, output: Output::Table }
    }
}

fn check_id(text: &str) -> Result<CheckId, String> {
    // One of them is made in both ways.
    let of_history = || findings::MADE.into_iter().filter(|id| !id.is_on_demand());
    let all = || CheckId::on_demand().chain(of_history());
    let known = || all().map(CheckId::as_str).collect::<Vec<_>>().join(", ");
    let made = |id: &CheckId| all().any(|made| made == *id);
    let found = text.parse().ok().filter(made);
    found.ok_or_else(|| format!("no check is called {text:?}; there are {}", known()))
}

fn time(text: &str) -> Result<Duration, String> {
    Given::Text(text).duration(Duration::ZERO, Duration::from_secs(365 * 86_400))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WideOutput {
    Table,
    /// More columns
    Wide,
    Json,
}

impl Common {
    /// What was given, as keys of the configuration.
    #[must_use]
    pub fn flags(&self, agent: &AgentFlags) -> Flags {
        let mut flags: Flags = Vec::new();
        let mut add = |flag, key, text: Option<&String>| flags.extend(text.map(|text| (flag, key, text.clone())));
        add("--log-level", "log.level", self.log_level.as_ref());
        add("--log-format", "log.format", self.log_format.as_ref());
        add("--socket", "admin.socket", self.socket.as_ref());
        add("--listen", "admin.listen", agent.listen.as_ref());
        add("--attach-mode", "attach.mode", agent.attach_mode.as_ref());
        add("--kubernetes-mode", "kubernetes.mode", agent.kubernetes_mode.as_ref());
        add("--kubeconfig", "kubernetes.kubeconfig", agent.kubeconfig.as_ref());
        let sockets = agent.containerd_socket.join(",");
        add("--containerd-socket", "containerd.sockets", Some(&sockets).filter(|text| !text.is_empty()));
        flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_word_that_is_no_check_is_refused_with_those_that_are() {
        let refused = check_id("dns").expect_err("no such check");
        assert!(refused.contains("listen-overflow, udp-drop"), "{refused}");
        assert!(CheckId::ALL.iter().all(|id| check_id(id.as_str()) == Ok(*id)), "each of them is made");
        assert_eq!(time("10m"), Ok(Duration::from_secs(600)));
        assert!(time("ten").is_err());
    }

    #[test]
    fn every_flag_is_a_key() {
        let all = Common {
            config: None,
            log_level: Some("x".into()),
            log_format: Some("x".into()),
            socket: Some("x".into()),
        };
        let agent = AgentFlags {
            listen: Some("x".into()),
            containerd_socket: vec!["/a".into(), "/b".into()],
            attach_mode: Some("x".into()),
            kubernetes_mode: Some("x".into()),
            kubeconfig: Some("x".into()),
        };
        for (flag, key, _) in all.flags(&agent) {
            assert!(crate::config::KEYS.iter().any(|known| known.dotted() == key), "{flag}");
        }
    }
}
