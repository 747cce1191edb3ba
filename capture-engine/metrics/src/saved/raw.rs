//! JSON of another version, kept as the text that it was.

use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;

/// JSON that is handed on as it is.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Raw(#[serde(serialize_with = "raw")] Arc<RawValue>);

fn raw<S: Serializer>(value: &Arc<RawValue>, serializer: S) -> Result<S::Ok, S::Error> {
    (**value).serialize(serializer)
}

impl From<Box<RawValue>> for Raw {
    fn from(value: Box<RawValue>) -> Raw {
        Raw(value.into())
    }
}

impl Raw {
    /// Bytes of its text.
    pub(super) fn len(&self) -> usize {
        self.0.get().len()
    }

    /// `None` for what is no JSON.
    pub(super) fn of(text: &str) -> Option<Raw> {
        Some(Raw::from(RawValue::from_string(text.to_owned()).ok()?))
    }
}

impl PartialEq for Raw {
    fn eq(&self, other: &Raw) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Eq for Raw {}

/// An object, field by field.
#[derive(Debug)]
pub(super) struct Fields(BTreeMap<String, Box<RawValue>>);

impl Fields {
    pub(super) fn read(text: &str) -> Option<Fields> {
        serde_json::from_str(text).ok().map(Fields)
    }

    /// Takes a field out. `Some(None)` where it is not there, `None` where it is something else
    /// than a `T`.
    pub(super) fn take<T: DeserializeOwned>(&mut self, name: &str) -> Option<Option<T>> {
        match self.0.remove(name) {
            None => Some(None),
            Some(field) => serde_json::from_str(field.get()).ok().map(Some),
        }
    }

    /// Puts fields in again that were taken out.
    pub(super) fn keep_from(&mut self, text: &str, names: &[&str]) {
        let Some(Fields(mut all)) = Fields::read(text) else { return };
        for name in names {
            if let Some((name, field)) = all.remove_entry(*name) {
                self.0.insert(name, field);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn raw(&self) -> Option<Raw> {
        Raw::of(&serde_json::to_string(&self.0).ok()?)
    }
}
