//! The cluster's etcd, and its JSON gateway (etcd's "gRPC gateway"): enough to compact it and to
//! write objects past the API server.

use super::binaries::{Program, find};
use super::client::Client;
use super::place::Place;
use crate::agent::free_port;
use crate::process::Process;
use crate::wait::until;
use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

/// Operations in one transaction: etcd takes as many as its `--max-txn-ops` says.
const BATCH: usize = 500;

#[derive(Debug)]
pub struct Etcd {
    process: Process,
    server: SocketAddr,
    gateway: Client,
}

impl Etcd {
    pub(super) fn start(place: &Place) -> Result<Etcd> {
        let program = find(Program::Etcd)?;
        let (server, peer) = (loopback(free_port()?), loopback(free_port()?));
        let (client_url, peer_url) = (format!("http://{server}"), format!("http://{peer}"));
        let mut command = Command::new(program);
        command.arg("--data-dir").arg(place.dir().join("etcd")).arg("--unsafe-no-fsync");
        command.args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url]);
        command.args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url]);
        command.args(["--initial-cluster", &format!("default={peer_url}"), "--log-level", "warn"]);
        // 100,000 pods of 4 KiB with their history need more than the 2 GiB that it ships with.
        command.args(["--max-txn-ops", &BATCH.to_string(), "--max-request-bytes", "8388608"]);
        command.args(["--quota-backend-bytes", "8589934592"]);
        let process = place.start("etcd", &mut command)?;
        let mut etcd = Etcd { process, server, gateway: Client::new(server, None, None) };
        let up = until("etcd answers", Duration::from_secs(30), || {
            !etcd.process.is_running() || etcd.gateway.get("/health").is_ok_and(|health| health["health"] == "true")
        });
        if !etcd.process.is_running() {
            bail!("etcd ended:\n{}", place.log_tail("etcd"));
        }
        up.with_context(|| place.log_tail("etcd"))?;
        Ok(etcd)
    }

    #[must_use]
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(super) fn process_mut(&mut self) -> &mut Process {
        &mut self.process
    }

    /// etcd's revision now, which is the newest resourceVersion.
    pub fn revision(&self) -> Result<u64> {
        let answer = self.call("/v3/kv/range", &json!({"key": encode(b"/")}))?;
        number(&answer["header"]["revision"]).context("etcd tells no revision")
    }

    /// Forgets everything older than now; a watch that would start earlier gets a 410 from an API
    /// server that has not kept the events itself. Returns the revision.
    pub fn compact(&self) -> Result<u64> {
        let revision = self.revision()?;
        self.call("/v3/kv/compaction", &json!({"revision": revision.to_string(), "physical": true}))?;
        Ok(revision)
    }

    /// The stored bytes of a key.
    pub fn read(&self, key: &str) -> Result<Vec<u8>> {
        let answer = self.call("/v3/kv/range", &json!({"key": encode(key.as_bytes())}))?;
        let value = answer["kvs"][0]["value"].as_str().with_context(|| format!("etcd has no {key}"))?;
        STANDARD.decode(value).context("what etcd answers")
    }

    /// Writes keys past the API server, which learns of them from its own watch.
    pub fn write(&self, entries: impl IntoIterator<Item = (String, Vec<u8>)>) -> Result<()> {
        let mut operations = Vec::with_capacity(BATCH);
        for (key, value) in entries {
            operations.push(json!({"requestPut": {"key": encode(key.as_bytes()), "value": encode(&value)}}));
            if operations.len() == BATCH {
                self.transact(std::mem::take(&mut operations))?;
            }
        }
        self.transact(operations)
    }

    /// Deletes every key that begins so; returns how many there were.
    pub fn delete_below(&self, prefix: &str) -> Result<u64> {
        // The end of a range is the first key that no longer begins so: its last byte is one higher.
        let mut end = prefix.as_bytes().to_vec();
        *end.last_mut().context("an empty prefix is everything")? += 1;
        let range = json!({"key": encode(prefix.as_bytes()), "range_end": encode(&end)});
        Ok(number(&self.call("/v3/kv/deleterange", &range)?["deleted"]).unwrap_or(0))
    }

    fn transact(&self, operations: Vec<Value>) -> Result<()> {
        if operations.is_empty() {
            return Ok(());
        }
        self.call("/v3/kv/txn", &json!({"success": operations})).map(drop)
    }

    fn call(&self, path: &str, body: &Value) -> Result<Value> {
        let reply = self.gateway.request("POST", path, Some(("application/json", body.to_string().as_bytes())))?;
        if reply.status != 200 {
            bail!("etcd, {path}: {} {}", reply.status, reply.text());
        }
        reply.json()
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// 64-bit numbers are strings in the JSON form of protocol buffers.
fn number(value: &Value) -> Option<u64> {
    value.as_str().and_then(|text| text.parse().ok())
}
