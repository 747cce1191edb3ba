//! Where the API server is: by the agent's names, and by the files that say how to reach it.

use crate::exit::in_full;
use crate::run::timeline::is_api_server;
use agent_api::{Client, Identity, Kubernetes};
use doctor::KnowsApiServer;
use flow_model::Endpoint;
use k8s_sync::access::{Sources, find};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Of https.
const PORT: u16 = 443;

/// By an agent that answers and has a cluster.
pub fn by_agent(client: &Client, kubernetes: &Kubernetes) -> Result<KnowsApiServer, String> {
    if matches!(kubernetes.link.as_str(), "" | "off" | "none") {
        return Err("the agent knows of no cluster, and so of no API server".to_owned());
    }
    let (client, own) = (client.clone(), endpoint(&kubernetes.server));
    Ok(KnowsApiServer::by(move |end| {
        if own == Some(end) {
            return Ok(true);
        }
        let Identity { service, shown, .. } = client.identity(end.ip, Some(end.port)).map_err(in_full)?;
        Ok(is_api_server(&service, &shown.namespace))
    }))
}

/// Without an agent: the one that the agent would ask, by its address. Its Service's is not known then.
pub fn by_files(kubeconfig: Option<PathBuf>) -> Result<KnowsApiServer, String> {
    let url = find(&Sources::of_this_process(kubeconfig)).map_err(in_full)?.url();
    let named = || format!("no agent answers, and {url} has a name where its address would tell");
    let own = endpoint(&url).ok_or_else(named)?;
    Ok(KnowsApiServer::by(move |end| Ok(own == end)))
}

/// None where the URL has a name: nothing is looked up.
fn endpoint(url: &str) -> Option<Endpoint> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next()?;
    if let Ok(address) = authority.parse::<SocketAddr>() {
        return Some(Endpoint { ip: address.ip().to_canonical(), port: address.port() });
    }
    let ip = authority.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok()?;
    Some(Endpoint { ip: ip.to_canonical(), port: PORT })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_url_with_an_address_says_where_and_one_with_a_name_does_not() {
        let told = |url| endpoint(url).map(|Endpoint { ip, port }| SocketAddr::new(ip, port).to_string());
        for (url, expected) in [
            ("https://10.0.0.1:6443/", Some("10.0.0.1:6443")),
            ("https://10.96.0.1", Some("10.96.0.1:443")),
            ("https://[fd00::1]:6443", Some("[fd00::1]:6443")),
            ("https://[fd00::1]/", Some("[fd00::1]:443")),
            ("https://api.example.com:6443/", None),
            ("", None),
        ] {
            assert_eq!(told(url).as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn an_agent_without_a_cluster_and_files_that_are_not_there_say_why() {
        let nobody = Client::new("/nonexistent");
        assert!(by_agent(&nobody, &Kubernetes { link: "off".into(), ..Kubernetes::default() }).is_err());
        assert!(by_agent(&nobody, &Kubernetes { link: "connected".into(), ..Kubernetes::default() }).is_ok());
        let reason = by_files(Some("/nonexistent/kubeconfig".into())).err().unwrap_or_default();
        assert!(reason.contains("/nonexistent/kubeconfig"), "{reason}");
    }
}
