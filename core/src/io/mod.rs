//! What goes into the engine and what comes out of it.

mod ids;
mod input;
mod outbox;
mod unread;
mod work;

pub use ids::{ConnId, JobId, SocketId, Tag, Ticket, TorrentId};
pub use input::{AddTorrent, Command, Input, IoReason, Rates, Source};
pub use outbox::{Drain, Outbox, Output};
pub use unread::Unread;
pub use work::{
    BlockHash, Digest, HashKind, HttpAnswer, JobError, JobResult, Opened, StateKind, Work,
};
