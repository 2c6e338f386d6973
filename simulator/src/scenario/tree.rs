//! A TOML document as a tree that knows where each part of it was written, and the way back.

use std::fmt::{self, Write as _};
use std::path::Path;

use toml::de::{DeTable, DeValue};

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A line of the document, from 1 on.
    Line(usize),
    /// The text of a `--set`.
    Set(String),
}

/// What is wrong with a scenario, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    place: Place,
    key: String,
    message: String,
    file: Option<String>,
}

impl Wrong {
    pub(crate) fn new(place: &Place, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            place: place.clone(),
            key: key.into(),
            message: message.into(),
            file: None,
        }
    }

    /// The same, of a document that has this name.
    #[must_use]
    pub fn in_file(mut self, path: &Path) -> Self {
        self.file = Some(path.display().to_string());
        self
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.place, &self.file) {
            (Place::Set(text), _) => write!(f, "--set {text}: ")?,
            (Place::Line(line), Some(file)) => write!(f, "{file}:{line}: ")?,
            (Place::Line(line), None) => write!(f, "line {line}: ")?,
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Wrong {}

/// A value, with its whole key and its place.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) place: Place,
    /// As people would name it: `groups.leechers.count`.
    pub(crate) key: String,
    pub(crate) node: Node,
}

#[derive(Debug, Clone)]
pub(crate) enum Node {
    Text(String),
    Integer(i128),
    Bool(bool),
    /// A float or a date, which no key takes.
    Other(String),
    Array(Vec<Item>),
    Table(Vec<(String, Item)>),
}

