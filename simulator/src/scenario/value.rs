//! How each kind of value is read from a document and written to one.

use std::time::Duration;

use super::tree::{Doc, Item, Node, Wrong, nearest, quoted};
use super::units::{self, Rate, Share, Size};

/// Something that a key of a scenario can have.
pub(crate) trait Value: Sized + PartialEq {
    /// Reads it; what the document leaves open is as in `base`.
    fn read(item: &Item, base: &Self) -> Result<Self, Wrong>;

    /// What is to be written so that it reads back equal; of a table what is not as in `base`.
    fn write(&self, base: &Self) -> Doc;

    /// The same, or nothing where it is as in `base`.
    fn write_change(&self, base: &Self) -> Option<Doc> {
        (self != base).then(|| self.write(base))
    }
}

/// A table being read.
pub(crate) struct Fields<'a> {
    item: &'a Item,
    entries: &'a [(String, Item)],
}

impl<'a> Fields<'a> {
    /// The fields of a table that has these and no others.
    pub(crate) fn of(item: &'a Item, known: &[&'static str]) -> Result<Self, Wrong> {
        let Node::Table(entries) = &item.node else {
            return Err(item.not("a table"));
        };
        let known: Vec<String> = known.iter().map(|name| key(name)).collect();
        for (name, entry) in entries {
            if known.contains(name) {
                continue;
            }
            let known = || known.iter().map(String::as_str);
            return Err(entry.wrong(match nearest(name, known()) {
                Some(near) => format!("unknown key; did you mean {near:?}?"),
                None => format!(
                    "unknown key; expected one of {}",
                    known().collect::<Vec<_>>().join(", ")
                ),
            }));
        }
        Ok(Self { item, entries })
    }

    pub(crate) fn field<T: Value + Clone>(&self, name: &str, base: &T) -> Result<T, Wrong> {
        let name = key(name);
        match self.entries.iter().find(|(key, _)| *key == name) {
            Some((_, item)) => T::read(item, base),
            None => Ok(base.clone()),
        }
    }

    /// The table itself is wrong.
    pub(crate) fn wrong(&self, message: impl Into<String>) -> Wrong {
        self.item.wrong(message)
    }

    /// What is at `key`, or the nearest that is written above it, is wrong.
    pub(crate) fn wrong_at(&self, key: &str, message: impl Into<String>) -> Wrong {
        let mut at = self.item;
        while let Some(next) = at.towards(key) {
            at = next;
        }
        Wrong::new(&at.place, key, message)
    }
}

/// A field's name as documents have it.
pub(crate) fn key(field: &str) -> String {
    field.replace('_', "-")
}

/// Lists the fields of a type that is a table in documents. All of them: one that is not named
/// here does not compile.
macro_rules! table {
    ($type:ident { $($field:ident),* $(,)? }) => {
        table!($type { $($field),* } |_fields, _value| Ok(()));
    };
    ($type:ident { $($field:ident),* $(,)? } $check:expr) => {
        impl $crate::scenario::value::Value for $type {
            fn read(
                item: &$crate::scenario::tree::Item,
                base: &Self,
            ) -> Result<Self, $crate::scenario::tree::Wrong> {
                let fields = $crate::scenario::value::Fields::of(item, &[$(stringify!($field)),*])?;
                let value = Self { $($field: fields.field(stringify!($field), &base.$field)?),* };
                let check: fn(
                    &$crate::scenario::value::Fields<'_>,
                    &Self,
                ) -> Result<(), $crate::scenario::tree::Wrong> = $check;
                check(&fields, &value)?;
                Ok(value)
            }

            fn write(&self, base: &Self) -> $crate::scenario::tree::Doc {
                let Self { $($field),* } = self;
                let mut entries = Vec::new();
                $(
                    if let Some(doc) = $crate::scenario::value::Value::write_change($field, &base.$field) {
                        entries.push(($crate::scenario::value::key(stringify!($field)), doc));
                    }
                )*
                $crate::scenario::tree::Doc::Table(entries)
            }
        }
    };
}
pub(crate) use table;

/// Names each value of an enumeration in documents.
macro_rules! names {
    ($type:ident { $($name:literal = $value:ident),* $(,)? }) => {
        impl $type {
            /// The names of all, in documents.
            pub const NAMES: &[&str] = &[$($name),*];

            /// Its name in documents.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$value => $name),* }
            }
        }

        impl $crate::scenario::value::Value for $type {
            fn read(
                item: &$crate::scenario::tree::Item,
                _: &Self,
            ) -> Result<Self, $crate::scenario::tree::Wrong> {
                $crate::scenario::value::named(item, &[$(($name, Self::$value)),*])
            }

            fn write(&self, _: &Self) -> $crate::scenario::tree::Doc {
                $crate::scenario::value::text(self.name())
            }
        }
    };
}
pub(crate) use names;

