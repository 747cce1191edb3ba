//! The one call that there is: a stream of `FromAgent` up, and of `FromCompanion` down.

use crate::message::{FromAgent, FromCompanion};
use crate::refusal::{Reason, Refusal};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

/// `:path` of the call.
pub const PUSH: &str = "/pilotfish.join.v1.Join/Push";
/// Trailer that says why a call was refused: a word of `Reason`.
const REASON: &str = "pilotfish-reason";

/// At the agent.
#[must_use]
pub fn agent_codec() -> ProstCodec<FromAgent, FromCompanion> {
    ProstCodec::new()
}

/// At the companion.
#[must_use]
pub fn companion_codec() -> ProstCodec<FromCompanion, FromAgent> {
    ProstCodec::new()
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Status {
        let Refusal { reason, text } = refusal;
        let code = match reason {
            Reason::Token | Reason::Ended => Code::Unauthenticated,
            Reason::Node | Reason::Taken => Code::PermissionDenied,
            Reason::Busy => Code::ResourceExhausted,
            Reason::Version | Reason::Loop | Reason::Replaced => Code::FailedPrecondition,
            Reason::Protocol | Reason::Other => Code::InvalidArgument,
        };
        let mut status = Status::new(code, text);
        status.metadata_mut().insert(REASON, MetadataValue::from_static(reason.as_str()));
        status
    }
}

/// `None` for an error that is nobody's refusal.
pub(crate) fn refusal(status: &Status) -> Option<Refusal> {
    let reason = status.metadata().get(REASON)?.to_str().ok()?;
    let known = Reason::ALL.into_iter().find(|known| known.as_str() == reason);
    Some(Refusal::new(known.unwrap_or(Reason::Other), status.message()))
}
