//! The aggregated API `traffic.pilotfish.io/v1alpha1`: what a request asks for, and its answer. Knows
//! no connection and no clock.
//!
//! Discovery and schemas are constants. Rights are the API server's: it asks for them before it calls,
//! and `FrontProxy` takes calls of nobody else.

mod answer;
mod discovery;
mod finding;
mod front_proxy;
mod kind;
pub mod metrics;
mod objects;
mod request;
mod status;
mod table;
mod watch;

pub use answer::Answer;
pub use discovery::Document;
pub use front_proxy::{FrontProxy, common_name};
pub use kind::{GROUP, Kind, VERSION};
pub use objects::Object;
pub(crate) use objects::why;
pub use request::{Asked, Form, Reads, Selected};
pub use status::Failure;
pub use watch::Watch;

use crate::shown::Shown;
use serde_json::{Value, json};

/// Answers what is no watch. `version` is the resource version of the table: milliseconds of the wall
/// clock, so that those of several replicas compare.
#[must_use]
pub fn answer(asked: &Asked, shown: &Shown, version: u64) -> Answer {
    match asked {
        Asked::Document { document, accept_v2 } => discovery::answer(*document, *accept_v2),
        Asked::Objects { selected, form, .. } => {
            let objects = objects::of(selected, shown);
            match (&selected.name, form) {
                (Some(name), _) if objects.is_empty() => Failure::not_found(selected.kind, name).into(),
                (Some(_), Form::Json) => Answer::json(objects.first().map_or(Value::Null, |one| one.json(version))),
                (_, Form::Table | Form::WholeTable) => {
                    Answer::json(table::of(selected.kind, &objects, version, (true, *form == Form::WholeTable)))
                }
                (None, Form::Json) => Answer::json(json!({
                    "apiVersion": format!("{GROUP}/{VERSION}"),
                    "kind": selected.kind.list(),
                    "metadata": { "resourceVersion": version.to_string() },
                    "items": objects.iter().map(|object| object.json(version)).collect::<Vec<_>>(),
                })),
            }
        }
    }
}
