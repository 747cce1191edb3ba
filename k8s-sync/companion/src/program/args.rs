//! The command line.

use clap::{ArgGroup, Args as ClapArgs, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

const AFTER: &str = "Exit codes:
   0  done; told to stop by a signal
  64  a fault in flags or configuration, a file that cannot be read or is none, or an address that is taken
  70  a part of the companion ended; the last line of the log says which and why
  77  a file or an address that this user may not use";

/// Shows a cluster's traffic in one place: takes the series that agents push, and serves them to
/// Prometheus and, through the API server, to kubectl.
#[derive(Debug, Parser)]
#[command(name = "pilotfish-companion", version, after_help = AFTER)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serves until a signal comes.
    Serve {
        /// The configuration, TOML.
        #[arg(long, default_value = "/etc/pilotfish-companion/companion.toml")]
        config: PathBuf,
    },
    /// Prints the Secrets of a cluster, for `kubectl apply -f -`: a CA, the companion's certificate,
    /// the join token, and the join.toml that nodes get; and the ConfigMap by which agents join that are pods.
    /// Writes nothing and asks nobody.
    Secrets(SecretsArgs),
    /// Prints the APIService that leads kubectl, or the HPA's controller, to the companion, for
    /// `kubectl create -f -`.
    ApiService(ApiServiceArgs),
    /// Loads the companion's image, or the agent's, into this node's containerd, where its pods find it: nobody
    /// publishes it. To be done on each node that may run one.
    Load(LoadArgs),
    /// Ends the credential of a node, or makes one: who may push as it. Writes to the Secret of the nodes that
    /// have joined; to be run in a pod of the companion, or with a kubeconfig.
    Join(JoinArgs),
    /// What `kubectl pilotfish` shows: the script kubectl-pilotfish runs this. Asks with kubectl, by the
    /// user's own kubeconfig.
    Kubectl {
        #[command(subcommand)]
        command: KubectlCommand,
    },
    /// Prints name, type and labels of each metric that /metrics may show.
    Metrics,
}

#[derive(Debug, Subcommand)]
pub enum KubectlCommand {
    /// What each workload answered in the last minute: `kubectl get workloadtraffic`, with its flags.
    Stat {
        /// Flags of `kubectl get`, as -A, -n NAMESPACE, -w, -o wide.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        kubectl: Vec<String>,
    },
    /// Who asked whom, by protocol: `kubectl get edges`, with its flags.
    Edges {
        /// Flags of `kubectl get`, as -A, -n NAMESPACE, -w, -o wide.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        kubectl: Vec<String>,
    },
    /// What agents hold for wrong, the worst first: `kubectl get findings`, with its flags.
    Findings {
        /// Flags of `kubectl get`, as -A, -n NAMESPACE, -w, -o wide.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        kubectl: Vec<String>,
    },
    /// How the agent of each node stands: `kubectl get nodeagents`, with its flags.
    Agents {
        /// Flags of `kubectl get`, as -w, -o wide.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        kubectl: Vec<String>,
    },
    /// Whether the companion is reached and all nodes push; which do not, and why; and how much agents hold
    /// for wrong. Ends with 0 where all is
    /// well, 1 for warnings, 2 for errors, 3 where something could not be looked at.
    Check(CheckArgs),
}

#[derive(Debug, ClapArgs)]
pub struct CheckArgs {
    /// Of the companion's Service.
    #[arg(long, short, default_value = "pilotfish")]
    pub namespace: String,
    /// Name of the companion's Service.
    #[arg(long, default_value = "companion")]
    pub name: String,
    /// Of the kubeconfig.
    #[arg(long)]
    pub context: Option<String>,
    /// Instead of kubectl's usual one.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// Where the companion's Service is.
#[derive(Clone, Debug, ClapArgs)]
pub struct Service {
    /// Of the companion's Service.
    #[arg(long, default_value = "pilotfish")]
    pub namespace: String,
    /// Name of the companion's Service.
    #[arg(long, default_value = "companion")]
    pub name: String,
}

#[derive(Debug, ClapArgs)]
pub struct SecretsArgs {
    #[command(flatten)]
    pub service: Service,
    /// Where nodes reach it, as HOST:PORT: the Service's ClusterIP, as a rule. Nodes have no cluster DNS.
    #[arg(long)]
    pub address: String,
    /// Signs by this CA (PEM) instead of a new one: nodes that have joined go on.
    #[arg(long, requires = "ca_key")]
    pub ca: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(long, requires = "ca")]
    pub ca_key: Option<PathBuf>,
    /// Keeps this join token instead of a new one.
    #[arg(long)]
    pub token: Option<PathBuf>,
    /// Nodes trust these CAs (PEM), too: the one before, while its certificate may still be shown.
    #[arg(long, value_name = "CA")]
    pub trust: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
#[command(group = ArgGroup::new("what").required(true))]
pub struct JoinArgs {
    /// Ends the credential of this node: nobody joins by it again. The next agent that names the node and
    /// has the join token gets another one.
    #[arg(long, value_name = "NODE", group = "what")]
    pub reset: Option<String>,
    /// Makes a credential for this node and prints the join.toml with it, which needs no join token.
    #[arg(long, group = "what")]
    pub node: Option<String>,
    /// The cluster's join.toml, for the address and the CA of the one that is printed.
    #[arg(long, default_value = "/etc/pilotfish-companion/join/join.toml", value_name = "FILE")]
    pub ticket: PathBuf,
    /// Namespace of the companion.
    #[arg(long, default_value = "pilotfish")]
    pub namespace: String,
    /// Name of the Secret (join.nodes).
    #[arg(long, default_value = "pilotfish-nodes")]
    pub secret: String,
    /// Without it the usual places are looked at: $KUBECONFIG, a pod's service account, k3s.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub struct LoadArgs {
    /// The image, an OCI archive. The agent's is agent.tar beside the companion's.
    #[arg(default_value = "/usr/share/pilotfish-companion/image.tar")]
    pub archive: PathBuf,
    /// containerd's socket. Without it k3s's is taken, and where there is none the system's.
    #[arg(long, value_name = "SOCKET")]
    pub containerd: Option<PathBuf>,
    /// containerd's namespace: the kubelet's images are in this one.
    #[arg(long, default_value = "k8s.io")]
    pub namespace: String,
}

/// What an APIService leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// traffic.pilotfish.io, for kubectl
    #[default]
    Traffic,
    /// custom.metrics.k8s.io, for the HPA (hpa.custom_metrics)
    CustomMetrics,
    /// external.metrics.k8s.io, for the HPA (hpa.external_metrics)
    ExternalMetrics,
}

#[derive(Debug, ClapArgs)]
pub struct ApiServiceArgs {
    #[command(flatten)]
    pub service: Service,
    /// Port of the Service that leads to the aggregated API.
    #[arg(long, default_value_t = 443)]
    pub port: u16,
    /// The CA (PEM) that signed the companion's certificate: `tls.crt` of Secret companion-ca.
    #[arg(long)]
    pub ca: PathBuf,
    /// Which API it is.
    #[arg(long, value_enum, default_value_t)]
    pub group: Group,
    /// What `kubectl get apiservices -o json` prints; `-` is the standard input. Needed for the groups of
    /// the HPA, of which a cluster has one provider: nothing is printed where there is another.
    #[arg(long, required_if_eq_any([("group", "custom-metrics"), ("group", "external-metrics")]))]
    pub beside: Option<PathBuf>,
}
