//! Bytes of the API server to changes of the table. Bytes that make no sense are counted by whoever
//! asks; they are never fatal.

mod container;
mod lines;
mod probes;
mod time;
mod trimmed;

pub use lines::{Line, Lines};
pub use trimmed::Bad;

use crate::cluster::object::{Object, Resource, Uid};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use trimmed::{EndpointSliceJson, JobJson, Metadata, NodeJson, PodJson, ServiceJson, Trimmed};

/// What one line of a watch says.
#[derive(Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and nearly all are the large one")]
pub enum Event {
    /// ADDED (`is_new`) or MODIFIED, at this version.
    Applied {
        object: Object,
        version: Option<String>,
        is_new: bool,
    },
    Deleted(Uid, Option<String>),
    /// Nothing before this version is still to come.
    Bookmark {
        version: String,
        ends_initial_events: bool,
    },
    /// The stream's own error: a `Status`.
    Error(Status),
    /// An object that is not taken in; its version still counts.
    Skipped(Bad, Option<String>),
}

/// `metav1.Status`, the part that decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Status {
    pub code: u16,
    pub reason: String,
    pub message: String,
}

impl Status {
    /// From the body of a refusal; what is no `Status` is quoted. At most 300 bytes, whatever was sent.
    #[must_use]
    pub fn of_body(code: u16, body: &[u8]) -> Status {
        let parsed = serde_json::from_slice::<Status>(body).ok().filter(|status| status.code != 0);
        let status = parsed.unwrap_or_else(|| Status {
            code,
            reason: String::new(),
            message: String::from_utf8_lossy(body.get(..300).unwrap_or(body)).trim().to_owned(),
        });
        // The code of the answer's head is what the connection agreed on.
        Status { code, ..status }.shortened()
    }

    fn shortened(mut self) -> Status {
        for text in [&mut self.reason, &mut self.message] {
            let cut = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= 300).last().unwrap_or(0);
            if text.len() > 300 {
                text.truncate(cut);
            }
        }
        self
    }
}

#[derive(Deserialize)]
struct Direct<'a, T> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    object: T,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct OnlyMetadata<'a> {
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
}

/// One line of a watch on `resource`.
#[must_use]
pub fn event(resource: Resource, line: &[u8]) -> Event {
    match resource {
        Resource::Pods => event_of::<PodJson<'_>>(line),
        Resource::Services => event_of::<ServiceJson<'_>>(line),
        Resource::EndpointSlices => event_of::<EndpointSliceJson<'_>>(line),
        Resource::Nodes => event_of::<NodeJson<'_>>(line),
        Resource::Jobs => event_of::<JobJson<'_>>(line),
    }
}

/// One item of a list of `resource`.
pub fn item(resource: Resource, json: &str) -> Result<Object, Bad> {
    match resource {
        Resource::Pods => item_of::<PodJson<'_>>(json),
        Resource::Services => item_of::<ServiceJson<'_>>(json),
        Resource::EndpointSlices => item_of::<EndpointSliceJson<'_>>(json),
        Resource::Nodes => item_of::<NodeJson<'_>>(json),
        Resource::Jobs => item_of::<JobJson<'_>>(json),
    }
}

fn item_of<'a, T: Trimmed<'a>>(json: &'a str) -> Result<Object, Bad> {
    serde_json::from_str::<T>(json).map_err(|_| Bad::Malformed)?.into_object()
}

fn event_of<'a, T: Trimmed<'a>>(line: &'a [u8]) -> Event {
    // Nearly all lines are changes of good objects: read once. Everything else is read again, in two steps.
    match serde_json::from_slice::<Direct<'a, T>>(line) {
        Ok(Direct { kind, object }) if matches!(&*kind, "ADDED" | "MODIFIED" | "DELETED") => change(&kind, object),
        _ => rare::<T>(line),
    }
}

