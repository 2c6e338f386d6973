use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use trackerless_core::event::{Event, Transport};

use super::content::Content;
use super::state::State;
use crate::cli::{DemoArgs, OutputArgs};
use crate::display::{Reporter, bytes, close_reason, source_name, status_name};

/// Time between plain lines off a terminal.
const PLAIN_EVERY: Duration = Duration::from_secs(2);

/// What is shown of the demo.
pub(super) struct View {
    reporter: Reporter,
    live: Option<Live>,
    plain: bool,
    next_plain: Option<Instant>,
}

struct Live {
    all: MultiProgress,
    dht: ProgressBar,
    peers: Vec<ProgressBar>,
}

impl View {
    pub(super) fn new(args: OutputArgs, leechers: u16) -> Self {
        let shown = !args.json && !args.quiet;
        let terminal = std::io::stderr().is_terminal();
        Self {
            reporter: Reporter::new(args),
            live: (shown && terminal).then(|| {
                // Every line is there from the start: lines that come later leave traces.
                let all = MultiProgress::new();
                let line = |name: &str, template: &str| {
                    let bar = all.add(ProgressBar::new(1).with_style(style(template)));
                    bar.set_prefix(format!("{name:<10}"));
                    bar
                };
                let dht = line("DHT", "{prefix} {msg}");
                let peers = (0..=usize::from(leechers))
                    .map(|peer| line(&State::peer_name(peer), "{prefix} [{bar:30}] {msg}"))
                    .collect();
                Live { all, dht, peers }
            }),
            plain: shown && !terminal,
            next_plain: None,
        }
    }

    pub(super) fn begin(&self, args: &DemoArgs, content: &Content) {
        self.reporter.say(&format!(
            "A DHT of {} nodes, a seeder of {}, {} leechers that know only\n  {}\n\
             All on 127.0.0.1, nothing leaves this machine.",
            args.nodes,
            bytes(content.size),
            args.leechers,
            content.magnet,
        ));
    }

    /// What is waited for from now on.
    pub(super) fn phase(&mut self, what: &str) {
        if self.plain {
            self.reporter.say(&format!("waiting for {what}"));
        }
        self.next_plain = Some(Instant::now() + PLAIN_EVERY);
    }

    /// Shows how things stand.
    pub(super) fn look(&mut self, state: &mut State) {
        for index in 0..state.peers.len() {
            for event in std::mem::take(&mut state.peers[index].news) {
                self.news(index, &event, state);
            }
        }
        if let Some(live) = &mut self.live {
            live.draw(state);
        }
        let now = Instant::now();
        if self.next_plain.is_some_and(|at| at <= now) {
            self.next_plain = Some(now + PLAIN_EVERY);
            self.progress(state);
        }
    }

    fn news(&self, index: usize, event: &Event, state: &State) {
        if !self.reporter.json() {
            return;
        }
        let node = State::peer_name(index);
        let (name, mut fields) = match event {
            Event::PeerFound { addr, source, .. } => (
                "peer_found",
                json!({ "address": addr.to_string(), "source": source_name(*source) }),
            ),
            Event::PeerConnected(link) => (
                "peer_connected",
                json!({
                    "address": link.addr.to_string(),
                    "transport": match link.transport {
                        Transport::Tcp => "tcp",
                        Transport::Utp => "utp",
                    },
                    "encrypted": !link.encryption.is_plain(),
                    "client": link.client,
                }),
            ),
            Event::PeerClosed { addr, reason, .. } => (
                "peer_closed",
                json!({ "address": addr.to_string(), "reason": close_reason(reason) }),
            ),
            Event::Source {
                source,
                status,
                peers,
                next_update,
                ..
            } => (
                "source",
                json!({
                    "source": source_name(*source),
                    "status": status_name(*status),
                    "next_update": next_update.map(|time| time.as_secs()),
                    "seeds": Value::Null,
                    "peers": peers,
                }),
            ),
            Event::Complete { .. } => {
                let peer = &state.peers[index];
                let stats = peer.stats;
                (
                    "complete",
                    json!({
                        "seconds": seconds(peer.complete.unwrap_or_default()),
                        "downloaded": stats.map_or(0, |stats| stats.downloaded),
                        "uploaded": stats.map_or(0, |stats| stats.uploaded),
                    }),
                )
            }
            _ => return,
        };
        fields["node"] = node.into();
        self.reporter.event(name, fields);
    }

