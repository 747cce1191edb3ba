//! What clients of Kafka and brokers say: frames by hand.
#![allow(dead_code)]

/// A frame: its length, and what it holds.
fn frame(parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&(body.len() as u32).to_be_bytes()[..], &body].concat()
}

pub fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

/// A string and bytes as flexible versions have them, shorter than 127.
pub fn compact(text: &str) -> Vec<u8> {
    [&[text.len() as u8 + 1][..], text.as_bytes()].concat()
}

fn int(number: i32) -> [u8; 4] {
    number.to_be_bytes()
}

/// A request by client `app`.
pub fn request(key: i16, version: i16, id: i32, body: &[&[u8]]) -> Vec<u8> {
    request_by("app", key, version, id, body)
}

fn request_by(client: &str, key: i16, version: i16, id: i32, body: &[&[u8]]) -> Vec<u8> {
    let head = [&key.to_be_bytes()[..], &version.to_be_bytes(), &int(id), &text(client)].concat();
    frame(&[&head, &body.concat()])
}

pub fn response(id: i32, body: &[&[u8]]) -> Vec<u8> {
    frame(&[&int(id), &body.concat()])
}

/// Version 3: the first flexible one.
pub fn api_versions(id: i32) -> Vec<u8> {
    request(18, 3, id, &[&[0], &compact("lib"), &compact("1.0"), &[0]])
}

pub fn api_versions_are(id: i32, error: i16) -> Vec<u8> {
    response(id, &[&error.to_be_bytes(), &[3, 0, 0, 0, 0, 0, 9, 0, 0, 1, 0, 4, 0, 11, 0], &int(0), &[0]])
}

/// Version 7; the broker is asked to confirm, or not (`acks` 0).
pub fn produce(id: i32, topic: &str, acks: i16, bytes: usize) -> Vec<u8> {
    let records = [&int(bytes as i32)[..], &records(bytes)].concat();
    let body = [&[0xff, 0xff][..], &acks.to_be_bytes(), &int(3000), &int(1), &text(topic), &int(1), &int(0), &records];
    request(0, 7, id, &body)
}

pub fn produced(id: i32, topic: &str, error: i16) -> Vec<u8> {
    let partition = [&int(0)[..], &error.to_be_bytes(), &[0; 24]].concat();
    response(id, &[&int(1), &text(topic), &int(1), &partition, &int(0)])
}

/// Version 11; it waits for so many milliseconds.
pub fn fetch(id: i32, topic: &str, wait: i32) -> Vec<u8> {
    let head = [&int(-1)[..], &int(wait), &int(1), &int(1 << 20), &[0], &int(0), &int(-1)].concat();
    let partition = [&int(0)[..], &int(-1), &[0; 8], &[0xff; 8], &int(1 << 20)].concat();
    request(1, 11, id, &[&head, &int(1), &text(topic), &int(1), &partition, &int(0), &text("")])
}

pub fn fetched(id: i32, topic: &str, error: i16, bytes: usize) -> Vec<u8> {
    let partition = [&int(0)[..], &error.to_be_bytes(), &[0; 24], &int(-1), &int(-1), &int(bytes as i32)].concat();
    let head = [&int(0)[..], &[0, 0], &int(0), &int(1), &text(topic), &int(1)].concat();
    response(id, &[&head, &partition, &records(bytes)])
}

/// Version 3.
pub fn heartbeat(id: i32, group: &str) -> Vec<u8> {
    request(12, 3, id, &[&text(group), &int(1), &text("member"), &[0xff, 0xff]])
}

pub fn beaten(id: i32, error: i16) -> Vec<u8> {
    response(id, &[&int(0), &error.to_be_bytes()])
}

/// Version 1.
pub fn metadata(id: i32, topic: &str) -> Vec<u8> {
    request(3, 1, id, &[&int(1), &text(topic)])
}

pub fn metadata_is(id: i32, topic: &str, error: i16) -> Vec<u8> {
    let broker = [&int(1)[..], &text("broker"), &int(9092), &[0xff, 0xff]].concat();
    let topic = [&error.to_be_bytes()[..], &text(topic), &[0], &int(0)].concat();
    response(id, &[&int(1), &broker, &int(1), &int(1), &topic])
}

/// Records that look like requests and responses themselves, of another client.
pub fn records(bytes: usize) -> Vec<u8> {
    let asked = request_by("other", 3, 1, 3, &[&int(1), &text("inner")]);
    let inner = [asked, response(3, &[&int(0), &[0, 0]])].concat();
    inner.iter().copied().cycle().take(bytes).collect()
}