fn change<'a, T: Trimmed<'a>>(kind: &str, object: T) -> Event {
    let version = version(object.metadata());
    if kind == "DELETED" {
        return match object.uid() {
            Ok(uid) => Event::Deleted(uid, version),
            Err(bad) => Event::Skipped(bad, version),
        };
    }
    match object.into_object() {
        Ok(object) => Event::Applied { object, version, is_new: kind == "ADDED" },
        Err(bad) => Event::Skipped(bad, version),
    }
}

fn version(metadata: &Metadata<'_>) -> Option<String> {
    // A version is opaque but short; 64 bytes are three times the longest that any store writes.
    metadata.resource_version.as_deref().filter(|text| !text.is_empty() && text.len() <= 64).map(str::to_owned)
}

fn rare<'a, T: Trimmed<'a>>(line: &'a [u8]) -> Event {
    let Ok(Envelope { kind, object }) = serde_json::from_slice::<Envelope<'a>>(line) else {
        // A gateway may end a stream with a bare `Status`.
        return match serde_json::from_slice::<Status>(line) {
            Ok(status) if status.code >= 400 => Event::Error(status.shortened()),
            _ => Event::Skipped(Bad::Malformed, None),
        };
    };
    let metadata = serde_json::from_str::<OnlyMetadata<'a>>(object.get()).map(|only| only.metadata).unwrap_or_default();
    let at = version(&metadata);
    match &*kind {
        "BOOKMARK" => match at {
            Some(version) => {
                let mark = metadata.annotations.and_then(|notes| notes.initial_events_end);
                Event::Bookmark { version, ends_initial_events: mark.as_deref() == Some("true") }
            }
            None => Event::Skipped(Bad::Malformed, None),
        },
        "ERROR" => Event::Error(serde_json::from_str::<Status>(object.get()).unwrap_or_default().shortened()),
        "ADDED" | "MODIFIED" | "DELETED" => match serde_json::from_str::<T>(object.get()) {
            Ok(object) => change(&kind, object),
            // What is gone needs no more than its uid.
            Err(_) => match metadata.uid.as_deref().and_then(Uid::parse) {
                Some(uid) if kind == "DELETED" => Event::Deleted(uid, at),
                _ => Event::Skipped(Bad::Malformed, at),
            },
        },
        _ => Event::Skipped(Bad::Malformed, at),
    }
}

/// One page of a list.
#[derive(Debug)]
pub struct Page {
    pub objects: Vec<Object>,
    pub skipped: Vec<Bad>,
    /// Of the list as a whole; the same on all its pages.
    pub version: String,
    /// Where the next page begins.
    pub next: Option<String>,
    pub remaining: Option<u64>,
}

#[derive(Deserialize)]
struct PageJson<'a> {
    #[serde(borrow, default)]
    metadata: PageMetadata<'a>,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata<'a> {
    #[serde(borrow, default)]
    resource_version: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "continue")]
    next: Option<Cow<'a, str>>,
    #[serde(default)]
    remaining_item_count: Option<i64>,
}

/// Fails only where the page as a whole is no list: its objects are bad one by one.
pub fn page(resource: Resource, body: &[u8]) -> Result<Page, Bad> {
    let PageJson { metadata, items } = serde_json::from_slice(body).map_err(|_| Bad::Malformed)?;
    let given = |text: Option<Cow<'_, str>>| text.filter(|text| !text.is_empty()).map(Cow::into_owned);
    let mut page = Page {
        objects: Vec::with_capacity(items.as_ref().map_or(0, Vec::len)),
        skipped: Vec::new(),
        version: given(metadata.resource_version).filter(|version| version.len() <= 64).ok_or(Bad::Malformed)?,
        next: given(metadata.next),
        remaining: metadata.remaining_item_count.and_then(|count| u64::try_from(count).ok()),
    };
    for json in items.unwrap_or_default() {
        match item(resource, json.get()) {
            Ok(object) => page.objects.push(object),
            Err(bad) => page.skipped.push(bad),
        }
    }
    Ok(page)
}

#[cfg(test)]
mod tests;
