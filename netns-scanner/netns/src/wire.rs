//! Netlink's bytes (RFC 3549, `linux/netlink.h`): building messages and batches of them, walking
//! messages and attributes. Pure.
//!
//! Everything is in host byte order and padded to four bytes. Walking never fails: what does not parse ends the walk.

/// Type of an acknowledgement or refusal: an errno, negated or 0, then the request's header.
pub const NLMSG_ERROR: u16 = 2;
/// Type of a dump's last message.
pub const NLMSG_DONE: u16 = 3;

/// `NLM_F_REQUEST`: set in everything that goes to the kernel.
pub const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`: answer with `NLMSG_ERROR` on success too.
pub const ACK: u16 = 0x4;
/// In an answer: the table changed while it was dumped.
pub const DUMP_INTR: u16 = 0x10;
/// `NLM_F_DUMP` (`ROOT | MATCH`): all entries of the table.
pub const DUMP: u16 = 0x300;
/// With `CREATE`: an object that exists is an error.
pub const EXCL: u16 = 0x200;
/// `NLM_F_CREATE`: make the object if there is none.
pub const CREATE: u16 = 0x400;
/// In an answer: the request is echoed without its payload.
const CAPPED: u16 = 0x100;
/// In an answer: attributes follow, the kernel's message among them.
const ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

const HEADER: usize = 16;
/// The two top bits of an attribute's type are flags (nested, network byte order).
const TYPE_MASK: u16 = 0x3fff;
const NESTED: u16 = 0x8000;

/// Messages that go out in one `sendmsg`. The kernel works through all of them within that one
/// system call, so that killing the sender cannot cut the batch in two.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

/// Appends the payload of one message.
#[derive(Debug)]
pub struct Payload<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Batch {
    /// Without a message.
    #[must_use]
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Adds a message of type `kind`. `REQUEST` is added to `flags`.
    pub fn message(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Payload<'_>)) {
        let start = self.bytes.len();
        self.starts.push(start);
        self.bytes.extend_from_slice(&[0; HEADER]);
        fill(&mut Payload { bytes: &mut self.bytes });
        let length = (self.bytes.len() - start) as u32;
        self.put(start, &length.to_ne_bytes());
        self.put(start + 4, &kind.to_ne_bytes());
        self.put(start + 6, &(flags | REQUEST).to_ne_bytes());
        pad(&mut self.bytes);
    }

    /// Numbers the messages from `first` on, one by one.
    pub fn number(&mut self, first: u32) {
        for index in 0..self.starts.len() {
            let seq = first.wrapping_add(index as u32);
            self.put(self.starts[index] + 8, &seq.to_ne_bytes());
        }
    }

    fn put(&mut self, at: usize, what: &[u8]) {
        self.bytes[at..at + what.len()].copy_from_slice(what);
    }

    /// All messages one behind the other, each padded to four bytes, as `sendmsg` takes them.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether no message was added yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }
}

impl Payload<'_> {
    /// The fixed part of a message.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        pad(self.bytes);
    }

    /// Appends an attribute of type `kind`, padded to four bytes. `value` has at most 65,531 bytes,
    /// the room that its 16-bit length leaves.
    pub fn attr(&mut self, kind: u16, value: &[u8]) {
        let length = (value.len() + 4) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.raw(value);
    }

    /// Appends `value` in host byte order.
    pub fn attr_u32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_ne_bytes());
    }

    /// A string with its final NUL.
    pub fn attr_str(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attr(kind, &bytes);
    }

    /// Appends an attribute of the attributes that `fill` adds, marked `NLA_F_NESTED`. At most
    /// 65,535 bytes in all.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Payload<'_>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        fill(&mut Payload { bytes: self.bytes });
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes[start + 2..start + 4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(align(bytes.len()), 0);
}

fn align(length: usize) -> usize {
    length.saturating_add(3) & !3
}

/// One received message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// `nlmsg_type`: `NLMSG_*` or `RTM_*`.
    pub kind: u16,
    /// `nlmsg_flags`; what a bit means depends on the type.
    pub flags: u16,
    /// `nlmsg_seq`: that of the request which it answers, 0 for news.
    pub seq: u32,
    /// What follows the 16 bytes of header, without padding.
    pub payload: &'a [u8],
}

/// The messages of one datagram, up to the first that does not parse.
pub fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = read_u32(datagram, 0)? as usize;
        let payload = datagram.get(HEADER..length)?;
        let message = Message {
            kind: read_u16(datagram, 4)?,
            flags: read_u16(datagram, 6)?,
            seq: read_u32(datagram, 8)?,
            payload,
        };
        datagram = datagram.get(align(length)..).unwrap_or(&[]);
        Some(message)
    })
}

/// The attributes of `bytes` as (type without flags, value), up to the first that does not parse.
pub fn attrs(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(read_u16(bytes, 0)?);
        let kind = read_u16(bytes, 2)? & TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(align(length)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

/// The attributes behind a fixed part of `fixed` bytes.
pub fn attrs_after(payload: &[u8], fixed: usize) -> impl Iterator<Item = (u16, &[u8])> {
    attrs(payload.get(align(fixed)..).unwrap_or(&[]))
}

/// Two bytes from offset `at` on, in host byte order. None where `bytes` ends before.
#[must_use]
pub fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

/// Four bytes from offset `at` on, in host byte order. None where `bytes` ends before.
#[must_use]
pub fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// A string attribute up to its first NUL; what is not UTF-8 is replaced.
#[must_use]
pub fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or(value)).into_owned()
}

/// What an `NLMSG_ERROR` or `NLMSG_DONE` says: the errno (0 for success) and the kernel's words, where it gave any.
#[must_use]
pub fn verdict(message: &Message<'_>) -> (i32, String) {
    let errno = read_u32(message.payload, 0).map_or(0, |code| (code as i32).saturating_neg());
    let echoed = match message.kind {
        NLMSG_ERROR if message.flags & CAPPED != 0 => HEADER,
        NLMSG_ERROR => read_u32(message.payload, 4).map_or(usize::MAX, |length| align(length as usize)),
        _ => 0,
    };
    let words = if message.flags & ACK_TLVS == 0 {
        String::new()
    } else {
        attrs_after(message.payload, echoed.saturating_add(4))
            .find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)
            .map(|(_, value)| text(value))
            .unwrap_or_default()
    };
    (errno, words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_batch_reads_back_as_the_messages_it_was_built_from() {
        let mut batch = Batch::new();
        batch.message(16, ACK, |message| message.raw(&[1, 2, 3, 4]));
        batch.message(17, CREATE | EXCL, |message| {
            message.raw(&[9; 5]);
            message.attr_str(3, "eth0");
            message.nest(2, |inner| inner.attr_u32(6, 77));
        });
        batch.number(40);

        let read: Vec<Message<'_>> = messages(batch.bytes()).collect();
        assert_eq!(read.len(), batch.len());
        assert_eq!((read[0].kind, read[0].flags, read[0].seq), (16, ACK | REQUEST, 40));
        assert_eq!(read[0].payload, [1, 2, 3, 4]);
        assert_eq!((read[1].kind, read[1].flags, read[1].seq), (17, CREATE | EXCL | REQUEST, 41));
        let found: Vec<(u16, &[u8])> = attrs_after(read[1].payload, 5).collect();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].0, text(found[0].1)), (3, "eth0".to_owned()));
        assert_eq!(attrs(found[1].1).collect::<Vec<_>>(), [(6, 77u32.to_ne_bytes().as_slice())]);
    }

    #[test]
    fn the_kernels_words_are_found_behind_an_echoed_header_and_behind_an_echoed_request() {
        let words = |flags: u16, echoed: usize| {
            let mut batch = Batch::new();
            batch.message(NLMSG_ERROR, flags, |message| {
                message.raw(&(-17i32).to_ne_bytes());
                let mut request = vec![0; echoed];
                request[..4].copy_from_slice(&(echoed as u32).to_ne_bytes());
                message.raw(&request);
                message.attr_str(NLMSGERR_ATTR_MSG, "Exclusivity flag on");
            });
            verdict(&messages(batch.bytes()).next().expect("one message"))
        };
        assert_eq!(words(CAPPED | ACK_TLVS, 16), (17, "Exclusivity flag on".to_owned()));
        assert_eq!(words(ACK_TLVS, 36), (17, "Exclusivity flag on".to_owned()));
        assert_eq!(words(0, 36), (17, String::new()));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_walk_panic_or_run_for_ever(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            for message in messages(&bytes) {
                let _ = verdict(&message);
                prop_assert!(attrs(message.payload).count() <= message.payload.len() / 4 + 1);
            }
            prop_assert!(attrs(&bytes).count() <= bytes.len() / 4 + 1);
        }

        #[test]
        fn attributes_come_back_as_written(values in proptest::collection::vec((0u16..TYPE_MASK, proptest::collection::vec(any::<u8>(), 0..90)), 0..12)) {
            let mut batch = Batch::new();
            batch.message(20, 0, |message| for (kind, value) in &values { message.attr(*kind, value) });
            let message = messages(batch.bytes()).next().expect("one message");
            let read: Vec<(u16, Vec<u8>)> = attrs(message.payload).map(|(kind, value)| (kind, value.to_vec())).collect();
            prop_assert_eq!(read, values);
        }
    }
}