impl Item {
    /// Reads a document.
    pub(crate) fn parse(text: &str) -> Result<Self, Wrong> {
        let line = |at: usize| {
            1 + text.as_bytes()[..at.min(text.len())]
                .iter()
                .filter(|b| **b == b'\n')
                .count()
        };
        let table = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let message = error.message().lines().collect::<Vec<_>>().join(" ");
            Wrong::new(&Place::Line(line(at)), "", message)
        })?;
        let place = |at: usize| Place::Line(line(at));
        Ok(Self {
            place: Place::Line(1),
            key: String::new(),
            node: read_table(table.get_ref(), "", &place),
        })
    }

    fn read(value: &DeValue<'_>, at: usize, key: String, place: &dyn Fn(usize) -> Place) -> Self {
        let node = match value {
            DeValue::String(text) => Node::Text(text.to_string()),
            DeValue::Integer(number) => {
                match i128::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => Node::Integer(number),
                    Err(_) => Node::Other(number.to_string()),
                }
            }
            DeValue::Boolean(it) => Node::Bool(*it),
            DeValue::Float(number) => Node::Other(number.as_str().to_owned()),
            DeValue::Datetime(date) => Node::Other(date.to_string()),
            DeValue::Array(items) => {
                let of = items.iter().enumerate().map(|(index, item)| {
                    let name = name_of(item.get_ref()).unwrap_or_else(|| index.to_string());
                    let key = join(&key, &name);
                    Self::read(item.get_ref(), item.span().start, key, place)
                });
                Node::Array(of.collect())
            }
            DeValue::Table(table) => read_table(table, &key, place),
        };
        Self {
            place: place(at),
            key,
            node,
        }
    }

    /// Puts in what `--set KEY=VALUE` says; of an array of tables a part is named by its `name`.
    pub(crate) fn set(&mut self, text: &str) -> Result<(), Wrong> {
        let place = Place::Set(text.to_owned());
        let Some((path, value)) = text.split_once('=') else {
            return Err(Wrong::new(
                &place,
                "",
                "expected KEY=VALUE, as network.loss=5%",
            ));
        };
        let (path, value) = (path.trim(), value.trim());
        // A text needs no quotation marks here: the shell has eaten them.
        let document = [format!("v = {value}"), format!("v = {}", quoted(value))]
            .into_iter()
            .find_map(|line| Self::parse(&line).ok());
        let Some(Node::Table(mut document)) = document.map(|item| item.node) else {
            return Err(Wrong::new(&place, path, "expected a value as TOML has it"));
        };
        let (_, mut value) = document.remove(0);
        value.put(&place, path);
        let mut at = self;
        let mut parts: Vec<&str> = path.split('.').collect();
        let last = parts.pop().unwrap_or_default();
        for (depth, part) in parts.iter().enumerate() {
            let key = path
                .split('.')
                .take(depth + 1)
                .collect::<Vec<_>>()
                .join(".");
            at = at.part(part, &key, &place)?;
        }
        if let Node::Array(_) = at.node {
            *at.part(last, path, &place)? = value;
            return Ok(());
        }
        let Node::Table(table) = &mut at.node else {
            return Err(Wrong::new(&place, path, "expected the key of a table"));
        };
        table.retain(|(key, _)| key != last);
        table.push((last.to_owned(), value));
        Ok(())
    }

    fn part(&mut self, part: &str, key: &str, place: &Place) -> Result<&mut Self, Wrong> {
        match &mut self.node {
            Node::Table(table) => {
                let at = table.iter().position(|(key, _)| key == part);
                let at = at.unwrap_or_else(|| {
                    let item = Self {
                        place: place.clone(),
                        key: key.to_owned(),
                        node: Node::Table(Vec::new()),
                    };
                    table.push((part.to_owned(), item));
                    table.len() - 1
                });
                Ok(&mut table[at].1)
            }
            Node::Array(items) => {
                let name = |item: &Self| match &item.node {
                    Node::Table(table) => table.iter().find_map(|(key, item)| match &item.node {
                        Node::Text(name) if key == "name" => Some(name.clone()),
                        _ => None,
                    }),
                    _ => None,
                };
                let names: Vec<_> = items.iter().filter_map(name).collect();
                let at = items
                    .iter()
                    .position(|item| name(item).as_deref() == Some(part));
                let at = at
                    .or_else(|| part.parse().ok())
                    .filter(|at| *at < items.len());
                let Some(at) = at else {
                    let message = one_of(part, names.iter().map(String::as_str));
                    return Err(Wrong::new(place, key, message));
                };
                Ok(&mut items[at])
            }
            _ => Err(Wrong::new(place, key, "expected the key of a table")),
        }
    }

    /// Says of all of it that it was written elsewhere, under another key.
    fn put(&mut self, place: &Place, key: &str) {
        self.place = place.clone();
        self.key = key.to_owned();
        match &mut self.node {
            Node::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    item.put(place, &join(key, &index.to_string()));
                }
            }
            Node::Table(table) => {
                for (name, item) in table {
                    item.put(place, &join(key, name));
                }
            }
            _ => {}
        }
    }

    /// The part of it that is, or holds, what has this whole key.
    pub(crate) fn towards(&self, key: &str) -> Option<&Self> {
        let holds = |item: &&Self| {
            let rest = key.strip_prefix(&item.key);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        match &self.node {
            Node::Array(items) => items.iter().find(holds),
            Node::Table(entries) => entries.iter().map(|(_, item)| item).find(holds),
            _ => None,
        }
    }

    pub(crate) fn wrong(&self, message: impl Into<String>) -> Wrong {
        Wrong::new(&self.place, self.key.clone(), message)
    }

    /// It is not what was expected.
    pub(crate) fn not(&self, expected: &str) -> Wrong {
        let found = match &self.node {
            Node::Text(text) => format!("{text:?}"),
            Node::Integer(number) => number.to_string(),
            Node::Bool(it) => it.to_string(),
            Node::Other(text) => text.clone(),
            Node::Array(_) => "a list".into(),
            Node::Table(_) => "a table".into(),
        };
        self.wrong(format!("expected {expected}, not {found}"))
    }
}

fn read_table(table: &DeTable<'_>, above: &str, place: &dyn Fn(usize) -> Place) -> Node {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let entries = entries.into_iter().map(|(key, value)| {
        let name = key.get_ref().to_string();
        let item = Item::read(value.get_ref(), key.span().start, join(above, &name), place);
        (name, item)
    });
    Node::Table(entries.collect())
}

