//! `kubectl pilotfish`: what kubectl shows of the traffic of a cluster, and whether all nodes tell of it.
//! Everything is asked by kubectl itself, with the user's own kubeconfig and rights; kubectl finds the
//! script `kubectl-pilotfish` in the PATH, and that runs this.

mod found;
mod report;

use super::args::{CheckArgs, KubectlCommand};
use super::exit::Failure;
use found::Found;
use report::Report;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// kubectl, where the PATH has it.
const KUBECTL: &str = "kubectl";

/// # Errors
/// kubectl is not there, or what it says makes no sense.
pub fn kubectl(command: &KubectlCommand) -> Result<(String, u8), Failure> {
    match command {
        KubectlCommand::Stat { kubectl } => instead(&["get", "workloadtraffic.traffic.pilotfish.io"], kubectl),
        KubectlCommand::Edges { kubectl } => instead(&["get", "edges.traffic.pilotfish.io"], kubectl),
        KubectlCommand::Findings { kubectl } => instead(&["get", "findings.traffic.pilotfish.io"], kubectl),
        KubectlCommand::Agents { kubectl } => instead(&["get", "nodeagents.traffic.pilotfish.io"], kubectl),
        KubectlCommand::Check(args) => check(args),
    }
}

/// Goes on as kubectl: tables, `-w` and signals are its own.
fn instead(command: &[&str], more: &[String]) -> Result<(String, u8), Failure> {
    let error = Command::new(KUBECTL).args(command).args(more).exec();
    Err(missing(&error))
}

fn missing(error: &std::io::Error) -> Failure {
    Failure::of_system("run kubectl", error)
}

fn check(args: &CheckArgs) -> Result<(String, u8), Failure> {
    let CheckArgs { namespace, name, context, kubeconfig, json } = args;
    let ask = |what: &[&str]| -> Result<Found, Failure> {
        let mut command = Command::new(KUBECTL);
        if let Some(context) = context {
            command.arg("--context").arg(context);
        }
        if let Some(kubeconfig) = kubeconfig {
            command.arg("--kubeconfig").arg(kubeconfig);
        }
        let output = command.args(["get", "-o", "json", "--request-timeout=20s"]).args(what).output();
        let output = output.map_err(|error| missing(&error))?;
        Ok(Found::of(output.status.success(), &output.stdout, &output.stderr))
    };
    let service = ask(&["apiservice.apiregistration.k8s.io", "v1alpha1.traffic.pilotfish.io"])?;
    let slices = format!("kubernetes.io/service-name={name}");
    let slices = ask(&["endpointslices.discovery.k8s.io", "-n", namespace, "-l", &slices])?;
    let agents = ask(&["nodeagents.traffic.pilotfish.io"])?;
    let findings = ask(&["findings.traffic.pilotfish.io", "-A"])?;
    let report = Report::of(&service, &slices, &agents, env!("CARGO_PKG_VERSION")).with_findings(&findings);
    let text = if *json { report.json() } else { report.page() };
    Ok((text, report.code()))
}
