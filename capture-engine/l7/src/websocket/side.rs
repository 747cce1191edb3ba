//! One direction of a WebSocket: messages from its frames, and its place after bytes that were not seen.

use super::frame::{COMPRESSED, Format, Header, Opcode};
use crate::Out;
use crate::framing::{Frame, Frames};
use crate::input::{Bytes, Cause, Hole};
use flow_model::{ChannelTraffic, Detail, L7Record, LossReason, Notes, Outcome, Protocol, Ts};

/// Frames in a row that are believed to be frames where nobody knows whether one began there.
const CERTAIN: usize = 6;

/// Packets in a row that hold whole frames and nothing else: the same.
const CERTAIN_PACKETS: u8 = 3;

#[derive(Debug)]
pub(super) struct Side {
    frames: Frames<Format>,
    /// What the client sends is masked, what the server sends is not (RFC 6455 section 5.1).
    client: bool,
    /// A message of which frames are to come.
    open: Option<Message>,
    /// A continuation that comes next is of a message that was lost.
    headless: bool,
    /// Nobody knows whether frames begin where they seem to.
    doubt: Option<Box<Doubt>>,
    /// Some message was compressed.
    compressed: bool,
    /// Messages of the flow whose heads were lost, until it shows whether a frame began in them.
    missing: u64,
    /// Frames were read while its place was known.
    pub started: bool,
    /// A close was sent: nothing follows it (section 5.5.1).
    pub closed: bool,
}

/// The frames so far of one message.
#[derive(Clone, Copy, Debug)]
struct Message {
    opcode: Opcode,
    start: Ts,
    end: Ts,
    bytes: u64,
    payload: u64,
    code: Option<u16>,
}

/// What seems to be frames since the place was lost.
#[derive(Debug, Default)]
struct Doubt {
    /// They are told once it is certain that they are.
    held: Vec<Message>,
    frames: usize,
    packets: u8,
    /// The first of them began with a message of the flow, as most frames of one do.
    starts: bool,
    /// What comes next seems to begin a message of the flow only because packets before it were dropped.
    dropped: bool,
    /// The masks of the newest, by their numbers.
    keys: [Option<[u8; 4]>; CERTAIN],
    /// A data frame that was not the last of its message was read; `None`: nothing was read of either kind.
    goes_on: Option<bool>,
}

impl Doubt {
    /// Messages that are lost when it does not become certain any more. What began amid a message of the flow and
    /// filled no packet is more likely none.
    fn likely(&self) -> u64 {
        if self.starts || self.packets > 0 { self.held.len() as u64 } else { 0 }
    }
}

/// Bytes made no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

impl Side {
    pub(super) fn new(client: bool, certain: bool) -> Side {
        Side {
            frames: Frames::default(),
            client,
            open: None,
            headless: false,
            doubt: if certain { None } else { Some(Box::default()) },
            compressed: false,
            missing: 0,
            started: false,
            closed: false,
        }
    }

    pub(super) fn bytes<O: Out>(&mut self, data: Bytes<'_>, out: &mut O) -> Result<(), Broken> {
        self.settle_missing(out);
        if self.doubt.is_some() {
            self.doubtful(data, out);
            return Ok(());
        }
        // It is known where frames begin: no message of the flow says it better.
        let data = Bytes { start: false, tail: false, ..data };
        let mut broken = false;
        let mut frames = std::mem::take(&mut self.frames);
        frames.bytes(data, |frame| {
            let fits = self.frame(&frame, out);
            broken |= !fits;
            fits
        });
        self.frames = frames;
        if broken { Err(Broken) } else { Ok(()) }
    }

    /// What seemed to be a frame is none: there was a loss that nobody has told of.
    pub(super) fn is_astray<O: Out>(&mut self, out: &mut O) {
        self.lose(LossReason::Gap, 1, out);
    }

    pub(super) fn hole<O: Out>(&mut self, hole: Hole, out: &mut O) {
        if hole.bytes == 0 {
            return;
        }
        if self.doubt.is_some() {
            return self.doubtful_hole(hole, out);
        }
        // The numbers of messages say nothing of frames; how many bytes are missing does.
        let cause = if hole.cause == Cause::Messages { Cause::Unknown } else { hole.cause };
        let mut frames = std::mem::take(&mut self.frames);
        let lost = frames.hole(Hole { cause, ..hole }, |frame| self.frame(&frame, out));
        self.frames = frames;
        if lost {
            let (missing, reason) = match std::mem::take(&mut self.missing) {
                0 => (1, LossReason::Gap),
                missing => (missing, LossReason::RingFull),
            };
            self.lose(reason, missing, out);
        } else {
            // All of it was of the frame under way.
            self.missing = 0;
        }
    }

