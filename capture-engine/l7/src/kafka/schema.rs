//! Walking over a message by what each version of it holds: the protocol has no tags of types, so that
//! places follow from the version alone ("Kafka protocol guide", KIP-482 for flexible versions).

/// What stands in a place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// So many bytes.
    Fixed(u8),
    /// A string, perhaps null.
    Text,
    /// Bytes or records, perhaps null.
    Blob,
    /// An array of structs, perhaps null.
    List(&'static [Field]),
    /// An array of what has no tags behind each element, perhaps null.
    Plain(&'static [Field]),
    /// A code of an error, 16 bits.
    Error,
    /// The name of a topic, and the id of the one that was named last, or is not named.
    Topic,
    TopicId,
    /// The name of a consumer group.
    Group,
    /// How many replicas are to confirm, 16 bits: 0 asks for no answer.
    Acks,
    /// How long, in milliseconds, and for how many bytes the server is to wait. 32 bits each.
    MaxWait,
    MinBytes,
    /// What follows is not looked at.
    Stop,
}

/// A place, and the versions that have it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    kind: Kind,
    from: i16,
    to: i16,
}

/// In all versions.
pub(super) const fn all(kind: Kind) -> Field {
    Field { kind, from: 0, to: i16::MAX }
}

/// From a version on.
pub(super) const fn since(from: i16, kind: Kind) -> Field {
    Field { kind, from, to: i16::MAX }
}

/// Up to a version.
pub(super) const fn until(to: i16, kind: Kind) -> Field {
    Field { kind, from: 0, to }
}

/// In some versions.
pub(super) const fn within(from: i16, to: i16, kind: Kind) -> Field {
    Field { kind, from, to }
}

/// Names of topics have no more characters, and no others (Kafka's `Topic.java`).
const LONGEST_TOPIC: usize = 249;

/// Names of groups that are told are no longer.
const LONGEST_GROUP: usize = 255;

/// What was found on the way.
#[derive(Debug, Default)]
pub(super) struct Seen<'a> {
    /// The first code that is one of an error.
    pub error: i16,
    /// Places of codes that were seen.
    pub codes: u32,
    /// The first topic's name or id, and how many there were.
    pub topic: Option<&'a str>,
    pub topic_id: Option<u128>,
    pub topics: u32,
    pub group: Option<&'a str>,
    pub acks: Option<i16>,
    pub max_wait: Option<i32>,
    pub min_bytes: Option<i32>,
    /// Topics that have both: what a server tells of its topics.
    pub named: Vec<(u128, &'a str)>,
}

/// How far a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// To its last byte.
    Whole,
    /// As far as it is known, or was wanted.
    Part,
    /// It is no such message.
    Broken,
}

/// Topics of one message of which id and name are kept.
const MOST_NAMED: usize = 64;

/// A message of `length` bytes, of which the first ones are here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: u64,
    length: u64,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], length: u64) -> Cursor<'a> {
        Cursor { bytes, at: 0, length }
    }

    fn skip(&mut self, bytes: u64) -> Result<(), End> {
        self.at = self.at.checked_add(bytes).filter(|at| *at <= self.length).ok_or(End::Broken)?;
        Ok(())
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], End> {
        let from = self.at;
        self.skip(bytes as u64)?;
        let from = usize::try_from(from).map_err(|_| End::Part)?;
        self.bytes.get(from..from + bytes).ok_or(End::Part)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], End> {
        self.take(N)?.try_into().map_err(|_| End::Broken)
    }

    pub(super) fn i16(&mut self) -> Result<i16, End> {
        Ok(i16::from_be_bytes(self.number()?))
    }

    pub(super) fn i32(&mut self) -> Result<i32, End> {
        Ok(i32::from_be_bytes(self.number()?))
    }

    fn varint(&mut self) -> Result<u32, End> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.number()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(End::Broken)
    }

    /// A length; `None` for null. `wide`: of 32 bits where it is no varint.
    fn length(&mut self, flexible: bool, wide: bool) -> Result<Option<u32>, End> {
        let length = match (flexible, wide) {
            (true, _) => i64::from(self.varint()?) - 1,
            (false, true) => i64::from(self.i32()?),
            (false, false) => i64::from(self.i16()?),
        };
        match length {
            -1 => Ok(None),
            length => u32::try_from(length).map(Some).map_err(|_| End::Broken),
        }
    }

    pub(super) fn text(&mut self, flexible: bool) -> Result<Option<&'a [u8]>, End> {
        let Some(length) = self.length(flexible, false)? else { return Ok(None) };
        self.take(length as usize).map(Some)
    }

    /// Passes over the tagged fields behind a struct.
    pub(super) fn tags(&mut self) -> Result<(), End> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let size = self.varint()?;
            self.skip(u64::from(size))?;
        }
        Ok(())
    }

    /// Walks to the end of the message.
    pub(super) fn walk(mut self, fields: &[Field], version: i16, flexible: bool, seen: &mut Seen<'a>) -> End {
        match self.fields(fields, version, flexible, flexible, seen) {
            Ok(()) if self.at == self.length => End::Whole,
            // A newer broker may have more to say.
            Ok(()) => End::Broken,
            Err(end) => end,
        }
    }

    fn fields(
        &mut self,
        fields: &[Field],
        version: i16,
        flexible: bool,
        tagged: bool,
        seen: &mut Seen<'a>,
    ) -> Result<(), End> {
        let mut name = None;
        for field in fields.iter().filter(|field| (field.from..=field.to).contains(&version)) {
            match field.kind {
                Kind::Fixed(bytes) => self.skip(u64::from(bytes))?,
                Kind::Text => {
                    let length = self.length(flexible, false)?.unwrap_or(0);
                    self.skip(u64::from(length))?;
                }
                Kind::Blob => {
                    let length = self.length(flexible, true)?.unwrap_or(0);
                    self.skip(u64::from(length))?;
                }
                Kind::List(of) => self.list(of, version, flexible, flexible, seen)?,
                Kind::Plain(of) => self.list(of, version, flexible, false, seen)?,
                Kind::Error => {
                    let code = self.i16()?;
                    seen.codes += 1;
                    if seen.error == 0 {
                        seen.error = code;
                    }
                }
                Kind::Topic => {
                    name = self.text(flexible)?;
                    seen.topics += u32::from(name.is_some());
                    if let Some(name) = name {
                        seen.topic = seen.topic.or(Some(topic(name).ok_or(End::Broken)?));
                    }
                }
                Kind::TopicId => {
                    let id = u128::from_be_bytes(self.number()?);
                    match name.and_then(topic) {
                        Some(name) if id != 0 && seen.named.len() < MOST_NAMED => seen.named.push((id, name)),
                        Some(_) => {}
                        None => {
                            seen.topics += 1;
                            seen.topic_id = seen.topic_id.or(Some(id));
                        }
                    }
                }
                Kind::Group => {
                    let group = self.text(flexible)?.and_then(|group| std::str::from_utf8(group).ok());
                    let is_shown = |group: &&str| group.len() <= LONGEST_GROUP && !group.contains(char::is_control);
                    seen.group = seen.group.or(group.filter(is_shown));
                }
                Kind::Acks => {
                    let acks = self.i16()?;
                    if !(-1..=1).contains(&acks) {
                        return Err(End::Broken);
                    }
                    seen.acks = Some(acks);
                }
                Kind::MaxWait => seen.max_wait = Some(self.i32()?),
                Kind::MinBytes => seen.min_bytes = Some(self.i32()?),
                Kind::Stop => return Err(End::Part),
            }
        }
        if tagged { self.tags() } else { Ok(()) }
    }

    fn list(
        &mut self,
        of: &[Field],
        version: i16,
        flexible: bool,
        tagged: bool,
        seen: &mut Seen<'a>,
    ) -> Result<(), End> {
        let count = self.length(flexible, true)?.unwrap_or(0);
        // Each has one byte at least.
        if u64::from(count) > self.length.saturating_sub(self.at) {
            return Err(End::Broken);
        }
        for _ in 0..count {
            let from = self.at;
            if from < self.length && from >= self.bytes.len() as u64 {
                // Nothing of the others is here, and there may be millions.
                return Err(End::Part);
            }
            self.fields(of, version, flexible, tagged, seen)?;
            if self.at == from {
                return Err(End::Broken);
            }
        }
        Ok(())
    }
}

