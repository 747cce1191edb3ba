use crate::container::{ContainerRef, LinkId};
use crate::counts::EventCounts;
use crate::event::TaskEvent;
use crate::name::Labels;
use crate::news::ExitStatus;
use containerd_client::events::{
    ContainerDelete, ContainerUpdate, NamespaceUpdate, TaskCreate, TaskDelete, TaskExit, TaskOom, TaskStart,
};
use containerd_client::types::Envelope;
use prost::Message;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// An envelope of the event stream, understood.
#[derive(Debug)]
pub enum Decoded {
    Event(TaskEvent),
    /// Our own marker, with its number.
    Marker(u64),
    Nothing,
}

/// Reads `envelope` and counts it by topic. What cannot be read is counted and dropped.
pub fn decode(link: LinkId, envelope: Envelope, marker_topic: &str, counts: &mut EventCounts) -> Decoded {
    let Envelope { namespace, topic, event, timestamp, .. } = envelope;
    let (value, namespace) = (event.map(|event| event.value).unwrap_or_default(), Arc::<str>::from(namespace));
    if topic == marker_topic {
        let number = NamespaceUpdate::decode(&*value).ok().and_then(|event| event.name.parse().ok());
        return number.map_or(Decoded::Nothing, Decoded::Marker);
    }
    let of = |id: String| ContainerRef { link, namespace, id: id.into() };
    let (count, event) = match &*topic {
        "/tasks/create" => (
            &mut counts.create,
            TaskCreate::decode(&*value)
                .map(|event| TaskEvent::Created { container: of(event.container_id), pid: event.pid }),
        ),
        "/tasks/start" => (
            &mut counts.start,
            TaskStart::decode(&*value)
                .map(|event| TaskEvent::Started { container: of(event.container_id), pid: event.pid }),
        ),
        "/tasks/exit" => (
            &mut counts.exit,
            TaskExit::decode(&*value).map(|event| TaskEvent::Exited {
                container: of(event.container_id),
                process: event.id,
                pid: event.pid,
                exit: Some(ExitStatus {
                    code: event.exit_status,
                    at: event.exited_at.and_then(|at| moment(at.seconds, at.nanos)),
                }),
            }),
        ),
        "/tasks/oom" => (
            &mut counts.oom,
            TaskOom::decode(&*value).map(|event| TaskEvent::OutOfMemory {
                container: of(event.container_id),
                at: timestamp.and_then(|at| moment(at.seconds, at.nanos)),
            }),
        ),
        "/tasks/delete" => (
            &mut counts.delete,
            TaskDelete::decode(&*value).map(|event| TaskEvent::Deleted {
                container: of(event.container_id),
                process: event.id,
                pid: event.pid,
                exit: Some(ExitStatus {
                    code: event.exit_status,
                    at: event.exited_at.and_then(|at| moment(at.seconds, at.nanos)),
                }),
            }),
        ),
        "/containers/update" => (
            &mut counts.update,
            ContainerUpdate::decode(&*value)
                .map(|event| TaskEvent::Labels { container: of(event.id), labels: Labels::pick(&event.labels) }),
        ),
        "/containers/delete" => (
            &mut counts.remove,
            ContainerDelete::decode(&*value).map(|event| TaskEvent::Removed { container: of(event.id) }),
        ),
        _ => {
            counts.other += 1;
            return Decoded::Nothing;
        }
    };
    *count += 1;
    match event {
        Ok(event) => Decoded::Event(event),
        Err(error) => {
            counts.undecodable += 1;
            tracing::debug!(%topic, %error, "an event could not be decoded");
            Decoded::Nothing
        }
    }
}

/// Of protobuf's Timestamp. None for one from before 1970: containerd leaves out what it does not know.
fn moment(seconds: i64, nanos: i32) -> Option<SystemTime> {
    let since = Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanos).ok()?);
    SystemTime::UNIX_EPOCH.checked_add(since)
}