/// One of these names.
pub(crate) fn named<T: Copy>(item: &Item, known: &[(&'static str, T)]) -> Result<T, Wrong> {
    if let Node::Text(text) = &item.node {
        if let Some((_, value)) = known.iter().find(|(name, _)| name == text) {
            return Ok(*value);
        }
        if let Some(near) = nearest(text, known.iter().map(|(name, _)| *name)) {
            return Err(item.not(&format!("{near:?} (perhaps)")));
        }
    }
    let names: Vec<_> = known.iter().map(|(name, _)| format!("{name:?}")).collect();
    Err(item.not(&format!("one of {}", names.join(", "))))
}

/// A text in quotation marks.
pub(crate) fn text(text: &str) -> Doc {
    Doc::Value(quoted(text))
}

macro_rules! integers {
    ($($type:ident)*) => {$(
        impl Value for $type {
            fn read(item: &Item, _: &Self) -> Result<Self, Wrong> {
                let number = match &item.node {
                    Node::Integer(number) => Some(*number),
                    // Sizes may be written as such.
                    Node::Text(text) => units::size(text).map(|size| i128::from(size.0)),
                    _ => None,
                };
                number.and_then(|number| Self::try_from(number).ok()).ok_or_else(|| {
                    item.not(&format!("a whole number from 0 to {}", Self::MAX))
                })
            }

            fn write(&self, _: &Self) -> Doc {
                Doc::Value(self.to_string())
            }
        }
    )*};
}
integers!(u8 u16 u32 u64);

impl Value for bool {
    fn read(item: &Item, _: &Self) -> Result<Self, Wrong> {
        match item.node {
            Node::Bool(it) => Ok(it),
            _ => Err(item.not("true or false")),
        }
    }

    fn write(&self, _: &Self) -> Doc {
        Doc::Value(self.to_string())
    }
}

impl Value for String {
    fn read(item: &Item, _: &Self) -> Result<Self, Wrong> {
        match &item.node {
            Node::Text(text) => Ok(text.clone()),
            _ => Err(item.not("a text")),
        }
    }

    fn write(&self, _: &Self) -> Doc {
        text(self)
    }
}

macro_rules! quantities {
    ($($type:ident $read:path, $show:expr, $expected:literal;)*) => {$(
        impl Value for $type {
            fn read(item: &Item, _: &Self) -> Result<Self, Wrong> {
                let read = match &item.node {
                    Node::Text(text) => $read(text),
                    _ => None,
                };
                read.ok_or_else(|| item.not($expected))
            }

            fn write(&self, _: &Self) -> Doc {
                let show: fn(&$type) -> String = $show;
                text(&show(self))
            }
        }
    )*};
}
quantities! {
    Duration units::duration, |it| units::duration_text(*it), "a time as \"20ms\", \"1.5s\" or \"2h\"";
    Size units::size, |it| it.to_string(), "a size as \"64KiB\" or \"16MiB\"";
    Rate units::rate, |it| it.to_string(), "a rate as \"10Mbit\", or \"unlimited\"";
    Share units::share, |it| it.to_string(), "a share as \"0.5%\", up to \"100%\"";
}

/// What may be left out altogether; the text `"none"` takes it away again.
impl<T: Value + Clone + Default> Value for Option<T> {
    fn read(item: &Item, base: &Self) -> Result<Self, Wrong> {
        match &item.node {
            Node::Text(text) if text == "none" => Ok(None),
            _ => T::read(item, &base.clone().unwrap_or_default()).map(Some),
        }
    }

    fn write(&self, base: &Self) -> Doc {
        match self {
            None => text("none"),
            Some(value) => value.write(&base.clone().unwrap_or_default()),
        }
    }
}

impl<T: Value + Clone + Default> Value for Vec<T> {
    fn read(item: &Item, _: &Self) -> Result<Self, Wrong> {
        match &item.node {
            Node::Array(items) => items
                .iter()
                .map(|item| T::read(item, &T::default()))
                .collect(),
            _ => Err(item.not("a list")),
        }
    }

    fn write(&self, _: &Self) -> Doc {
        let mut tables = Vec::new();
        let mut values = Vec::new();
        for value in self {
            match value.write(&T::default()) {
                Doc::Table(entries) => tables.push(entries),
                other => values.push(other.inline()),
            }
        }
        if tables.is_empty() {
            return Doc::Value(format!("[{}]", values.join(", ")));
        }
        Doc::Tables(tables)
    }
}
