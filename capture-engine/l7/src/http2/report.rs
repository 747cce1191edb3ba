//! What is told of a stream when it ends.

use super::grpc;
use super::open::{Asked, Flags, Open, Request};
use crate::Out;
use flow_model::{Detail, HttpExchange, L7Record, LossReason, Notes, Outcome, Protocol, Ts};
use std::borrow::Cow;

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The server has said all.
    Whole,
    /// Its code, where it was seen.
    Reset { error: Option<u32>, by_client: bool },
    /// The server says that it has not looked at it.
    Refused,
    /// With the connection.
    Closed,
    /// As far as it was captured.
    CutOff,
    /// As far as anybody knows: the connection's end was not seen.
    Untold,
}

pub(super) fn report<O: Out>(open: Open, at: Ts, ended: Ended, out: &mut O) {
    let is_call = match &open.asked {
        Asked::Call(_) => true,
        Asked::Full(request) => request.call.is_some() && open.flags.has(Flags::GRPC),
        Asked::Method(..) => open.flags.has(Flags::STRAY) && open.flags.has(Flags::GRPC),
    };
    let over = matches!(ended, Ended::Closed | Ended::CutOff | Ended::Untold);
    let lost = if over && open.flags.has(Flags::DOUBT) {
        // Its end was in what was missed, or it had none.
        Some(LossReason::Gap)
    } else if ended == Ended::Untold {
        Some(LossReason::Unfinished)
    } else {
        // An answer without a head: that was in what was missed. A call's status is told without one.
        let is_told = open.answered.is_some() || is_call && open.grpc_status.is_some();
        (ended == Ended::Whole && !is_told).then_some(LossReason::Gap)
    };
    if let Some(reason) = lost {
        return out.lost(reason, 1);
    }
    let mut notes = open.notes;
    if open.flags.has(Flags::GAP) {
        notes.add(Notes::GAP);
    }
    let is_answered = match ended {
        Ended::Whole => true,
        // A client that gives up before anything came: nobody answered it.
        // Nor does a server that cancels: the deadline of the call has passed at one end, or at both.
        Ended::Reset { error, by_client } => {
            open.answered.is_some() || is_call && !by_client && error != Some(grpc::CANCEL)
        }
        Ended::Refused => false,
        Ended::CutOff => open.answered.is_some(),
        Ended::Closed | Ended::Untold => !is_call && open.answered.is_some(),
    };
    if is_answered && ended != Ended::Whole {
        notes.add(Notes::END_ASSUMED);
    }
    let end = if is_answered && over { open.last } else { at.max(open.last) };
    let http_status = open.status.filter(|status| (100..1000).contains(status));
    let (protocol, detail) = if is_call {
        let status = if is_answered { call_status(&open, ended) } else { Cow::Borrowed("") };
        let call = match open.asked {
            Asked::Call(call) => call,
            Asked::Full(request) => request.call.unwrap_or_default(),
            Asked::Method(..) => grpc::Call::default(),
        };
        (Protocol::Grpc, Detail::Rpc(call.record(status, http_status)))
    } else {
        let Request { method, target, host, route, .. } = match open.asked {
            Asked::Full(request) => *request,
            Asked::Method(method, route) => Request { method, route, ..Request::default() },
            Asked::Call(_) => Request::default(),
        };
        let detail = HttpExchange { method, target, host, route, status: http_status, version: "2" };
        (Protocol::Http2, Detail::Http(detail))
    };
    out.record(L7Record {
        protocol,
        start: open.start,
        response_start: open.answered,
        // When what was missed has passed, nobody knows: not before what was seen.
        end: end.max(open.start).max(open.answered.unwrap_or_default()),
        request_bytes: open.request_bytes,
        response_bytes: open.response_bytes,
        outcome: if is_answered { Outcome::Answered } else { Outcome::Unanswered },
        notes,
        detail,
    });
}

/// The status of a call. Empty where a field that was not known may have said it.
fn call_status(open: &Open, ended: Ended) -> Cow<'static, str> {
    match (open.grpc_status, ended) {
        (Some(status), _) => grpc::code(status),
        (None, Ended::Reset { error, .. }) => Cow::Borrowed(grpc::of_reset(error)),
        // What ends it may say so yet.
        (None, Ended::CutOff) if open.status == Some(200) => Cow::Borrowed(""),
        (None, _) if open.flags.has(Flags::UNKNOWN) || open.flags.has(Flags::GAP) => Cow::Borrowed(""),
        (None, _) => Cow::Borrowed(grpc::of_http(open.status.unwrap_or_default())),
    }
}
