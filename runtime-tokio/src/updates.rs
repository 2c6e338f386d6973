//! What waits until the embedder takes it: bounded, whatever peers and nodes cause.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use trackerless_core::engine::TorrentStats;
use trackerless_core::event::Event;
use trackerless_core::io::TorrentId;

/// What a [`Node`](crate::Node) tells.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Update {
    /// An event of the engine.
    Event(Event),
    /// The latest figures of a torrent, taken once a second.
    Stats(TorrentId, TorrentStats),
    /// Here are events missing: more than [`NodeOptions::max_events`](crate::NodeOptions::max_events)
    /// waited to be taken. What happens once for each command or torrent is never among them.
    Lagged {
        /// How many.
        dropped: u64,
    },
}

/// Both ends of a queue of updates, of which `max_events` may wait.
pub(crate) fn channel(max_events: usize) -> (Sender, Receiver) {
    let shared = Arc::new(Shared {
        queue: Mutex::new(Queue {
            max_events,
            ..Queue::default()
        }),
        wake: Notify::new(),
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

#[derive(Debug)]
pub(crate) struct Sender(Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Receiver(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    max_events: usize,
    waiting: VecDeque<Waiting>,
    /// Events among them.
    events: usize,
    /// Figures of the torrents that have a place in `waiting`.
    stats: BTreeMap<TorrentId, TorrentStats>,
    sender_gone: bool,
    receiver_gone: bool,
}

#[derive(Debug)]
enum Waiting {
    Event(Event),
    /// The place of a torrent's figures, whichever are the latest when its turn comes.
    Stats(TorrentId),
    Lagged(u64),
}

impl Sender {
    pub(crate) fn event(&self, event: &Event) {
        self.0.change(|queue| queue.event(event));
    }

    pub(crate) fn stats(&self, torrent: TorrentId, stats: TorrentStats) {
        self.0.change(|queue| {
            if queue.stats.insert(torrent, stats).is_none() {
                queue.waiting.push_back(Waiting::Stats(torrent));
            }
        });
    }

    /// A torrent is gone, and its figures with it.
    pub(crate) fn forget(&self, torrent: TorrentId) {
        self.0.change(|queue| {
            let mine = |one: &Waiting| matches!(one, Waiting::Stats(of) if *of == torrent);
            if queue.stats.remove(&torrent).is_some() {
                queue.waiting.retain(|one| !mine(one));
            }
        });
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.lock().sender_gone = true;
        self.0.wake.notify_one();
    }
}

impl Receiver {
    /// The next update; `None` once all are taken and the sender is gone.
    pub(crate) async fn recv(&mut self) -> Option<Update> {
        loop {
            {
                let mut queue = self.0.lock();
                if let Some(update) = queue.take() {
                    return Some(update);
                }
                if queue.sender_gone {
                    return None;
                }
            }
            self.0.wake.notified().await;
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // The engine goes on until shutdown; nobody listens any more.
        let mut queue = self.0.lock();
        queue.receiver_gone = true;
        queue.waiting = VecDeque::new();
        queue.stats.clear();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Queue)) {
        let mut queue = self.lock();
        if queue.receiver_gone {
            return;
        }
        let was_empty = queue.waiting.is_empty();
        change(&mut queue);
        let wakes = was_empty && !queue.waiting.is_empty();
        drop(queue);
        if wakes {
            self.wake.notify_one();
        }
    }
}

impl Queue {
    fn event(&mut self, event: &Event) {
        if self.events < self.max_events || happens_once(event) {
            self.events += 1;
            self.waiting.push_back(Waiting::Event(event.clone()));
        } else if let Some(Waiting::Lagged(dropped)) = self.waiting.back_mut() {
            *dropped = dropped.saturating_add(1);
        } else {
            // A marker takes the place of an event, so that markers are bounded too.
            self.waiting.push_back(Waiting::Lagged(1));
            self.events += 1;
        }
    }

    fn take(&mut self) -> Option<Update> {
        Some(match self.waiting.pop_front()? {
            Waiting::Event(event) => {
                self.events -= 1;
                Update::Event(event)
            }
            Waiting::Lagged(dropped) => {
                self.events -= 1;
                Update::Lagged { dropped }
            }
            // A place is only there together with its figures.
            Waiting::Stats(torrent) => Update::Stats(torrent, self.stats.remove(&torrent)?),
        })
    }
}

/// Whether there is one at most for each command or torrent of the embedder, so that nobody else
/// can make them many.
fn happens_once(event: &Event) -> bool {
    matches!(
        event,
        Event::CommandDone { .. }
            | Event::LookupDone { .. }
            | Event::Metadata { .. }
            | Event::Checked { .. }
            | Event::Complete { .. }
            | Event::BadSelection { .. }
            | Event::StorageFailed { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use trackerless_core::engine::TorrentState;
    use trackerless_core::event::Done;
    use trackerless_core::io::Tag;

    fn torrent(index: u32) -> TorrentId {
        TorrentId(trackerless_core::slab::Key {
            index,
            generation: 0,
        })
    }

    fn piece(piece: u32) -> Event {
        let torrent = torrent(0);
        Event::PieceDone { torrent, piece }
    }

    fn answer(tag: u64) -> Event {
        Event::CommandDone {
            tag: Tag(tag),
            result: Ok(Done::Ok),
        }
    }

    fn figures(done: u64) -> TorrentStats {
        TorrentStats {
            state: TorrentState::Downloading,
            done,
            total: 100,
            downloaded: 0,
            uploaded: 0,
            uploaded_before: 0,
            down_rate: 0,
            up_rate: 0,
            peers: 0,
            seeds: 0,
        }
    }

    fn all(receiver: &Receiver) -> Vec<Update> {
        let mut queue = receiver.0.lock();
        std::iter::from_fn(|| queue.take()).collect()
    }

    #[test]
    fn who_takes_nothing_makes_nothing_grow() {
        let (sender, receiver) = channel(10);
        for n in 0..100_000 {
            sender.event(&piece(n));
            sender.stats(torrent(n % 3), figures(u64::from(n)));
        }
        assert!(receiver.0.lock().waiting.len() <= 10 + 10 + 3);
        let updates = all(&receiver);
        let count = |wanted: fn(&Update) -> bool| updates.iter().filter(|it| wanted(it)).count();
        assert_eq!(count(|it| matches!(it, Update::Stats(..))), 3);
        let told = count(|it| matches!(it, Update::Event(_)));
        let dropped: u64 = updates
            .iter()
            .map(|it| match it {
                Update::Lagged { dropped } => *dropped,
                _ => 0,
            })
            .sum();
        assert_eq!(told as u64 + dropped, 100_000);
        assert!(updates.contains(&Update::Stats(torrent(0), figures(99_999))));
    }

    #[test]
    fn what_is_missing_is_told_where_it_is_missing() {
        let (sender, receiver) = channel(2);
        (0..5).for_each(|n| sender.event(&piece(n)));
        sender.event(&answer(7));
        let event = |event: Event| Update::Event(event);
        assert_eq!(
            all(&receiver),
            [
                event(piece(0)),
                event(piece(1)),
                Update::Lagged { dropped: 3 },
                event(answer(7))
            ]
        );
        sender.event(&piece(9));
        assert_eq!(all(&receiver), [event(piece(9))]);
    }

    #[test]
    fn figures_of_a_torrent_that_is_gone_are_not_told() {
        let (sender, receiver) = channel(2);
        sender.stats(torrent(1), figures(1));
        sender.stats(torrent(2), figures(2));
        sender.forget(torrent(1));
        assert_eq!(all(&receiver), [Update::Stats(torrent(2), figures(2))]);
    }

    #[test]
    fn nothing_waits_for_a_receiver_that_is_gone() {
        let (sender, receiver) = channel(100);
        sender.event(&piece(1));
        drop(receiver);
        sender.event(&piece(2));
        sender.stats(torrent(1), figures(1));
        let queue = sender.0.lock();
        assert!(queue.waiting.is_empty() && queue.stats.is_empty());
    }

    #[test]
    fn the_end_is_told_after_everything_else() {
        let (sender, mut receiver) = channel(100);
        let taker = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.build().unwrap().block_on(async {
                let mut taken = 0;
                while receiver.recv().await.is_some() {
                    taken += 1;
                }
                taken
            })
        });
        (0..50).for_each(|n| sender.event(&piece(n)));
        drop(sender);
        assert_eq!(taker.join().unwrap(), 50);
    }
}
