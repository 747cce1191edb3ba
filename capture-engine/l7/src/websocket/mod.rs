//! WebSocket (RFC 6455): messages of each direction, as records that nobody answers.
//!
//! It begins where HTTP/1 has agreed on it with a 101; a connection that was joined behind that is not
//! recognised, because nothing greets there and two bytes of a header are no proof. A message is its
//! frames together; control frames are messages of their own. Of what they carry nothing is read but
//! the code of a close. No number counts messages, so what a loss has held is at least one.

mod frame;
mod side;

use crate::dissector::{Dissector, Next, Opening, Sign, Used};
use crate::framing::Framing;
use crate::input::{Bytes, Cause, Hole};
use crate::{Interest, Length, Limits, Out, Walk};
use flow_model::{Close, Direction, LossReason, Ts};
use frame::Format;
use side::{Broken, Side};

/// A connection since its upgrade.
#[derive(Debug)]
pub(crate) struct WebSocket {
    client: Direction,
    sides: [Side; 2],
}

/// As a source follows them: the longest header of each frame, and so the code of a close.
static WALK: Walk = Walk {
    length: Length::WebSocket,
    header: 2,
    uncounted: 0,
    kind: None,
    classes: &[],
    keep: [Format::KEPT as u32; 4],
    most: 16,
    aligned: false,
    rows: false,
    runs: false,
};

impl WebSocket {
    /// HTTP/1 has agreed on it. `certain`: nothing of the client's was missed or left over, so what it
    /// says next begins a frame.
    pub(crate) fn upgraded(client: Direction, certain: bool) -> WebSocket {
        let side = |dir: Direction| Side::new(dir == client, dir != client || certain);
        WebSocket { client, sides: [side(Direction::Ingress), side(Direction::Egress)] }
    }

    fn next(&self) -> Next {
        // Behind the close of both ends nothing is said.
        if self.sides.iter().all(Side::is_over) { Next::Opaque } else { Next::Same }
    }
}

impl Dissector for WebSocket {
    fn recognise(_head: &[u8]) -> Sign {
        Sign::No
    }

    fn open<O: Out>(opening: &Opening<'_>, _out: &mut O) -> WebSocket {
        WebSocket::upgraded(opening.client.unwrap_or(opening.dir), false)
    }

    fn bytes<O: Out>(&mut self, dir: Direction, data: Bytes<'_>, _limits: &Limits, out: &mut O) -> Used {
        let next = match self.sides[dir.index()].bytes(data, out) {
            Ok(()) => self.next(),
            // Whatever was agreed on, this is none.
            Err(Broken) if self.sides.iter().all(|side| !side.started) => Next::Opaque,
            Err(Broken) => {
                self.sides[dir.index()].is_astray(out);
                Next::Same
            }
        };
        Used { bytes: data.bytes.len(), next }
    }

    fn hole<O: Out>(&mut self, dir: Direction, hole: Hole, limits: &Limits, out: &mut O) {
        let side = &mut self.sides[dir.index()];
        side.hole(hole, out);
        // A source that sees all packets says which of them begins a message; a capture takes the first that it has.
        if limits.report_partial && hole.cause == Cause::Unknown {
            side.follows_dropped();
        }
    }

    fn missing<O: Out>(&mut self, dir: Direction, _turn: u32, _at: Ts, _limits: &Limits, _out: &mut O) {
        self.sides[dir.index()].missing();
    }

    fn closed<O: Out>(&mut self, _at: Ts, _close: Close, _limits: &Limits, out: &mut O) {
        self.sides.iter_mut().for_each(|side| side.end(LossReason::Unfinished, out));
    }

    fn client(&self) -> Option<Direction> {
        Some(self.client)
    }

    fn interest(&self) -> Interest {
        Interest::Frames(&WALK)
    }

    fn header_in(&self, dir: Direction) -> Option<u64> {
        self.sides[dir.index()].header_in()
    }

    fn buffered(&self) -> usize {
        self.sides.iter().map(Side::buffered).sum()
    }

    fn shed<O: Out>(&mut self, _turn: u32, out: &mut O) {
        self.sides.iter_mut().for_each(|side| side.shed(out));
    }

    fn held(&self) -> usize {
        self.sides.iter().map(Side::held).sum()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_idle_connection_stays_small() {
        assert!(size_of::<super::WebSocket>() <= 400, "{}", size_of::<super::WebSocket>());
    }
}
