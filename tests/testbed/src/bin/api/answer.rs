use crate::peer::Ending;
use std::time::Duration;
use testbed::http::Message;

/// What to answer: decided from the request alone,
/// `/items?i=..&size=..&chunked=1&delay_ms=..&status=..&reset=instead|middle|after`.
#[derive(Clone, Debug)]
pub struct Plan {
    pub method: String,
    pub key: String,
    pub status: u16,
    pub delay: Duration,
    size: usize,
    chunked: bool,
    closes: bool,
    /// Bytes of the response that are written, where not all.
    cut: Option<usize>,
    pub ending: Ending,
}

/// Largest body that is made.
const MAX_SIZE: usize = 16 << 20;

impl Plan {
    pub fn of(request: &Message, fails: bool) -> Plan {
        let closes = request.closes() || request.is_broken();
        let mut plan = Plan {
            method: request.method().to_owned(),
            key: "none".into(),
            status: if request.is_broken() { 400 } else { 200 },
            delay: Duration::ZERO,
            size: 120,
            chunked: false,
            closes,
            cut: None,
            ending: if closes { Ending::Close } else { Ending::None },
        };
        let query = request.target().split_once('?').map_or("", |(_, query)| query);
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "i" => plan.key = value.to_owned(),
                "size" => plan.size = value.parse().unwrap_or(0).min(MAX_SIZE),
                "chunked" => plan.chunked = value == "1",
                "delay_ms" => plan.delay = Duration::from_millis(value.parse().unwrap_or(0)),
                "status" => plan.status = value.parse().unwrap_or(400),
                "reset" => {
                    plan.ending = Ending::Reset;
                    plan.cut = match value {
                        "instead" => Some(0),
                        "middle" => Some(plan.size / 2),
                        _ => None,
                    };
                }
                _ => {}
            }
        }
        if fails {
            (plan.status, plan.size) = (500, 40);
        }
        plan
    }

    /// Appends the response to `out`, as much of it as is to be written.
    pub fn write(&self, out: &mut Vec<u8>) {
        let before = out.len();
        self.write_whole(out);
        if let Some(cut) = self.cut {
            out.truncate(before + cut);
        }
    }

    fn write_whole(&self, out: &mut Vec<u8>) {
        let reason = match self.status {
            200 => "OK",
            204 => "No Content",
            304 => "Not Modified",
            404 => "Not Found",
            500 => "Internal Server Error",
            _ => "Other",
        };
        let head = format!("HTTP/1.1 {} {reason}\r\nServer: api\r\nContent-Type: application/json\r\n", self.status);
        out.extend_from_slice(head.as_bytes());
        if self.closes {
            out.extend_from_slice(b"Connection: close\r\n");
        }
        if matches!(self.status, 204 | 304) {
            out.extend_from_slice(b"\r\n");
            return;
        }
        let length = if self.chunked {
            "Transfer-Encoding: chunked".to_owned()
        } else {
            format!("Content-Length: {}", self.size)
        };
        out.extend_from_slice(length.as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
        if self.method == "HEAD" {
            return;
        }
        if !self.chunked {
            push_body(out, self.size);
            return;
        }
        let mut left = self.size;
        while left > 0 {
            let piece = left.min(1000);
            out.extend_from_slice(format!("{piece:x}\r\n").as_bytes());
            push_body(out, piece);
            out.extend_from_slice(b"\r\n");
            left -= piece;
        }
        out.extend_from_slice(b"0\r\n\r\n");
    }
}

/// JSON where there is room for it.
fn push_body(out: &mut Vec<u8>, size: usize) {
    const OPEN: &[u8] = b"{\"v\":\"";
    const CLOSE: &[u8] = b"\"}";
    let end = out.len() + size;
    if size >= OPEN.len() + CLOSE.len() {
        out.extend_from_slice(OPEN);
        out.resize(end - CLOSE.len(), b'x');
        out.extend_from_slice(CLOSE);
    } else {
        out.resize(end, b' ');
    }
}
