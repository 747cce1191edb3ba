//! Objects as they change: each table is compared with the one before.

use super::objects::{self, Object};
use super::request::{Form, Selected};
use super::table;
use crate::shown::Shown;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One client's.
#[derive(Debug)]
pub struct Watch {
    selected: Selected,
    form: Form,
    known: BTreeMap<(String, String), Object>,
    named: bool,
}

impl Watch {
    /// Begins with this table. A client that has nothing gets all of it first.
    #[must_use]
    pub fn new(selected: Selected, form: Form, from_nothing: bool, shown: &Shown) -> Watch {
        let mut watch = Watch { selected, form, known: BTreeMap::new(), named: false };
        if !from_nothing {
            watch.known = watch.read(shown);
        }
        watch
    }

    fn read(&self, shown: &Shown) -> BTreeMap<(String, String), Object> {
        let objects = objects::of(&self.selected, shown).into_iter();
        objects.map(|object| ((object.namespace.clone(), object.name.clone()), object)).collect()
    }

    /// What changed since the last table.
    pub fn events(&mut self, shown: &Shown, version: u64) -> Vec<Value> {
        let now = self.read(shown);
        let before = std::mem::take(&mut self.known);
        let mut events = Vec::new();
        for (place, object) in &now {
            match before.get(place) {
                None => events.push(("ADDED", object)),
                Some(known) if known != object => events.push(("MODIFIED", object)),
                Some(_) => {}
            }
        }
        let gone = before.iter().filter(|(place, _)| !now.contains_key(*place));
        events.extend(gone.map(|(_, object)| ("DELETED", object)));
        let events = events.into_iter().map(|(kind, object)| self.event(kind, object, version)).collect();
        self.known = now;
        events
    }

    fn event(&mut self, kind: &str, object: &Object, version: u64) -> Value {
        let object = match self.form {
            Form::Json => object.json(version),
            Form::Table | Form::WholeTable => {
                let named = !std::mem::replace(&mut self.named, true);
                table::of(
                    self.selected.kind,
                    std::slice::from_ref(object),
                    version,
                    (named, self.form == Form::WholeTable),
                )
            }
        };
        json!({ "type": kind, "object": object })
    }
}