/// The name of a topic, where it is one that a topic can have.
fn topic(name: &[u8]) -> Option<&str> {
    let is_legal = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let is_topic = (1..=LONGEST_TOPIC).contains(&name.len()) && name.iter().all(is_legal);
    std::str::from_utf8(name).ok().filter(|_| is_topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &[Field] =
        &[since(1, Kind::Fixed(4)), all(Kind::List(&[all(Kind::Topic), all(Kind::Plain(&[all(Kind::Error)]))]))];

    const NUMBERS: &[Field] = &[all(Kind::Plain(&[all(Kind::Fixed(1))]))];

    fn walk(bytes: &[u8], length: usize, version: i16, flexible: bool) -> (End, i16, u32) {
        let mut seen = Seen::default();
        let end = Cursor::new(bytes, length as u64).walk(FIELDS, version, flexible, &mut seen);
        (end, seen.error, seen.topics)
    }

    #[test]
    fn places_follow_from_the_version() {
        let old = b"\0\0\0\x02\0\x01a\0\0\0\x01\0\0\0\x01b\0\0\0\x02\0\x05\0\x07";
        assert_eq!(walk(old, old.len(), 0, false), (End::Whole, 5, 2));
        let newer = [&b"\0\0\0\0"[..], old].concat();
        assert_eq!(walk(&newer, newer.len(), 1, false), (End::Whole, 5, 2));
        let flexible = b"\0\0\0\0\x02\x02a\x02\0\x03\0\x01\x09\x02xy";
        assert_eq!(walk(flexible, flexible.len(), 2, true), (End::Whole, 3, 1));
    }

    #[test]
    fn what_is_not_there_is_not_read() {
        let all = b"\0\0\0\x02\0\x01a\0\0\0\x01\0\0\0\x01b\0\0\0\x02\0\x05\0\x07";
        for end in 0..all.len() {
            assert_eq!(walk(&all[..end], all.len(), 0, false).0, End::Part, "{end}");
            assert_eq!(walk(&all[..end], end, 0, false).0, End::Broken, "{end}");
        }
        assert_eq!(walk(b"\x7f\xff\xff\xff\0\x01a", 7, 0, false).0, End::Broken, "no more elements than bytes");
        assert_eq!(walk(b"\0\0\0\x01\0\x02a/\0\0\0\0", 12, 0, false).0, End::Broken, "no name of a topic");
        assert_eq!(walk(&[0xff; 40], 40, 2, true).0, End::Broken);
        // Numbers that are only passed over cost nothing behind what is here.
        let (mut seen, length) = (Seen::default(), 1_u32 << 28);
        let bytes = (length - 4).to_be_bytes();
        assert_eq!(Cursor::new(&bytes, u64::from(length)).walk(NUMBERS, 0, false, &mut seen), End::Part);
    }
}
