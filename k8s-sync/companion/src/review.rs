//! Who shows a token of a service account: what is asked of the API server about it (a TokenReview), and
//! what its answer says. The answer counts; what the token says of itself only keeps out those for whom
//! nobody need be asked.

use crate::ran::Ran;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use join::{Reason, Refusal, Token};
use k8s_sync::cluster::object::Uid;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// Of what somebody else wrote, in a refusal.
const SHOWN: usize = 200;
/// Clocks of two machines.
const SKEW: Duration = Duration::from_secs(60);

const NODE: &str = "authentication.kubernetes.io/node-name";
const POD: &str = "authentication.kubernetes.io/pod-uid";

/// Whose tokens are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// That the token is for.
    pub audience: String,
    /// Of the service account.
    pub namespace: String,
    /// The service account of agents.
    pub account: String,
}

/// The pod that a token is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Its uid.
    pub pod: Uid,
    /// Its node, where the API server says it (Kubernetes 1.30).
    pub node: Option<String>,
}

impl Wanted {
    fn user(&self) -> String {
        let Wanted { namespace, account, .. } = self;
        format!("system:serviceaccount:{namespace}:{account}")
    }

    /// The pod that the token says it is of, unless it says that it is none of those that are taken.
    /// Nothing of it is true until the API server says so.
    ///
    /// # Errors
    /// It need not be asked about.
    pub fn says(&self, token: &Token, now: SystemTime) -> Result<Uid, Refusal> {
        let payload = token.secret().split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let claims: Option<Value> = payload.and_then(|payload| serde_json::from_slice(&payload).ok());
        let claims = claims.ok_or_else(|| refused("the token is none of a service account"))?;
        let is_for = match &claims["aud"] {
            Value::String(audience) => *audience == self.audience,
            Value::Array(audiences) => audiences.iter().any(|audience| *audience == *self.audience),
            _ => false,
        };
        if !is_for {
            return Err(self.other_audience());
        }
        let user = claims["sub"].as_str().unwrap_or_default();
        if user != self.user() {
            return Err(self.other_account(user));
        }
        let until = claims["exp"].as_u64().map(Duration::from_secs);
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if until.is_some_and(|until| until + SKEW < now) {
            return Err(refused("the token has expired: the kubelet writes a new one into the agent's pod in time"));
        }
        claims["kubernetes.io"]["pod"]["uid"].as_str().and_then(Uid::parse).ok_or_else(of_no_pod)
    }

    /// The TokenReview that asks.
    #[must_use]
    pub fn question(&self, token: &Token) -> Value {
        json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": { "token": token.secret(), "audiences": [self.audience] },
        })
    }

    /// What the API server answered.
    ///
    /// # Errors
    /// It does not take the token, or it is of somebody else, or of no pod.
    pub fn answer(&self, review: &Value) -> Result<Bound, Refusal> {
        let status = &review["status"];
        if status["authenticated"] != true {
            let why = shown(status["error"].as_str().unwrap_or("it has expired, or its pod is gone"));
            return Err(refused(format!("the API server does not take the token: {why}")));
        }
        // An authenticator that knows no audiences says none: then the token may be for anybody.
        let mut audiences = status["audiences"].as_array().into_iter().flatten();
        if !audiences.any(|audience| *audience == *self.audience) {
            return Err(self.other_audience());
        }
        let user = status["user"]["username"].as_str().unwrap_or_default();
        if user != self.user() {
            return Err(self.other_account(user));
        }
        let extra = |name: &str| status["user"]["extra"][name][0].as_str();
        let pod = extra(POD).and_then(Uid::parse).ok_or_else(of_no_pod)?;
        Ok(Bound { pod, node: extra(NODE).filter(|node| join::is_node_name(node)).map(str::to_owned) })
    }

    fn other_audience(&self) -> Refusal {
        refused(format!("the token is not for the audience \"{}\": look at the pod's projected volume", self.audience))
    }

    fn other_account(&self, user: &str) -> Refusal {
        refused(format!("the token is of \"{}\", and agents are \"{}\"", shown(user), self.user()))
    }
}

impl Bound {
    /// The node of the pod.
    ///
    /// # Errors
    /// Nobody knows it yet.
    pub fn node(&self, ran: &Ran) -> Result<String, Refusal> {
        let known = self.node.clone().or_else(|| ran.node(self.pod).map(str::to_owned));
        known.ok_or_else(|| {
            Refusal::new(Reason::Busy, "the companion has not heard yet on which node the agent's pod is")
        })
    }
}

fn refused(text: impl Into<String>) -> Refusal {
    Refusal::new(Reason::Token, text)
}

fn of_no_pod() -> Refusal {
    refused("the token is of no pod: it must be of a projected volume")
}

