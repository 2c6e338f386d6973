use bytes::BytesMut;

use super::{ConnId, Input};

/// Bytes of one stream that have come and that the engine does not want yet.
///
/// For hosts whose streams cannot be left unread, as a socket can: it keeps what arrives until
/// `ReadCredit` asks for it.
#[derive(Debug)]
pub struct Unread {
    conn: ConnId,
    bytes: BytesMut,
    credit: usize,
}

impl Unread {
    /// Nothing has come on `conn`, and nothing is wanted.
    #[must_use]
    pub fn new(conn: ConnId) -> Self {
        Self {
            conn,
            bytes: BytesMut::new(),
            credit: 0,
        }
    }

    /// These bytes came.
    pub fn arrived(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The engine wants this many bytes more: `Output::ReadCredit`.
    pub fn wanted(&mut self, bytes: u32) {
        self.credit = self.credit.saturating_add(bytes as usize);
    }

    /// Takes what has come and is wanted, as `Input::Received`.
    pub fn take(&mut self) -> Option<Input<'static>> {
        let bytes = self.bytes.len().min(self.credit);
        if bytes == 0 {
            return None;
        }
        self.credit -= bytes;
        let data = self.bytes.split_to(bytes);
        let conn = self.conn;
        Some(Input::Received { conn, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(unread: &mut Unread) -> Option<BytesMut> {
        unread.take().map(|input| match input {
            Input::Received { conn, data } => {
                assert_eq!(conn, ConnId::from_bits(7));
                data
            }
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn what_came_is_given_in_order_and_no_more_of_it_than_is_wanted() {
        let mut unread = Unread::new(ConnId::from_bits(7));
        unread.arrived(b"abc");
        assert_eq!(taken(&mut unread), None);
        unread.wanted(2);
        assert_eq!(taken(&mut unread).unwrap(), b"ab"[..]);
        unread.arrived(b"de");
        assert_eq!(taken(&mut unread), None);
        unread.wanted(u32::MAX);
        unread.wanted(u32::MAX);
        assert_eq!(taken(&mut unread).unwrap(), b"cde"[..]);
        assert_eq!(taken(&mut unread), None);
    }
}
