//! What two ends say to each other in a made capture: pieces of HTTP/1 and DNS, right ones and
//! wrong ones. The same number always gives the same dialogue.

/// A small generator of numbers (xorshift64*), so that a capture is known by its number alone.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u32) -> Dice {
        Dice(0x9e37_79b9_7f4a_7c15 ^ u64::from(seed).wrapping_add(1).wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// Below `sides`, which is not 0.
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(high).unwrap_or(0) % sides
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.roll(100) < percent
    }

    pub fn one_of<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.roll(of.len())]
    }
}

/// Bytes that one end sends at once.
#[derive(Clone, Debug)]
pub struct Said {
    pub by_client: bool,
    pub bytes: Vec<u8>,
}

pub fn client(bytes: impl Into<Vec<u8>>) -> Said {
    Said { by_client: true, bytes: bytes.into() }
}

pub fn server(bytes: impl Into<Vec<u8>>) -> Said {
    Said { by_client: false, bytes: bytes.into() }
}

/// A connection's worth of HTTP/1: kept alive or not, pipelined now and then.
pub fn http(dice: &mut Dice) -> Vec<Said> {
    let mut said = Vec::new();
    for _ in 0..1 + dice.roll(12) {
        let pipelined = if dice.chance(15) { 2 + dice.roll(3) } else { 1 };
        let mut answers = Vec::new();
        for _ in 0..pipelined {
            let (request, answer) = http_exchange(dice);
            said.extend(pieces(dice, true, &request));
            answers.push(answer);
        }
        for answer in answers {
            said.extend(pieces(dice, false, &answer));
        }
    }
    said
}

fn http_exchange(dice: &mut Dice) -> (Vec<u8>, Vec<u8>) {
    let method = dice.one_of(&["GET", "GET", "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "BREW"]);
    let path = dice.one_of(&["/", "/items/17", "/search?q=a%20b", "/a/very/long/path/that/goes/on", "*", "http://x/y"]);
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: api.test\r\nUser-Agent: made/1\r\n");
    if dice.chance(10) {
        request += "Expect: 100-continue\r\n";
    }
    let upgrade = dice.chance(3);
    if upgrade {
        request += "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    }
    let sends_body = ["POST", "PUT", "PATCH"].contains(&method);
    let mut request = request.into_bytes();
    body(dice, &mut request, sends_body, true);

    let status = dice.one_of(&[
        "200 OK",
        "200 OK",
        "201 Created",
        "204 No Content",
        "301 Moved",
        "304 Not Modified",
        "404 Not Found",
    ]);
    let status = if dice.chance(15) { dice.one_of(&["500 Oops", "503 Busy", "999 Strange", "200"]) } else { status };
    let status = if upgrade { "101 Switching Protocols" } else { status };
    let version = dice.one_of(&["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0"]);
    let mut answer = Vec::new();
    if dice.chance(5) {
        answer.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    answer.extend_from_slice(format!("{version} {status}\r\nServer: made\r\n").as_bytes());
    let has_body = method != "HEAD" && !["204", "304", "101"].iter().any(|none| status.starts_with(none));
    body(dice, &mut answer, has_body, false);
    if upgrade {
        answer.extend_from_slice(b"\x81\x05hello");
    }
    if dice.chance(2) {
        answer = b"this is no HTTP at all\r\n".to_vec();
    }
    (request, answer)
}

/// The rest of a head, and the body that it promises.
fn body(dice: &mut Dice, message: &mut Vec<u8>, is_there: bool, must_be_framed: bool) {
    let length = if dice.chance(10) { 3000 + dice.roll(40_000) } else { dice.roll(600) };
    let bytes: Vec<u8> = b"0123456789abcdef".iter().copied().cycle().take(length).collect();
    if !is_there {
        message.extend_from_slice(if must_be_framed { b"\r\n" } else { b"Content-Length: 0\r\n\r\n" });
    } else if dice.chance(30) {
        message.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
        for chunk in bytes.chunks(1 + dice.roll(500)) {
            message.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            message.extend_from_slice(chunk);
            message.extend_from_slice(b"\r\n");
        }
        message.extend_from_slice(b"0\r\n\r\n");
    } else if !must_be_framed && dice.chance(5) {
        // Until the connection's end.
        message.extend_from_slice(b"\r\n");
        message.extend_from_slice(&bytes);
    } else {
        message.extend_from_slice(format!("Content-Length: {length}\r\n\r\n").as_bytes());
        message.extend_from_slice(&bytes);
    }
}

/// A message in the segments that a stack may cut it into.
fn pieces(dice: &mut Dice, by_client: bool, message: &[u8]) -> Vec<Said> {
    let size = *dice.one_of(&[&1448, &1448, &1448, &300, &17]);
    message.chunks(size.max(message.len() / 60)).map(|bytes| Said { by_client, bytes: bytes.to_vec() }).collect()
}

/// Questions and answers as datagrams carry them.
pub fn dns(dice: &mut Dice) -> Vec<Said> {
    let mut said = Vec::new();
    for _ in 0..1 + dice.roll(20) {
        let (question, answer) = dns_exchange(dice);
        said.push(client(question.clone()));
        if dice.chance(10) {
            said.push(client(question));
        }
        if dice.chance(90) {
            said.push(server(answer));
        }
        if dice.chance(3) {
            said.push(client(vec![0xff; 9]));
        }
    }
    said
}

/// The same over TCP: a length before each.
pub fn dns_stream(dice: &mut Dice) -> Vec<Said> {
    let framed = |said: Said| {
        let length = u16::try_from(said.bytes.len()).unwrap_or(u16::MAX);
        Said { bytes: [&length.to_be_bytes(), said.bytes.as_slice()].concat(), ..said }
    };
    dns(dice).into_iter().map(framed).collect()
}

fn dns_exchange(dice: &mut Dice) -> (Vec<u8>, Vec<u8>) {
    let id = u16::try_from(dice.roll(65_536)).unwrap_or(0).to_be_bytes();
    let name = dice.one_of(&["api.test", "www.api.test", "missing.test", "a.very.long.name.of.some.service.example"]);
    let mut asked = Vec::new();
    for label in name.split('.') {
        asked.push(u8::try_from(label.len()).unwrap_or(63));
        asked.extend_from_slice(label.as_bytes());
    }
    let kind = *dice.one_of(&[&1_u8, &28, &15, &16, &33, &65, &255]);
    asked.extend_from_slice(&[0, 0, kind, 0, 1]);
    let head = |flags: [u8; 2], answers: u8| [&id[..], &flags, &[0, 1, 0, answers, 0, 0, 0, 0]].concat();
    let question = [head([1, 0], 0), asked.clone()].concat();
    let rcode = *dice.one_of(&[&0_u8, &0, &0, &2, &3, &5, &11]);
    let mut answer = [head([0x81, 0x80 | rcode], u8::from(rcode == 0 && kind == 1)), asked].concat();
    if rcode == 0 && kind == 1 {
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 9, 8, 7]);
    }
    (question, answer)
}

/// Bytes of no protocol that is read.
pub fn other(dice: &mut Dice) -> Vec<Said> {
    let mut said = Vec::new();
    for _ in 0..1 + dice.roll(10) {
        let bytes: Vec<u8> = (0..1 + dice.roll(300)).map(|_| u8::try_from(dice.roll(256)).unwrap_or(0)).collect();
        said.push(if dice.chance(50) { client(bytes) } else { server(bytes) });
        if dice.chance(50) {
            said.extend([client("*1\r\n$4\r\nPING\r\n"), server("+PONG\r\n")]);
        }
    }
    said
}
