//! What is printed of items, samples and counts of peers.

use serde_json::{Map, Value, json};
use trackerless_core::bencode::{self, Limits};
use trackerless_core::dht::item::Item;

/// One `result` row of an item.
pub(super) fn row(item: &Item) -> Value {
    let mut row = Map::new();
    row.insert("target".into(), json!(item.target().to_string()));
    row.insert("value".into(), value(item));
    row.insert("bencoded".into(), json!(hex(item.value())));
    if let Some(signed) = item.signed() {
        row.insert("key".into(), json!(hex(&signed.key)));
        row.insert("seq".into(), json!(signed.seq));
        row.insert("salt".into(), json!(text_or_hex(&signed.salt)));
    }
    row.into()
}

/// The value for people: a text as it is, anything else as JSON where that can say it, else its
/// bencoding in hexadecimal digits. Nothing that a terminal would take for a command.
pub(super) fn text(item: &Item) -> String {
    match value(item) {
        Value::String(text) if !text.contains(|c: char| c.is_control() && c != '\n') => text,
        Value::Null => hex(item.value()),
        other => other.to_string(),
    }
}

/// The value as JSON; null where bytes are no text.
fn value(item: &Item) -> Value {
    let document = bencode::decode(item.value(), &Limits::DATAGRAM);
    let value = document
        .ok()
        .and_then(|document| converted(document.root()));
    value.unwrap_or(Value::Null)
}

/// Recurses as deep as a datagram may be nested.
fn converted(value: bencode::Value<'_, '_>) -> Option<Value> {
    if let Some(number) = value.as_int() {
        return Some(number.into());
    }
    if let Some(text) = value.as_str() {
        return Some(text.into());
    }
    if let Some(list) = value.as_list() {
        return list.iter().map(converted).collect();
    }
    let dict = value.as_dict()?;
    let mut map = Map::new();
    for (key, value) in dict.iter() {
        map.insert(
            core::str::from_utf8(key).ok()?.to_owned(),
            converted(value)?,
        );
    }
    Some(map.into())
}

/// Why a node refused a put or a question, for people.
pub(super) fn refusal(code: i64) -> String {
    let why = match code {
        202 => "it has no room, or is busy",
        203 => "it finds the question wrong",
        204 => "it does not know that question",
        205 => "the value is too long for it",
        206 => "it finds the signature wrong",
        207 => "the salt is too long for it",
        301 => "the item there has another sequence number than --cas",
        302 => "the item there is newer: use a higher --seq",
        _ => "it does not say why",
    };
    format!("{why} (error {code})")
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text_or_hex(bytes: &[u8]) -> String {
    core::str::from_utf8(bytes).map_or_else(|_| hex(bytes), str::to_owned)
}
