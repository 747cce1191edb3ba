//! `Saved` as JSON: read one row at a time, and what this version does not know kept as the text
//! that it was.

use super::legacy;
use super::raw::Raw;
use super::row::Row;
use super::words::{FOREIGN_BYTES, Saved};
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use std::fmt;

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
        let len = raw.len();
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
                    let raw = Raw::from(map.next_value::<Box<RawValue>>()?);
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