    /// A capture dropped packets right before what comes next, and with them the beginning of its message, may be.
    pub(super) fn follows_dropped(&mut self) {
        if let Some(doubt) = &mut self.doubt {
            doubt.dropped = true;
        }
    }

    /// The head of a message of the flow was lost.
    pub(super) fn missing(&mut self) {
        self.missing = self.missing.saturating_add(1);
    }

    /// The connection is over, or what is known of it has to go.
    pub(super) fn end<O: Out>(&mut self, reason: LossReason, out: &mut O) {
        self.settle_missing(out);
        let lost = match self.doubt.take() {
            // What seems to be begun may be nothing.
            Some(doubt) => doubt.likely(),
            None => u64::from(!self.closed && (self.open.is_some() || self.frames.header_in() != Some(0))),
        };
        if lost > 0 {
            out.lost(reason, lost);
        }
        self.open = None;
        self.frames = Frames::default();
    }

    /// Lets go of what waits to be certain.
    pub(super) fn shed<O: Out>(&mut self, out: &mut O) {
        if self.doubt.is_some() {
            self.lose(LossReason::Limit, 0, out);
        }
    }

    pub(super) fn header_in(&self) -> Option<u64> {
        if self.doubt.is_some() { None } else { self.frames.header_in() }
    }

    /// Its place is known, and no frame is under way.
    pub(super) fn is_over(&self) -> bool {
        self.closed && self.doubt.is_none()
    }

    pub(super) fn buffered(&self) -> usize {
        self.frames.buffered()
    }

    pub(super) fn held(&self) -> usize {
        let doubt = |doubt: &Doubt| size_of::<Doubt>() + doubt.held.capacity() * size_of::<Message>();
        self.buffered() + self.doubt.as_deref().map_or(0, doubt)
    }

    /// A message of the flow was lost, and no hole has told that it was inside of a frame.
    fn settle_missing<O: Out>(&mut self, out: &mut O) {
        match std::mem::take(&mut self.missing) {
            0 => {}
            missing => self.lose(LossReason::RingFull, missing, out),
        }
    }

    /// The place of the next frame is lost, and messages with it.
    fn lose<O: Out>(&mut self, reason: LossReason, count: u64, out: &mut O) {
        // What was held seemed to be messages: they are no less lost than those that were missed.
        let held = self.doubt.as_ref().map_or(0, |doubt| doubt.likely());
        self.forget();
        if count + held > 0 {
            out.lost(reason, count + held);
        }
    }

    /// Nothing is known of where it is.
    fn forget(&mut self) {
        self.doubt = Some(Box::default());
        self.frames = Frames::default();
        self.open = None;
        self.headless = false;
    }

    /// Reads a frame; false when it is none.
    fn frame<O: Out>(&mut self, frame: &Frame<'_>, out: &mut O) -> bool {
        let Some(header) = Header::read(frame.bytes) else { return false };
        let fits = match header.opcode {
            Opcode::Continuation => self.open.is_some() || self.headless,
            Opcode::Text | Opcode::Binary => self.open.is_none(),
            _ => true,
        };
        if !fits {
            return false;
        }
        self.started = true;
        self.compressed |= header.reserved & COMPRESSED != 0;
        if header.opcode == Opcode::Continuation && self.open.is_none() {
            self.headless = !header.fin;
            return true;
        }
        if let Some(message) = self.add(&header, frame) {
            self.tell(message, out);
        }
        true
    }

    /// The message that the frame ends.
    fn add(&mut self, header: &Header, frame: &Frame<'_>) -> Option<Message> {
        let &Header { opcode, fin, payload, code, .. } = header;
        let bytes = frame.length as u64;
        let end = frame.last.max(frame.first);
        let alone = Message { opcode, start: frame.first, end, bytes, payload, code };
        if opcode.is_control() {
            return Some(alone);
        }
        self.headless = false;
        let message = match self.open.take() {
            Some(begun) => Message {
                end: begun.end.max(end),
                bytes: begun.bytes.saturating_add(bytes),
                payload: begun.payload.saturating_add(payload),
                ..begun
            },
            None => alone,
        };
        if fin {
            return Some(message);
        }
        self.open = Some(message);
        None
    }

