//! Whose token a pod's is, as a real API server says, asked with the rights that the manifests give.

use crate::kubectl::Bed;
use anyhow::{Context, Result, ensure};
use companion::serve::Reviews;
use companion::{Ran, Wanted};
use join::{Reason, Refusal, Token};
use k8s_sync::access::{OwnAddresses, Sources};
use k8s_sync::watch::{ApiServer, Timing};
use parking_lot::Mutex;
use std::sync::Arc;
use testbed::until;

const RIGHTS: &str = include_str!("../../../../packaging/kubernetes/companion/rbac.yaml");
const POD: &str = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: pilotfish-agent, namespace: pilotfish}\n---\n\
                   apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: other, namespace: pilotfish}\n---\n\
                   apiVersion: v1\nkind: Node\nmetadata: {name: n1}\n---\n\
                   apiVersion: v1\nkind: Pod\nmetadata: {name: agent, namespace: pilotfish}\n\
                   spec: {serviceAccountName: pilotfish-agent, nodeName: n1, containers: [{name: a, image: none}]}\n---\n\
                   apiVersion: v1\nkind: Pod\nmetadata: {name: other, namespace: pilotfish}\n\
                   spec: {serviceAccountName: other, nodeName: n1, containers: [{name: a, image: none}]}\n";

fn token(bed: &Bed, account: &str, audience: &str, pod: Option<&str>) -> Result<Token> {
    let create = ["-n", "pilotfish", "create", "token", account, "--audience", audience];
    let bound = pod.map(|pod| ["--bound-object-kind", "Pod", "--bound-object-name", pod]);
    let arguments: Vec<&str> = create.into_iter().chain(bound.into_iter().flatten()).collect();
    Token::projected(&bed.kubectl(&arguments)?).context("no token")
}

pub fn say_whose_token_it_is(bed: &Bed) -> Result<()> {
    bed.apply(POD)?;
    bed.apply("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: companion, namespace: pilotfish}\n")?;
    // The companion's own, for the API server.
    let own = bed.dir.path().join("companion-token");
    std::fs::write(&own, bed.kubectl(&["-n", "pilotfish", "create", "token", "companion"])?)?;
    let kubeconfig = bed.plane.kubeconfig_with_token_file(&own, bed.plane.server())?;
    let agent = k8s_sync::watch::Agent {
        instance: "1".to_owned(),
        user_agent: "companion".to_owned(),
        own: OwnAddresses::new([]),
    };
    let sources = Sources::of_this_process(Some(kubeconfig));
    let server = Arc::new(ApiServer::new(sources, agent, Timing::default()));
    let wanted = |audience: &str| Wanted {
        audience: audience.to_owned(),
        namespace: "pilotfish".to_owned(),
        account: "pilotfish-agent".to_owned(),
    };
    let reviews = Reviews::new(wanted("pilotfish"), server.clone(), Arc::<Mutex<Ran>>::default());
    let of = |token: &Token| bed.runtime.block_on(reviews.of(token.clone())).map(|reviewed| reviewed.node);

    let good = token(bed, "pilotfish-agent", "pilotfish", Some("agent"))?;
    let Err(Refusal { reason: Reason::Busy, text }) = of(&good) else { anyhow::bail!("without any right") };
    ensure!(text.contains("may not create tokenreviews"), "{text}");
    bed.apply(RIGHTS)?;
    let mut told = of(&good);
    until("it may ask", std::time::Duration::from_secs(30), || {
        told = of(&good);
        told.is_ok()
    })
    .with_context(|| format!("{told:?}"))?;
    ensure!(told.as_deref() == Ok("n1"), "{told:?}");

    let forged = good.secret().rsplit_once('.').and_then(|(claims, _)| Token::projected(&format!("{claims}.c2lnbmF0")));
    let refused = [
        (forged.context("a token")?, "the API server does not take the token"),
        (token(bed, "other", "pilotfish", Some("other"))?, "and agents are \"system:serviceaccount:pilotfish:"),
        (token(bed, "pilotfish-agent", "another", Some("agent"))?, "not for the audience \"pilotfish\""),
        (token(bed, "pilotfish-agent", "pilotfish", None)?, "of no pod"),
    ];
    for (token, words) in refused {
        let told = of(&token);
        let is_so = told.as_ref().is_err_and(|told| told.reason == Reason::Token && told.text.contains(words));
        ensure!(is_so, "{words}: {told:?}");
    }
    // One that is for the audience, and that the API server does not take for it.
    let other = Reviews::new(wanted("another"), server, Arc::<Mutex<Ran>>::default());
    let told = bed.runtime.block_on(other.of(good.clone()));
    ensure!(told.is_err_and(|told| told.text.contains("audience")), "an audience of somebody else");
    // Its pod is gone.
    bed.kubectl(&["-n", "pilotfish", "delete", "pod", "agent", "--force", "--grace-period=0"])?;
    let mut told = of(&good);
    until("it is no token any more", std::time::Duration::from_secs(30), || {
        told = of(&good);
        told.is_err()
    })?;
    ensure!(told.as_ref().is_err_and(|told| told.reason == Reason::Token), "{told:?}");
    Ok(())
}
