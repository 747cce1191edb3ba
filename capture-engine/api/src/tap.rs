//! What a tap tells, an object a line.

use crate::words::Party;
use serde::{Deserialize, Serialize};

/// One line of what `/v1/tap` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TapLine {
    /// An exchange ended.
    Exchange(Box<TapExchange>),
    /// Something is missing here.
    Lost(TapLoss),
    /// The last line; without it the agent went away.
    End(TapEnd),
    /// Of a later agent.
    #[serde(other)]
    Other,
}

/// An exchange, seen from one end: a request and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TapExchange {
    /// First byte of the request, nanoseconds since 1970 by the node's clock.
    pub start_unix_nano: u64,
    /// Last byte of the response; of the request, or the time of giving up, where nothing answered.
    pub end_unix_nano: u64,
    /// From the one to the other. None where no answer was asked for.
    pub duration_ns: Option<u64>,
    /// Who asked.
    pub src: Party,
    /// Who was asked.
    pub dst: Party,
    /// Address and port of who asked.
    pub src_address: String,
    /// Address and port of who was asked, as the reporter sees them.
    pub dst_address: String,
    /// Kubernetes' Service by which clients reach `dst`; empty where none is known.
    pub service: String,
    /// client or server: at whose interface this was seen. Both, where both are on the node.
    pub reporter: String,
    /// http1, http2, grpc, dns, redis, tls, ...
    pub protocol: String,
    /// HTTP's method, a lookup's type, a command, a call with its service.
    pub operation: String,
    /// HTTP's path without its query, the name that was looked up, a table, a topic. Empty where there
    /// is none, or where it was not kept when the request came.
    pub target: String,
    /// HTTP's route as its path alone tells it (`/users/{id}`). Empty where there is none.
    pub route: String,
    /// In the words of its protocol: 503, NXDOMAIN, UNAVAILABLE, WRONGTYPE; `ok` where it has none for
    /// success, `unanswered` where nothing came.
    pub status: String,
    /// answered, unanswered, one_way
    pub outcome: String,
    /// As golden metrics count it.
    pub failed: bool,
    /// Of the application, heads and framing included.
    pub request_bytes: u64,
    /// The same of the response.
    pub response_bytes: u64,
    /// What limits the above: request_cut, joined_midway, waited, ...
    pub notes: Vec<String>,
}

/// What is missing at this place of the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TapLoss {
    /// `slow_reader`: records that were there and found no room. Else why exchanges of these ends were
    /// never seen whole: ring_full, gap, unfinished, joined_midway, limit.
    pub reason: String,
    /// How many.
    pub count: u64,
}

/// Why no more comes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TapEnd {
    /// limit: as many as were asked for; stopping: the agent ends.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_later_agent_is_read_as_far_as_it_is_known() {
        let read = |text: &str| serde_json::from_str::<TapLine>(text).expect(text);
        assert_eq!(read(r#"{"type":"weather","sun":true}"#), TapLine::Other);
        let lost = TapLoss { reason: "slow_reader".into(), count: 3 };
        assert_eq!(read(r#"{"type":"lost","reason":"slow_reader","count":3,"since":5}"#), TapLine::Lost(lost));
        let TapLine::Exchange(exchange) = read(r#"{"type":"exchange","protocol":"http3","operation":"GET"}"#) else {
            panic!("an exchange")
        };
        assert_eq!((&*exchange.protocol, exchange.duration_ns), ("http3", None));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let exchange = TapExchange { target: "/a\n\u{202e}".into(), duration_ns: Some(7), ..TapExchange::default() };
        for line in [
            TapLine::Exchange(Box::new(exchange)),
            TapLine::Lost(TapLoss { reason: "ring_full".into(), count: u64::MAX }),
            TapLine::End(TapEnd { reason: "limit".into() }),
        ] {
            let text = serde_json::to_string(&line).expect("JSON");
            assert_eq!(text.lines().count(), 1);
            assert_eq!(serde_json::from_str::<TapLine>(&text).expect("JSON"), line);
        }
    }
}
