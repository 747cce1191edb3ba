//! Clients that ask an API server until it is gone, and say what became of each of their requests.

use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use testbed::until;

/// Connections that ask one thing after the other: quick ones, slow ones, long answers, and some that are never
/// answered. Says when each of them was answered some times, and at the end what became of all requests.
const CLIENT: &str = r"
import http.client, json, random, sys, threading, time
(host, port), connections, seed = sys.argv[1].split(':'), int(sys.argv[2]), int(sys.argv[3])
lock, said, begun = threading.Lock(), {}, threading.Semaphore(0)
lost = (OSError, http.client.HTTPException)

def count(what, method):
    with lock:
        of = said.setdefault(what, {})
        of[method] = of.get(method, 0) + 1

def ask(one, own, turn, waits):
    method = own.choice(['GET', 'POST', 'PUT', 'DELETE'])
    query = own.choice(['size=7', 'size=300', 'size=300&delay_ms=3', 'size=40000&chunked=1', 'size=200000'])
    if waits and turn > 3:
        query = 'size=7&delay_ms=1000000'
    try:
        one.request(method, '/items?' + query)
    except lost:
        return False  # It never left.
    count('sent', method)
    try:
        answer = one.getresponse()
    except lost:
        count('unanswered', method)
        return False
    try:
        answer.read()
    except lost:
        count('broken_off', method)
        return False
    count('answered', method)
    return True

def work(own):
    one = http.client.HTTPConnection(host, int(port))
    one.connect()
    one.auto_open = 0
    turn, waits = 0, own.random() < 0.3
    while ask(one, own, turn, waits):
        turn += 1
        if turn == 3:
            begun.release()
        if own.random() < 0.5:
            time.sleep(own.random() / 200)

threads = [threading.Thread(target=work, args=(random.Random(seed * 1000 + n),)) for n in range(connections)]
for thread in threads:
    thread.start()
for _ in threads:
    begun.acquire()
print('begun', flush=True)
for thread in threads:
    thread.join()
print(json.dumps(said), flush=True)
";

/// By method.
pub type Counts = BTreeMap<String, u64>;

/// Some connections of one client.
#[derive(Debug)]
pub struct Askers {
    process: Child,
    log: PathBuf,
}

impl Askers {
    /// `python` is that program where the client is; `log` is where it writes.
    pub fn start(mut python: Command, log: PathBuf, server: &str, connections: u64, seed: u64) -> Result<Askers> {
        python.args(["-c", CLIENT, server, &connections.to_string(), &seed.to_string()]).stdin(Stdio::null());
        python.stdout(fs::File::create(&log)?).stderr(fs::File::create(log.with_extension("err"))?);
        Ok(Askers { process: python.spawn().context("python3")?, log })
    }

    /// Each connection has been answered.
    pub fn wait_begun(&self, patience: Duration) -> Result<()> {
        until("each connection was answered", patience, || self.text().contains("begun"))
            .with_context(|| fs::read_to_string(self.log.with_extension("err")).unwrap_or_default())
    }

    /// The report, once the last connection has ended.
    pub fn end(mut self, patience: Duration) -> Result<Said> {
        until("the clients are done", patience, || self.process.try_wait().is_ok_and(|ended| ended.is_some()))?;
        let text = self.text();
        let said = serde_json::from_str(text.lines().last().unwrap_or_default()).with_context(|| text.clone())?;
        Ok(Said(said))
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Askers {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What became of requests.
#[derive(Debug)]
pub struct Said(BTreeMap<String, Counts>);

impl Said {
    fn sum(&self, what: &str) -> u64 {
        self.0.get(what).into_iter().flat_map(Counts::values).sum()
    }

    /// All that left.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sum("sent")
    }

    /// Of them, those without an answer.
    #[must_use]
    pub fn unanswered(&self) -> u64 {
        self.sum("unanswered")
    }

    /// Of them, those whose answer is not whole.
    #[must_use]
    pub fn broken_off(&self) -> u64 {
        self.sum("broken_off")
    }

    /// Both, by method.
    #[must_use]
    pub fn lost(&self) -> Counts {
        let mut lost = Counts::new();
        for (method, count) in ["unanswered", "broken_off"].iter().filter_map(|what| self.0.get(*what)).flatten() {
            *lost.entry(method.clone()).or_default() += count;
        }
        lost
    }
}

/// What an exit of the timeline cut of this client: by method, and how many of them amid their answers.
#[must_use]
pub fn cut_by_client(exit: &Value, client: &str) -> (Counts, u64) {
    let (mut cut, mut broken_off) = (Counts::new(), 0);
    for row in exit["cut"].as_array().into_iter().flatten().filter(|row| row["client"] == client) {
        let number = |name: &str| row[name].as_u64().unwrap_or_default();
        *cut.entry(row["what"].as_str().unwrap_or_default().to_owned()).or_default() += number("requests");
        broken_off += number("broken_off");
    }
    (cut, broken_off)
}