fn name_of(value: &DeValue<'_>) -> Option<String> {
    let named = value
        .as_table()?
        .iter()
        .find(|(key, _)| key.get_ref() == "name");
    named?.1.get_ref().as_str().map(str::to_owned)
}

fn join(above: &str, name: &str) -> String {
    if above.is_empty() {
        name.to_owned()
    } else {
        format!("{above}.{name}")
    }
}

/// Which names there are, and which of them was meant.
pub(crate) fn one_of<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let mut known: Vec<_> = known.collect();
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("there is no {word:?}; did you mean {near:?}?"),
        None => {
            known.sort_unstable();
            format!("there is no {word:?}; expected one of {}", known.join(", "))
        }
    }
}

/// The name that differs least from `word`, if at most half of it differs, and three letters.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace('_', "-");
    let wanted = plain(word);
    let ranked = known.map(|name| (distance(&wanted, &plain(name)), name));
    let (distance, name) = ranked.min()?;
    (distance <= (wanted.chars().count() / 2).clamp(1, 3)).then_some(name)
}

/// Letters to be changed, put in or left out to make one of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (above, a) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (at, b) in b.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[at + 1];
            row[at + 1] = changed.min(row[at] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// What is written of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Doc {
    /// Behind a `=`.
    Value(String),
    Table(Vec<(String, Doc)>),
    Tables(Vec<Vec<(String, Doc)>>),
}

impl Doc {
    /// The document, for whoever reads it: values first, then tables.
    pub(crate) fn to_toml(&self) -> String {
        let mut out = String::new();
        if let Self::Table(entries) = self {
            write_table(&mut out, "", entries);
        }
        out
    }

    /// All of it behind one `=`.
    pub(crate) fn inline(&self) -> String {
        let table = |entries: &[(String, Self)]| {
            let entries = entries
                .iter()
                .map(|(key, doc)| format!("{key} = {}", doc.inline()));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        };
        match self {
            Self::Value(text) => text.clone(),
            Self::Table(entries) => table(entries),
            Self::Tables(tables) => {
                let tables: Vec<_> = tables.iter().map(|entries| table(entries)).collect();
                format!("[{}]", tables.join(", "))
            }
        }
    }
}

fn write_table(out: &mut String, path: &str, entries: &[(String, Doc)]) {
    for (key, doc) in entries {
        if let Doc::Value(value) = doc {
            let _ = writeln!(out, "{key} = {value}");
        }
    }
    for (key, doc) in entries {
        let path = join(path, key);
        match doc {
            Doc::Value(_) => {}
            // A table of nothing but tables needs no heading of its own.
            Doc::Table(entries) => {
                if entries.iter().any(|(_, doc)| matches!(doc, Doc::Value(_))) || entries.is_empty()
                {
                    let _ = writeln!(out, "\n[{path}]");
                }
                write_table(out, &path, entries);
            }
            Doc::Tables(tables) => {
                for entries in tables {
                    let _ = writeln!(out, "\n[[{path}]]");
                    write_table(out, &path, entries);
                }
            }
        }
    }
}

/// A text in quotation marks, as TOML has it.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_the_one_that_was_meant() {
        let known = || ["count", "content", "role", "up-rate"].into_iter();
        assert_eq!(nearest("cuont", known()), Some("count"));
        assert_eq!(nearest("up_rate", known()), Some("up-rate"));
        assert_eq!(nearest("rol", known()), Some("role"));
        assert_eq!(nearest("zebra", known()), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn quotation_survives_whatever_a_text_holds() {
        let text = "a \"b\" \\ \n\t\u{7f} ü";
        let item = Item::parse(&format!("v = {}", quoted(text))).unwrap();
        let Node::Table(table) = item.node else {
            panic!("no table");
        };
        assert!(matches!(&table[0].1.node, Node::Text(back) if back == text));
    }

    #[test]
    fn a_document_that_is_no_toml_names_its_line() {
        let error = Item::parse("a = 1\nb = = 2\n").unwrap_err();
        assert!(error.to_string().starts_with("line 2: "), "{error}");
        let error = error.in_file(Path::new("x.toml")).to_string();
        assert!(error.starts_with("x.toml:2: "), "{error}");
    }
}