/// What somebody else wrote, for a log.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POD_UID: &str = "0b6e3a1e-5f0c-4f6e-9d2a-3c1b5a7d9e10";

    fn wanted() -> Wanted {
        Wanted { audience: "pilotfish".into(), namespace: "pilotfish".into(), account: "pilotfish-agent".into() }
    }

    fn token(claims: &Value) -> Token {
        Token::projected(&format!("eyJhbGciOiJSUzI1NiJ9.{}.c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode(claims.to_string())))
            .unwrap()
    }

    fn claims() -> Value {
        json!({
            "aud": ["pilotfish"], "exp": 2_000, "sub": "system:serviceaccount:pilotfish:pilotfish-agent",
            "kubernetes.io": { "pod": { "name": "agent-x", "uid": POD_UID } },
        })
    }

    fn review() -> Value {
        json!({ "status": {
            "authenticated": true, "audiences": ["pilotfish"],
            "user": {
                "username": "system:serviceaccount:pilotfish:pilotfish-agent",
                "extra": { POD: [POD_UID], NODE: ["n1"] },
            },
        } })
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn nobody_is_asked_about_a_token_that_says_it_is_anothers() {
        let says = |claims: &Value| wanted().says(&token(claims), at(1_000));
        assert_eq!(says(&claims()), Ok(Uid::parse(POD_UID).unwrap()));
        let mut one = claims();
        one["aud"] = "pilotfish".into();
        assert!(says(&one).is_ok());
        let with = |key: &str, value: Value| {
            let mut claims = claims();
            claims[key] = value;
            says(&claims).unwrap_err().text
        };
        assert!(with("aud", json!(["https://kubernetes.default.svc"])).contains("not for the audience \"pilotfish\""));
        assert!(with("aud", json!({ "pilotfish": true })).contains("not for the audience"));
        let other = with("sub", json!("system:serviceaccount:shop:default\u{1b}[2J"));
        assert!(
            other.contains("of \"system:serviceaccount:shop:default[2J\", and agents are \"system:serviceaccount:")
        );
        assert!(with("exp", json!(900)).contains("has expired"));
        assert!(wanted().says(&token(&claims()), at(2_060)).is_ok(), "clocks differ");
        assert!(with("kubernetes.io", json!({})).contains("of no pod"));
        let odd = Token::projected("eyJhbGciOiJSUzI1NiJ9.bm90LWpzb24.c2lnbmF0dXJl").unwrap();
        assert!(wanted().says(&odd, at(0)).unwrap_err().text.contains("none of a service account"));
    }

    #[test]
    fn the_answer_says_whose_pod_it_is_and_nothing_less_will_do() {
        let bound = wanted().answer(&review()).unwrap();
        assert_eq!((bound.pod, bound.node.as_deref()), (Uid::parse(POD_UID).unwrap(), Some("n1")));
        let with = |path: &str, value: Value| {
            let mut review = review();
            *review.pointer_mut(path).unwrap() = value;
            wanted().answer(&review)
        };
        let text = |path, value| with(path, value).unwrap_err().text;
        assert!(text("/status/authenticated", json!("true")).contains("does not take the token"));
        assert!(text("/status/authenticated", Value::Null).contains("does not take the token"));
        assert!(text("/status/audiences", json!([])).contains("audience"));
        assert!(text("/status/audiences", Value::Null).contains("audience"));
        assert!(text("/status/user/username", json!("system:admin")).contains("of \"system:admin\""));
        assert!(text("/status/user/extra", json!({})).contains("of no pod"));
        // An API server of a version before says no node, and one that says nonsense neither.
        for node in [json!([]), json!(["N 1"]), Value::Null] {
            let bound = with("/status/user/extra/authentication.kubernetes.io~1node-name", node).unwrap();
            assert_eq!(bound.node, None);
        }
        let error = json!({ "status": { "error": "token lookup failed\u{7}" } });
        assert!(wanted().answer(&error).unwrap_err().text.ends_with("token: token lookup failed"));
        for nothing in [Value::Null, json!({}), json!([]), json!({ "status": [] })] {
            assert_eq!(wanted().answer(&nothing).unwrap_err().reason, Reason::Token);
        }
    }

    #[test]
    fn a_node_that_the_answer_does_not_say_is_the_pods() {
        use k8s_sync::cluster::object::{Object, Pod};
        let pod = Uid::parse(POD_UID).unwrap();
        let mut ran = Ran::default();
        let bound = Bound { pod, node: None };
        assert_eq!(bound.node(&ran).unwrap_err().reason, Reason::Busy);
        ran.put(&Object::Pod(Pod { uid: pod, node: Some("n2".into()), ..Pod::default() }));
        assert_eq!(bound.node(&ran), Ok("n2".to_owned()));
        assert_eq!(Bound { node: Some("n1".into()), ..bound }.node(&ran), Ok("n1".to_owned()));
    }

    proptest! {
        /// Whatever is shown, the question is asked or it is said why not.
        #[test]
        fn any_token_is_read(payload in proptest::collection::vec(any::<u8>(), 1..300), now in 0..u64::from(u32::MAX)) {
            let text = format!("eyJhbGciOiJSUzI1NiJ9.{}.c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode(payload));
            let token = Token::projected(&text).unwrap();
            prop_assert!(wanted().says(&token, at(now)).is_err());
        }
    }
}
