//! One edge, for who clicked on it.

use super::wire::{Code, Detail, Figures, Protocol, Transport};
use golden_metrics::{CodeDetail, EdgeDetail, ProtocolDetail, TransportDetail};

/// As the page reads it. `open` are its TCP connections.
#[must_use]
pub fn detail(edge: EdgeDetail, open: u64) -> Vec<u8> {
    let seconds = edge.span.as_secs_f64().max(1.0);
    let detail = Detail {
        seconds,
        protocols: edge.protocols.into_iter().map(protocol).collect(),
        transports: edge.transports.into_iter().map(|row| transport(row, seconds, open)).collect(),
    };
    serde_json::to_vec(&detail).unwrap_or_default()
}

fn protocol(row: ProtocolDetail) -> Protocol {
    let ProtocolDetail { protocol, systems, service, reporter, golden, buckets, codes } = row;
    let code = |CodeDetail { status, requests, is_failure }| Code { status, count: requests, failed: is_failure };
    Protocol {
        protocol,
        systems,
        service,
        reporter,
        figures: Figures { r: golden.rps, ok: golden.success, p95: golden.p95 },
        requests: golden.requests,
        failures: golden.failures,
        p50: golden.p50,
        p99: golden.p99,
        buckets,
        codes: codes.into_iter().map(code).collect(),
    }
}

fn transport(row: TransportDetail, seconds: f64, open: u64) -> Transport {
    let TransportDetail {
        transport,
        reporter,
        bytes,
        retransmits,
        zero_windows,
        opened,
        closed,
        handshakes,
        handshake_p95,
        lost,
    } = row;
    Transport {
        transport,
        reporter,
        seconds,
        open,
        opened,
        closed,
        retransmits,
        zero_windows,
        bytes,
        handshakes,
        handshake_p95,
        lost,
    }
}