    fn progress(&self, state: &State) {
        for (index, peer) in state.peers.iter().enumerate() {
            let Some(stats) = peer.stats.filter(|_| index > 0) else {
                continue;
            };
            let node = State::peer_name(index);
            if self.plain {
                let (done, total) = (bytes(stats.done), bytes(stats.total));
                self.reporter
                    .say(&format!("{node}: {done} of {total}, {} peers", stats.peers));
            }
            self.reporter.event(
                "progress",
                json!({
                    "node": node,
                    "done": stats.done,
                    "total": stats.total,
                    "down_rate": stats.down_rate,
                    "up_rate": stats.up_rate,
                    "peers": stats.peers,
                }),
            );
        }
    }

    /// Shows who found whom through what; false when a copy is wrong.
    pub(super) fn end(&mut self, state: &State, content: &Content, total: Duration) -> bool {
        self.clear();
        let mut all_right = true;
        self.reporter.result(&format!(
            "{:<12} {:<12} {:<10} {:<22} client",
            "who", "found", "through", "address"
        ));
        for (index, peer) in state.peers.iter().enumerate() {
            let who = State::peer_name(index);
            for (addr, source) in &peer.found {
                let Some(whom) = state.name_of(*addr).filter(|whom| *whom != who) else {
                    continue;
                };
                let link = peer.connected.get(addr);
                self.reporter.result(&format!(
                    "{who:<12} {whom:<12} {:<10} {addr:<22} {}",
                    source_name(*source).to_uppercase(),
                    link.map_or("not connected by us", String::as_str),
                ));
            }
            if peer.incoming > 0 {
                let count = peer.incoming;
                self.reporter
                    .result(&format!("{who:<12} was found by {count} of the others"));
            }
        }
        self.reporter.result("");
        for (index, peer) in state.peers.iter().enumerate().skip(1) {
            let right = content.is_right(index);
            all_right &= right;
            let who = State::peer_name(index);
            let time = seconds(peer.complete.unwrap_or_default());
            let pieces = content.torrent.info.piece_count;
            let (good, bad) = if right { (pieces, 0) } else { (0, pieces) };
            self.reporter.event(
                "verified",
                json!({
                    "pieces_ok": good,
                    "pieces_bad": bad,
                    "node": who,
                    "seconds": time,
                    "sha256": trackerless_core::id::hex(&content.sha256),
                    "right": right,
                }),
            );
            self.reporter.result(&format!(
                "{who:<12} {} in {time:.1} s, SHA-256 {}; gave the others {}",
                bytes(content.size),
                if right { "right" } else { "WRONG" },
                bytes(peer.stats.map_or(0, |stats| stats.uploaded)),
            ));
        }
        let seeded = state.peers[0].stats.map_or(0, |stats| stats.uploaded);
        self.reporter.result(&format!(
            "{:<12} gave {}",
            State::peer_name(0),
            bytes(seeded)
        ));
        self.reporter.result(&format!(
            "\nNo tracker, no server: {} nodes, {} peers, {:.1} s in all.",
            state.nodes.len(),
            state.peers.len(),
            seconds(total),
        ));
        all_right
    }

    /// Takes the live lines away.
    pub(super) fn clear(&mut self) {
        if let Some(live) = self.live.take() {
            let _ = live.all.clear();
        }
    }
}

impl Live {
    fn draw(&mut self, state: &State) {
        let ready = state.nodes.iter().filter(|node| node.ready).count();
        let contacts: u32 = state.nodes.iter().map(|node| node.contacts).sum();
        self.dht.set_message(format!(
            "{ready} of {} nodes up, {contacts} contacts in their tables",
            state.nodes.len()
        ));
        for (index, peer) in state.peers.iter().enumerate() {
            let Some(bar) = self.peers.get(index) else {
                continue;
            };
            let Some(stats) = peer.stats else {
                bar.set_message(if peer.addr.is_some() {
                    "looking for peers"
                } else {
                    "not started"
                });
                continue;
            };
            bar.set_length(stats.total.max(1));
            bar.set_position(if index == 0 { stats.total } else { stats.done });
            bar.set_message(match (index, peer.complete) {
                (0, _) => format!("{} uploaded", bytes(stats.uploaded)),
                (_, Some(time)) => format!("complete in {:.1} s", seconds(time)),
                _ => format!("{}/s, {} peers", bytes(stats.down_rate), stats.peers),
            });
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}

fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}
