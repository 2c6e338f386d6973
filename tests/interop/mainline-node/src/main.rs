//! A DHT node of the `mainline` crate: an implementation that shares nothing with ours.
//!
//! `mainline-node ADDRESS:PORT [CONTACT]...` listens there, joins through the contacts and answers
//! lines of standard input until they end:
//! - `announce HASH PORT` announces a peer and prints `announced HASH`;
//! - `peers HASH` looks peers up and prints `peers HASH [ADDRESS:PORT]...`.
//!
//! What fails prints `failed REASON`. The first line printed is `listening`.

use std::collections::BTreeSet;
use std::io::BufRead as _;
use std::net::SocketAddrV4;

use mainline::{Dht, Id};

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
        _ => Err(format!("what is no command: {line}")),
    }
}

fn id(hash: &str) -> Result<Id, String> {
    hash.parse()
        .map_err(|_| format!("what is no info-hash: {hash}"))
}