    fn tell<O: Out>(&mut self, message: Message, out: &mut O) {
        let Message { opcode, start, end, bytes, payload, code } = message;
        self.closed |= opcode == Opcode::Close;
        let by = |amount: u64| if self.client { [amount, 0] } else { [0, amount] };
        let [request_bytes, response_bytes] = by(bytes);
        out.record(L7Record {
            protocol: Protocol::Websocket,
            start,
            response_start: None,
            end,
            request_bytes,
            response_bytes,
            outcome: Outcome::OneWay,
            notes: Notes::default(),
            detail: Detail::Channel(ChannelTraffic {
                opcode: opcode.as_str(),
                close_code: code,
                messages: by(1),
                bytes: by(payload),
            }),
        });
    }

    /// Looks whether frames begin with the packet, or go on in it.
    fn doubtful<O: Out>(&mut self, data: Bytes<'_>, out: &mut O) {
        let Some(mut doubt) = self.doubt.take() else { return };
        let starts = data.start && !std::mem::take(&mut doubt.dropped);
        if data.start && self.frames.header_in() != Some(0) {
            // A frame that seemed to be long; in a message of the flow another one may begin.
            *doubt = Doubt::default();
            self.frames = Frames::default();
            self.open = None;
        }
        let whole = self.frames.header_in() == Some(0);
        doubt.starts |= starts && doubt.frames == 0;
        let mut broken = false;
        let mut frames = std::mem::take(&mut self.frames);
        frames.bytes(Bytes { start: false, tail: false, ..data }, |frame| {
            let fits = self.seems_a_frame(&mut doubt, &frame);
            broken |= !fits;
            fits
        });
        if broken {
            return self.forget();
        }
        doubt.packets = if whole && frames.header_in() == Some(0) { doubt.packets.saturating_add(1) } else { 0 };
        self.frames = frames;
        if doubt.frames < CERTAIN && doubt.packets < CERTAIN_PACKETS {
            self.doubt = Some(doubt);
            return;
        }
        self.started = true;
        // Where control frames alone were seen, a message that was lost may go on.
        self.headless = self.open.is_none() && doubt.goes_on != Some(false);
        for message in doubt.held {
            self.tell(message, out);
        }
    }

    /// What a source that follows frames has left out may be the rest of what seems to be one. Any other hole
    /// ends what seemed to be.
    fn doubtful_hole<O: Out>(&mut self, hole: Hole, out: &mut O) {
        let left = self.frames.header_in().unwrap_or(0);
        match self.doubt.take() {
            Some(mut doubt) if hole.cause == Cause::Skipped && left > 0 && hole.bytes <= left => {
                let mut frames = std::mem::take(&mut self.frames);
                let mut fits = true;
                frames.hole(hole, |frame| {
                    fits = self.seems_a_frame(&mut doubt, &frame);
                    fits
                });
                self.frames = frames;
                self.doubt = Some(doubt);
                if !fits {
                    self.forget();
                }
            }
            doubt => {
                self.doubt = doubt;
                self.lose(LossReason::Gap, 0, out);
            }
        }
        self.settle_missing(out);
    }

    /// As `frame`, where nothing but the bytes says that it is one: all rules have to hold.
    fn seems_a_frame(&mut self, doubt: &mut Doubt, frame: &Frame<'_>) -> bool {
        let Some(header) = Header::read(frame.bytes) else { return false };
        let Header { opcode, fin, reserved, masked, minimal, payload, key, .. } = header;
        let known = match reserved {
            0 => true,
            COMPRESSED => self.compressed && matches!(opcode, Opcode::Text | Opcode::Binary),
            _ => false,
        };
        let follows = match (opcode, doubt.goes_on) {
            // Zeros are no frames.
            (Opcode::Continuation, Some(false)) => false,
            (Opcode::Continuation, _) => payload > 0,
            (Opcode::Text | Opcode::Binary, goes_on) => goes_on != Some(true) && (payload > 0 || fin),
            _ => true,
        };
        if !known || !follows || masked != self.client || !minimal || frame.bytes.len() > frame.length {
            return false;
        }
        // Each frame has a mask of its own (section 5.3). What repeats itself is masked to what repeats itself, and
        // with it repeats whatever looks like a header, or like a few of them, one behind the other.
        if key.is_some() && doubt.keys.contains(&key) {
            return false;
        }
        if let Some(place) = doubt.keys.get_mut(doubt.frames % CERTAIN) {
            *place = key;
        }
        let begun = self.open.is_some();
        if !opcode.is_control() {
            doubt.goes_on = Some(!fin);
        }
        doubt.frames += 1;
        // Those that follow say nothing of the first: amid a payload it may end by chance where a frame begins.
        let believed = doubt.frames > 1 || doubt.starts;
        if believed
            && (opcode != Opcode::Continuation || begun)
            && let Some(message) = self.add(&header, frame)
        {
            doubt.held.push(message);
        }
        true
    }
}
