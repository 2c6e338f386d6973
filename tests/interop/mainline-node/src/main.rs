//! A DHT node of the `mainline` crate: an implementation that shares nothing with ours.
//!
//! `mainline-node ADDRESS:PORT [CONTACT]...` listens there, joins through the contacts and answers
//! lines of standard input until they end:
//! - `announce HASH PORT` announces a peer and prints `announced HASH`;
//! - `peers HASH` looks peers up and prints `peers HASH [ADDRESS:PORT]...`;
//! - `put VALUE` has a value kept and prints `put VALUE TARGET`;
//! - `get TARGET` prints `get TARGET [VALUE]`;
//! - `put-signed SEED SALT SEQ VALUE` signs it and prints `put-signed SEED KEY TARGET`;
//! - `get-signed KEY SALT` prints `get-signed KEY [SEQ VALUE]`, the newest there is.
//!
//! What fails prints `failed REASON`. The first line printed is `listening`.

use std::collections::BTreeSet;
use std::io::BufRead as _;
use std::net::SocketAddrV4;

use mainline::{Dht, Id, MutableItem, SigningKey};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let listen: SocketAddrV4 = arguments
        .next()
        .and_then(|text| text.parse().ok())
        .expect("the first argument is ADDRESS:PORT");
    let contacts: Vec<String> = arguments.collect();
    let dht = Dht::builder()
        .server_mode()
        .bind_address(*listen.ip())
        .port(listen.port())
        .bootstrap(&contacts)
        .build()
        .expect("the address is free");
    println!("listening");
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        match answer(&dht, &line) {
            Ok(text) => println!("{text}"),
            Err(reason) => println!("failed {reason}"),
        }
    }
}

#[expect(
    deprecated,
    reason = "one line is answered after another: calls that wait are what it needs"
)]
fn answer(dht: &Dht, line: &str) -> Result<String, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["announce", hash, port] => {
            let port = port.parse().map_err(|_| "what is no port")?;
            let announced = dht.announce_peer(id(hash)?, Some(port));
            announced.map_err(|error| error.to_string())?;
            Ok(format!("announced {hash}"))
        }
        ["peers", hash] => {
            let found: BTreeSet<SocketAddrV4> = dht.get_peers(id(hash)?).flatten().collect();
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            Ok(format!("peers {hash} {}", found.join(" ")))
        }
        ["put", value] => {
            let target = dht.put_immutable(value.as_bytes());
            let target = target.map_err(|error| error.to_string())?;
            Ok(format!("put {value} {target}"))
        }
        ["get", target] => {
            let value = dht.get_immutable(id(target)?).unwrap_or_default();
            Ok(format!("get {target} {}", String::from_utf8_lossy(&value)))
        }
        ["put-signed", seed, salt, seq, value] => {
            let key = SigningKey::from_bytes(&bytes(seed)?);
            let public = hex(key.verifying_key().as_bytes());
            let seq = seq.parse().map_err(|_| "what is no number")?;
            let item = MutableItem::new(key, value.as_bytes(), seq, Some(salt.as_bytes()));
            let target = dht.put_mutable(item, None);
            let target = target.map_err(|error| error.to_string())?;
            Ok(format!("put-signed {seed} {public} {target}"))
        }
        ["get-signed", key, salt] => {
            let items = dht.get_mutable(&bytes(key)?, Some(salt.as_bytes()), None);
            let newest = items.max_by_key(MutableItem::seq);
            let told = newest.map(|item| {
                let value = String::from_utf8_lossy(item.value()).into_owned();
                format!("{} {value}", item.seq())
            });
            Ok(format!("get-signed {key} {}", told.unwrap_or_default()))
        }
        _ => Err(format!("what is no command: {line}")),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(text: &str) -> Result<[u8; 32], String> {
    let wrong = || format!("what is no key: {text}");
    let pairs = text.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> = pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(wrong)
}

fn id(hash: &str) -> Result<Id, String> {
    hash.parse()
        .map_err(|_| format!("what is no info-hash: {hash}"))
}
