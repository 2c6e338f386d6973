use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;

use bytes::Bytes;
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};

use super::OsSocket;

/// Datagrams of one batch.
pub(crate) const BATCH: usize = 32;
/// Bytes of one receive buffer; the kernel may hand over several datagrams of one sender as one.
const BUFFER: usize = 64 * 1024;
/// Datagrams kept while the kernel takes no more.
const MAX_WAITING: usize = 1024;

/// A datagram to be sent.
#[derive(Debug)]
pub(crate) struct Datagram<'a> {
    pub(crate) to: SocketAddr,
    pub(crate) head: &'a [u8],
    pub(crate) body: Bytes,
}

/// Buffers for one batch of received datagrams; untouched pages cost nothing.
#[derive(Debug)]
pub(crate) struct RecvBatch {
    buffer: Vec<u8>,
    meta: [RecvMeta; BATCH_SIZE],
    received: usize,
}

impl RecvBatch {
    pub(crate) fn new() -> Self {
        Self {
            buffer: vec![0; BUFFER * BATCH_SIZE],
            meta: [RecvMeta::default(); BATCH_SIZE],
            received: 0,
        }
    }

    /// Receives a batch; returns how many buffers were filled.
    pub(crate) fn recv(
        &mut self,
        state: &UdpSocketState,
        udp: &impl OsSocket,
    ) -> io::Result<usize> {
        self.received = 0;
        let mut chunks = self.buffer.chunks_exact_mut(BUFFER);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        self.received = state.recv(udp.into(), &mut slices, &mut self.meta)?;
        Ok(self.received)
    }

    /// The datagrams of the batch, in order.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let filled = self.buffer.chunks_exact(BUFFER).zip(&self.meta);
        filled.take(self.received).flat_map(|(buffer, meta)| {
            let stride = meta.stride.max(1);
            buffer[..meta.len]
                .chunks(stride)
                .map(|payload| (meta.addr, payload))
        })
    }
}

/// Datagrams that wait for the kernel.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    queue: VecDeque<(SocketAddr, Bytes)>,
}

impl Waiting {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Keeps a datagram, false when there is no room.
    pub(crate) fn keep(&mut self, datagram: &Datagram<'_>) -> bool {
        if self.queue.len() >= MAX_WAITING {
            return false;
        }
        let whole = if datagram.body.is_empty() {
            Bytes::copy_from_slice(datagram.head)
        } else {
            [datagram.head, &datagram.body].concat().into()
        };
        self.queue.push_back((datagram.to, whole));
        true
    }

    /// The first of them, at most a batch.
    pub(crate) fn front(&self) -> impl Iterator<Item = Datagram<'_>> {
        self.queue.iter().take(BATCH).map(|(to, whole)| Datagram {
            to: *to,
            head: whole,
            body: Bytes::new(),
        })
    }

    pub(crate) fn drop_front(&mut self, count: usize) {
        self.queue.drain(..count.min(self.queue.len()));
    }
}

/// Sends as many of `batch` as the kernel takes, at least one; an error is about the first.
#[cfg(target_os = "linux")]
pub(crate) fn send(udp: &impl OsSocket, batch: &[Datagram<'_>]) -> io::Result<usize> {
    use std::io::IoSlice;

    use rustix::net::addr::SocketAddrArg;
    use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
    use smallvec::SmallVec;

    let batch = &batch[..batch.len().min(BATCH)];
    let addrs: SmallVec<[_; BATCH]> = batch.iter().map(|one| one.to.as_any()).collect();
    let slices: SmallVec<[[IoSlice<'_>; 2]; BATCH]> = batch
        .iter()
        .map(|one| [IoSlice::new(one.head), IoSlice::new(&one.body)])
        .collect();
    let mut control: [SendAncillaryBuffer<'_, '_, '_>; BATCH] = Default::default();
    let mut headers: SmallVec<[MMsgHdr<'_>; BATCH]> = addrs
        .iter()
        .zip(&slices)
        .zip(&mut control)
        .map(|((addr, slices), control)| MMsgHdr::new_with_addr(addr, slices, control))
        .collect();
    Ok(sendmmsg(udp, &mut headers, SendFlags::empty())?)
}

/// Sends the first of `batch`.
#[cfg(not(target_os = "linux"))]
pub(crate) fn send(udp: &impl OsSocket, batch: &[Datagram<'_>]) -> io::Result<usize> {
    use std::io::IoSlice;

    let Some(one) = batch.first() else {
        return Ok(0);
    };
    let slices = [IoSlice::new(one.head), IoSlice::new(&one.body)];
    socket2::SockRef::from(udp).send_to_vectored(&slices, &one.to.into())?;
    Ok(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn a_batch_arrives_whole_and_in_order() {
        let [a, b] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let to = b.local_addr().unwrap();
        let state = UdpSocketState::new((&b).into()).unwrap();
        let heads: Vec<Vec<u8>> = (0..50u8).map(|n| vec![n; 1 + usize::from(n)]).collect();
        let batch: Vec<Datagram<'_>> = heads
            .iter()
            .map(|head| Datagram {
                to,
                head,
                body: Bytes::from_static(b"body"),
            })
            .collect();
        let mut sent = 0;
        while sent < batch.len() {
            sent += send(&a, &batch[sent..]).unwrap();
        }
        let mut got = Vec::new();
        let mut recv = RecvBatch::new();
        while got.len() < batch.len() {
            recv.recv(&state, &b).unwrap();
            got.extend(recv.datagrams().map(|(from, payload)| {
                assert_eq!(from, a.local_addr().unwrap());
                payload.to_vec()
            }));
        }
        let want: Vec<Vec<u8>> = heads
            .iter()
            .map(|head| [head, &b"body"[..]].concat())
            .collect();
        assert_eq!(got, want);
        assert_eq!(
            recv.recv(&state, &b).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
    }
}
