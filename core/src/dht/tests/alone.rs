//! One node, and whatever strangers send it.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::net::SocketAddr;
use std::vec;
use std::vec::Vec;

use super::world::V4;
use crate::config::Config;
use crate::dht::krpc::{self, Asker, Kind, Message, Query, Want};
use crate::dht::{Dht, Event, Input};
use crate::id::Id20;
use crate::io::{Outbox, Output};
use crate::time::{Duration, Instant};

/// Somebody nobody knows.
pub(super) const STRANGER: &str = "8.8.4.4:1000";

/// One node, and whatever a stranger sends it.
pub(super) struct Alone {
    pub(super) dht: Dht,
    pub(super) now: Instant,
    out: Outbox,
    pub(super) events: Vec<Event>,
}

impl Alone {
    pub(super) fn new(config: Config) -> Self {
        let now = Instant::from_micros(1);
        let mut dht = Dht::new(Arc::new(config), &[3; 32], now);
        let (mut out, mut events) = (Outbox::new(), vec![]);
        dht.handle(
            now,
            Input::SocketUp(V4, "0.0.0.0:6881".parse().unwrap()),
            &mut out,
            &mut events,
        );
        Self {
            dht,
            now,
            out,
            events,
        }
    }

    pub(super) fn input(&mut self, input: Input<'_>) -> VecDeque<(SocketAddr, Vec<u8>)> {
        self.dht
            .handle(self.now, input, &mut self.out, &mut self.events);
        let sent = self.out.drain().map(|output| match output {
            Output::Transmit { to, head, .. } => (to, head.to_vec()),
            _ => panic!("a DHT sends datagrams only"),
        });
        sent.collect()
    }

    /// What is answered, without queries of our own.
    pub(super) fn ask(&mut self, from: &str, payload: &[u8]) -> Option<Vec<u8>> {
        let from = from.parse().unwrap();
        let sent = self.input(Input::Datagram {
            socket: V4,
            from,
            payload,
        });
        let mut answers = sent.into_iter().filter(|(to, bytes)| {
            *to == from && !matches!(Message::decode(bytes).unwrap().kind, Kind::Query(_))
        });
        let answer = answers.next().map(|(_, bytes)| bytes);
        assert!(answers.next().is_none());
        answer
    }

    pub(super) fn query(&mut self, from: &str, query: Query<'_>) -> Option<Vec<u8>> {
        let asker = Asker {
            id: Id20([0x11; 20]),
            read_only: true,
            want: Want::default(),
        };
        let mut buf = vec![];
        krpc::write_query(&mut buf, b"t", asker, query);
        self.ask(from, &buf)
    }

    pub(super) fn wait(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
        for _ in 0..100 {
            self.input(Input::Tick);
        }
    }
}

pub(super) fn error_code(answer: Option<Vec<u8>>) -> Option<i64> {
    match Message::decode(&answer?).unwrap().kind {
        Kind::Error(code, _) => Some(code),
        _ => None,
    }
}
