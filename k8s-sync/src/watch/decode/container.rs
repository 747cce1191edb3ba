//! A container as a pod's spec has it: the fields of which something is made.

use serde::Deserialize;
use std::borrow::Cow;

pub(super) type Text<'a> = Option<Cow<'a, str>>;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerJson<'a> {
    #[serde(borrow, default)]
    pub name: Text<'a>,
    #[serde(borrow, default)]
    pub ports: Option<Vec<ContainerPort<'a>>>,
    #[serde(borrow, default)]
    pub readiness_probe: Option<ProbeJson<'a>>,
    #[serde(borrow, default)]
    pub liveness_probe: Option<ProbeJson<'a>>,
    #[serde(borrow, default)]
    pub startup_probe: Option<ProbeJson<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerPort<'a> {
    #[serde(borrow, default)]
    pub name: Text<'a>,
    #[serde(default)]
    pub container_port: Option<i64>,
}

/// `v1` Probe, the part that says what is asked for and for how long.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbeJson<'a> {
    #[serde(borrow, default)]
    pub http_get: Option<HttpGet<'a>>,
    #[serde(default)]
    pub timeout_seconds: Option<i64>,
    #[serde(default)]
    pub failure_threshold: Option<i64>,
    #[serde(default)]
    pub termination_grace_period_seconds: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub struct HttpGet<'a> {
    #[serde(borrow, default)]
    pub path: Text<'a>,
    #[serde(borrow, default)]
    pub port: Option<PortJson<'a>>,
    #[serde(borrow, default)]
    pub host: Text<'a>,
    #[serde(borrow, default)]
    pub scheme: Text<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum PortJson<'a> {
    Number(i64),
    #[serde(borrow)]
    Name(Cow<'a, str>),
}

pub(super) fn port(number: i64) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port != 0)
}
