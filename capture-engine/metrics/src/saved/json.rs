//! `Saved` as JSON: read one row at a time, and what this version does not know kept as the text
//! that it was.

use super::row::Row;
use super::{FOREIGN_BYTES, Saved, legacy};
use serde::de::{DeserializeOwned, DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// JSON that is handed on as it is.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Raw(#[serde(serialize_with = "raw")] Arc<RawValue>);

fn raw<S: Serializer>(value: &Arc<RawValue>, serializer: S) -> Result<S::Ok, S::Error> {
    (**value).serialize(serializer)
}

impl Raw {
    /// `None` for what is no JSON.
    pub(super) fn of(text: &str) -> Option<Raw> {
        Some(Raw(RawValue::from_string(text.to_owned()).ok()?.into()))
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

impl Serialize for Saved {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Saved { series, exchanges, lost, expired, losses, rest, dropped: _ } = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("series", series)?;
        map.serialize_entry("exchanges", exchanges)?;
        map.serialize_entry("lost", lost)?;
        map.serialize_entry("expired", expired)?;
        map.serialize_entry("losses", losses)?;
        for (name, value) in rest {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Saved {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Saved, D::Error> {
        deserializer.deserialize_map(Reading { saved: Saved::default(), left: FOREIGN_BYTES })
    }
}

/// A `Saved` under way.
struct Reading {
    saved: Saved,
    /// Bytes of another version that may still come.
    left: usize,
}

impl Reading {
    /// Whether there is room for another version's text; counted where not.
    fn has_room(&mut self, raw: &Raw) -> bool {
        let len = raw.0.get().len();
        let fits = len <= self.left;
        if fits {
            self.left -= len;
        } else {
            self.saved.dropped += 1;
        }
        fits
    }

    fn row(&mut self, family: &str, row: Row) {
        match self.saved.series.get_mut(family) {
            Some(rows) => rows.push(row),
            None => drop(self.saved.series.insert(family.to_owned(), vec![row])),
        }
    }
}

impl<'de> Visitor<'de> for Reading {
    type Value = Saved;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("counters of an agent")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Saved, A::Error> {
        let (mut exchanges, mut lost) = (None, None);
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "series" => map.next_value_seed(Families(&mut self))?,
                // Formats 1 and 2 had the families here.
                "http" | "dns" | "tcp" | "udp" => {
                    map.next_value_seed(Rows { reading: &mut self, family: &name, legacy: true })?;
                }
                "exchanges" => exchanges = Some(map.next_value::<legacy::Counts<2>>()?.by_name(legacy::PROTOCOLS)),
                "lost" => lost = Some(map.next_value::<legacy::Counts<5>>()?.by_name(legacy::REASONS)),
                "expired" => self.saved.expired = map.next_value()?,
                "losses" => self.saved.losses = map.next_value()?,
                _ => {
                    let raw = Raw(map.next_value::<Box<RawValue>>()?.into());
                    if self.has_room(&raw) {
                        self.saved.rest.insert(name, raw);
                    }
                }
            }
        }
        self.saved.exchanges = exchanges.ok_or_else(|| A::Error::missing_field("exchanges"))?;
        self.saved.lost = lost.ok_or_else(|| A::Error::missing_field("lost"))?;
        Ok(self.saved)
    }
}

/// Rows of each family.
struct Families<'a>(&'a mut Reading);

impl<'de> DeserializeSeed<'de> for Families<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Families<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("series by family")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(family) = map.next_key::<String>()? {
            map.next_value_seed(Rows { reading: self.0, family: &family, legacy: false })?;
        }
        Ok(())
    }
}

struct Rows<'a> {
    reading: &'a mut Reading,
    family: &'a str,
    legacy: bool,
}

impl<'de> DeserializeSeed<'de> for Rows<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Rows<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("series of a family")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Rows { reading, family, legacy } = self;
        while let Some(text) = seq.next_element::<Box<RawValue>>()? {
            let text = text.get();
            let (row, left) = match (legacy, family) {
                (true, "http") => (Some(legacy::http(text).map_err(A::Error::custom)?), None),
                (true, "dns") => (Some(legacy::dns(text).map_err(A::Error::custom)?), None),
                _ => Row::read(family, text),
            };
            if let Some(row) = row {
                reading.row(family, row);
            }
            if let Some(left) = left.filter(|left| reading.has_room(left)) {
                reading.row(family, Row::Foreign(left));
            }
        }
        Ok(())
    }
}
