//! Whether the Kubernetes API is found, answers, and lets the agent read what it needs. The agent
//! runs without it; some names are then missing.

use super::line::Line;
use super::line::Verdict::{FallsBack, Ok as Fine, Waits};
use crate::config::{Config, KubernetesMode};
use crate::run::settings::{self, Who};
use k8s_sync::watch::{AccessCheck, ReadAnswer, check_access};

const WHAT: &str = "Kubernetes API";
const RIGHTS: &str = "give its account what packaging/kubernetes/agent-rbac.yaml says (list and watch)";

pub fn line(config: &Config) -> Line {
    if config.kubernetes.mode == KubernetesMode::Off {
        return Line::new(WHAT, Fine, "not asked: kubernetes.mode is off", "");
    }
    // The admin address is not bound; a request that led to it would find nobody, and that is found out here.
    let who = Who { instance: "check".to_owned(), listening: config.admin.listen, state: None };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Line::new(WHAT, Waits, format!("not asked: {error}"), ""),
    };
    let found = runtime.block_on(check_access(&settings::watches(&config.kubernetes, &who)));
    runtime.shutdown_background();
    match found {
        Ok(found) => told(&found),
        Err(error) if error.is_normal() && config.kubernetes.mode == KubernetesMode::Auto => {
            Line::new(WHAT, Fine, format!("{error}; names come from containerd"), "")
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            Line::new(WHAT, Waits, format!("{error}{cause}"), "name a kubeconfig in kubernetes.kubeconfig")
        }
    }
}

fn told(found: &AccessCheck) -> Line {
    let AccessCheck { place, url, is_unverified, answers } = found;
    let server = format!("{url} (from {place})");
    let silent = answers.iter().find_map(|(_, answer)| match answer {
        ReadAnswer::NoAnswer(why) => Some(why),
        ReadAnswer::Allowed | ReadAnswer::Refused(_) => None,
    });
    if let Some(why) = silent {
        let remedy = "start it, or correct what says where it is; the agent keeps trying";
        return Line::new(WHAT, Waits, format!("{server} does not answer: {why}"), remedy);
    }
    let refused: Vec<String> = answers
        .iter()
        .filter_map(|(resource, answer)| match answer {
            ReadAnswer::Refused(why) => Some(format!("{}: {why}", resource.as_str())),
            ReadAnswer::Allowed | ReadAnswer::NoAnswer(_) => None,
        })
        .collect();
    if !refused.is_empty() {
        return Line::new(WHAT, FallsBack, format!("{server} refuses {}", refused.join("; ")), RIGHTS);
    }
    let unverified = if *is_unverified { "; its certificate is not verified" } else { "" };
    let resources: Vec<&str> = answers.iter().map(|(resource, _)| resource.as_str()).collect();
    Line::new(WHAT, Fine, format!("{server} lets us read {}{unverified}", resources.join(", ")), "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::line::Verdict;
    use k8s_sync::cluster::object::Resource;

    fn check(answers: Vec<(Resource, ReadAnswer)>, verdict: Verdict, found: &str) {
        let check =
            AccessCheck { place: "$KUBECONFIG".into(), url: "https://k/".into(), is_unverified: false, answers };
        let line = told(&check);
        assert_eq!((line.verdict, line.found.as_str()), (verdict, found));
    }

    #[test]
    fn what_is_refused_is_named_and_silence_is_no_refusal() {
        let all = Resource::ALL.map(|resource| (resource, ReadAnswer::Allowed)).to_vec();
        check(
            all.clone(),
            Verdict::Ok,
            "https://k/ (from $KUBECONFIG) lets us read pods, services, endpointslices, nodes, jobs",
        );
        let mut without = all;
        without[4].1 = ReadAnswer::Refused("answered 403: no".into());
        check(without, Verdict::FallsBack, "https://k/ (from $KUBECONFIG) refuses jobs: answered 403: no");
        check(
            vec![(Resource::Pods, ReadAnswer::NoAnswer("connection refused".into()))],
            Verdict::Waits,
            "https://k/ (from $KUBECONFIG) does not answer: connection refused",
        );
    }
}
