//! `/metrics` over a real connection.

use crate::bed::{Agent, at, fleet};
use companion::Only;
use companion::serve::{Http, HttpConfig, Push};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use golden_metrics::{Exposition, Format, Histograms};
use join::Token;
use parking_lot::Mutex;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Served {
    http: Arc<Http>,
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// A companion of n1 and n2, which have pushed.
async fn served(config: HttpConfig) -> Served {
    let mut fleet = fleet();
    for (node, instance) in [("n1", 11), ("n2", 12)] {
        let mut agent = Agent::new(node, instance);
        agent.answers(instance, 200, 3);
        agent.run(at(1), &mut fleet);
    }
    let token = Token::new("the-token-of-this-cluster").unwrap().hash();
    let http = Arc::new(Http::new(Arc::new(Push::new(Arc::new(Mutex::new(fleet)), token)), config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let task = tokio::spawn(http.clone().run(listener, stop.clone()));
    Served { http, address, stop, task }
}

impl Served {
    /// Head and body of an answer.
    async fn raw(&self, request: &str) -> (String, Vec<u8>) {
        let mut tcp = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{request}\r\nHost: companion\r\nConnection: close\r\n\r\n");
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        tcp.read_to_end(&mut answer).await.unwrap();
        let at = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        let body = answer.split_off(at + 4);
        (String::from_utf8(answer).unwrap(), body)
    }

    async fn get(&self, path: &str) -> (String, String) {
        let (head, body) = self.raw(&format!("GET {path} HTTP/1.0")).await;
        (head, String::from_utf8(body).unwrap())
    }
}

#[tokio::test]
async fn a_scraper_gets_the_series_of_all_nodes_and_the_companions_own() {
    let served = served(HttpConfig::default()).await;
    let (head, page) = served.get("/metrics").await;
    assert!(head.starts_with("HTTP/1.0 200") && head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    let counted = |node: &str| {
        let line = page.lines().find(|line| {
            line.starts_with("pilotfish_exchanges_total{")
                && line.contains("server")
                && line.contains("http1")
                && line.contains(node)
        });
        line.and_then(|line| line.rsplit_once(' ')).map(|(_, value)| value.to_owned())
    };
    assert_eq!((counted("node=\"n1\"").as_deref(), counted("node=\"n2\"").as_deref()), (Some("11"), Some("12")));
    assert!(page.contains("pilotfish_companion_agents{state=\"live\"} "));
    // Native ones alone, as long as nobody asks for others.
    assert!(!page.contains("le=\"0.005\""));
    assert!(served.get("/metrics?histograms=classic").await.1.contains("le=\"0.005\""));
    served.stop.cancel();
    served.task.await.unwrap();
}

#[tokio::test]
async fn a_page_is_compressed_and_filtered_for_those_who_ask() {
    let served = served(HttpConfig::default()).await;
    let (head, body) = served.raw("GET /metrics HTTP/1.0\r\nAccept-Encoding: gzip").await;
    assert!(head.contains("content-encoding: gzip"), "{head}");
    let mut page = String::new();
    GzDecoder::new(&*body).read_to_string(&mut page).unwrap();
    assert_eq!(page, served.get("/metrics").await.1);
    let only = served.get("/metrics?node=n2").await.1;
    assert!(only.contains("node=\"n2\"") && !only.contains("node=\"n1\""));
    assert!(served.get("/metrics?namespace=shop").await.1.contains("server_workload=\"api\""));
    let other = served.get("/metrics?namespace=pay").await.1;
    assert!(!other.contains("node=\"") && other.contains("pilotfish_companion_series"));
    assert!(served.get("/metrics?nodes=n2").await.0.starts_with("HTTP/1.0 400"));
}

/// 50 nodes of some 500 series: bytes, time and memory. Run it with `--release --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn fifty_nodes_of_five_hundred_series() {
    let mut fleet = fleet();
    for instance in 1..=50 {
        let node = format!("n{instance}");
        let mut agent = Agent::new(&node, instance);
        for server in 0..160 {
            for (status, took) in [(200, 3), (404, 1), (503, 250)] {
                (0..20).for_each(|i| agent.answers_as(server, 1, status, took + i));
            }
        }
        agent.run(at(1), &mut fleet);
    }
    let series: usize = fleet.agents(at(1)).iter().map(|agent| agent.series).sum();
    let (names, values) = fleet.memory();
    eprintln!("{series} series: {} bytes each, and names of {} bytes", values / series, names);
    for (format, histograms) in [
        (Format::Protobuf, Histograms::Native),
        (Format::Protobuf, Histograms::Both),
        (Format::OpenMetrics, Histograms::Native),
        (Format::OpenMetrics, Histograms::Classic),
    ] {
        let began = std::time::Instant::now();
        let rows = fleet.rows(&Only::default());
        let held = began.elapsed();
        let (mut bytes, mut gzip) = (0, GzEncoder::new(Vec::new(), Compression::fast()));
        Exposition::render_nodes(&rows.page(), &[], format, histograms, &mut |piece| bytes += piece.len());
        let plain = began.elapsed();
        Exposition::render_nodes(&rows.page(), &[], format, histograms, &mut |piece| gzip.write_all(piece).unwrap());
        let both = began.elapsed();
        let small = gzip.finish().unwrap().len();
        eprintln!(
            "{format:?} {histograms:?}: {bytes} B in {plain:?} (fleet held {held:?}), gzip {small} B in {:?}",
            both - plain
        );
    }
    let began = std::time::Instant::now();
    let rows = fleet.table(at(2)).edges().len();
    eprintln!("table of {rows} rows in {:?}", began.elapsed());
}

/// A scrape of each replica, added up, counts each series once.
#[tokio::test]
async fn of_several_replicas_one_shows_the_series_of_the_nodes() {
    let replicas = [served(HttpConfig::default()).await, served(HttpConfig::default()).await];
    replicas[1].http.set_shows_nodes(false);
    let mut series = 0;
    for replica in &replicas {
        let page = replica.get("/metrics").await.1;
        assert!(page.contains("pilotfish_companion_agents"));
        series += page.lines().filter(|line| line.contains("node=\"n1\"")).count();
    }
    assert_eq!(
        series,
        replicas[0].get("/metrics?node=n1").await.1.lines().filter(|line| line.contains("node=")).count()
    );
}

#[tokio::test]
async fn probes_and_what_is_not_there() {
    let served = served(HttpConfig { pages: 0, ..HttpConfig::default() }).await;
    assert_eq!(served.get("/livez").await.1, "ok\n");
    assert_eq!(served.get("/readyz").await.1, "ok\n");
    assert!(served.get("/").await.0.starts_with("HTTP/1.0 404"));
    assert!(served.raw("POST /metrics HTTP/1.0").await.0.starts_with("HTTP/1.0 405"));
    // Others are being answered.
    assert!(served.get("/metrics").await.0.starts_with("HTTP/1.0 503"));
}
