//! Answers about items (BEP 44) and samples (BEP 51).

use alloc::boxed::Box;
use alloc::sync::Arc;

use bytes::Bytes;

use super::asked::Purpose;
use super::checks::Whose;
use super::item::{self, Item, MAX_SALT, MAX_VALUE, Signed};
use super::items::Conflict;
use super::krpc::{Message, Query, Response};
use super::node::{Context, Dht};
use super::server::{
    Asker, FRAME, INVALID, LISTS, PROTOCOL, Refusal, SERVER, refuse, transmit, write_nodes,
};
use crate::id::Id20;

/// The value is too long.
const LONG_VALUE: Refusal = (205, "Value too long");
/// The signature is wrong.
const BAD_SIGNATURE: Refusal = (206, "Invalid signature");
/// The salt is too long.
const LONG_SALT: Refusal = (207, "Salt too long");
/// Another sequence number is there than the one to be replaced.
const CAS: Refusal = (301, "CAS mismatch");
/// A newer item is there.
const OLD: Refusal = (302, "Sequence number less than current");

/// Bytes of an answer for key, signature and sequence number of a mutable item.
const SIGNED: usize = 140;
/// Bytes around samples: keys and numbers.
const SURVEY: usize = 64;

/// Somebody who waits for its item to be kept.
#[derive(Debug)]
pub(super) struct Put {
    to: Asker,
    transaction: Box<[u8]>,
    cas: Option<i64>,
}

impl Dht {
    /// Whether a `get` comes with the token that we gave its sender for that target: then what we
    /// send there arrives.
    pub(super) fn shows_token(&mut self, from: core::net::IpAddr, message: &Message<'_>) -> bool {
        let body = &message.body;
        let (Some(token), Some(target)) = (body.token, body.target) else {
            return false;
        };
        let good = self
            .tokens
            .check(token, from, &target, &mut self.secrets, self.now);
        if good {
            self.addresses.set_receives(from, self.now);
        }
        good
    }

    /// Answers a `get`.
    pub(super) fn answer_item(
        &mut self,
        to: Asker,
        target: &Id20,
        message: &Message<'_>,
        cx: &mut Context<'_>,
    ) -> u32 {
        let (from, now) = (to.from, self.seconds());
        let family = &self.families[usize::from(from.is_ipv6())];
        let token = family.items.has_room(target, from.ip()).then(|| {
            self.tokens
                .make(from.ip(), target, &mut self.secrets, self.now)
        });
        let item = family.items.find(target, now).cloned();
        // Who knows one as new needs no value.
        let known = message.body.seq;
        let newer = |item: &&Arc<Item>| {
            let seq = item.seq();
            seq.is_none() || known.is_none_or(|known| seq > Some(known))
        };
        let size = |item: &Item| FRAME + LISTS + SIGNED + item.value().len();
        let told = item.as_ref().filter(newer);
        let fits = told.filter(|item| size(item) <= to.limit);
        let left = to.limit - fits.map_or(0, |item| size(item) - FRAME);
        let (v4, v6) = self.nodes_for(target, Asker { limit: left, ..to }, message.body.want);
        if told.is_some() && fits.is_none() && !message.read_only {
            // Once it has answered us it may have it.
            let _ = self.query(from, None, Query::Ping, Purpose::Check, cx);
        }
        let id = self.families[usize::from(from.is_ipv6())].id;
        transmit(to, cx, |buf| {
            let mut response = Response::begin(buf, from, &id);
            let signed = fits.and_then(|item| item.signed());
            if let Some(signed) = signed {
                response.key(&signed.key);
            }
            write_nodes(&mut response, &v4, &v6);
            if let Some(seq) = item.as_ref().and_then(|item| item.seq()) {
                response.seq(seq);
            }
            if let Some(signed) = signed {
                response.signature(&signed.signature);
            }
            if let Some(token) = token {
                response.token(&token);
            }
            if let Some(item) = fits {
                response.value(item.value());
            }
            response.end(message.transaction);
        })
    }

    /// Takes an item to be kept: true if it is, false if its signature has to be checked first.
    pub(super) fn take_put(
        &mut self,
        to: Asker,
        message: &Message<'_>,
        cx: &mut Context<'_>,
    ) -> Result<bool, Refusal> {
        let (body, from) = (&message.body, to.from);
        let (value, token) = body.value.zip(body.token).ok_or(INVALID)?;
        if value.len() > MAX_VALUE {
            return Err(LONG_VALUE);
        }
        if body.salt.len() > MAX_SALT {
            return Err(LONG_SALT);
        }
        let target = match body.key {
            Some(key) => item::mutable_target(key, body.salt),
            None => item::immutable_target(value),
        };
        let good = self
            .tokens
            .check(token, from.ip(), &target, &mut self.secrets, self.now);
        if !good {
            return Err((PROTOCOL, "Bad token"));
        }
        self.addresses.set_receives(from.ip(), self.now);
        let value = Bytes::copy_from_slice(value);
        let item = match body.key {
            None => Item::immutable(value),
            Some(key) => {
                let (signature, seq) = body.signature.zip(body.seq).ok_or(INVALID)?;
                let signed = Signed {
                    key: *key,
                    signature: *signature,
                    seq,
                    salt: Bytes::copy_from_slice(body.salt),
                };
                Item::mutable(value, signed)
            }
        };
        let item = Arc::new(item.map_err(|_| INVALID)?);
        let now = self.seconds();
        let family = &self.families[usize::from(from.is_ipv6())];
        let conflict = family.items.check(&item, body.cas, now);
        conflict.map_err(|conflict| match conflict {
            Conflict::Cas => CAS,
            Conflict::Old => OLD,
        })?;
        if !family.items.has_room(&target, from.ip()) {
            return Err((SERVER, "Full"));
        }
        // What is there was checked when it came.
        let known = family.items.find(&target, now) == Some(&item);
        if known || item.signed().is_none() {
            return self.keep_item(to, item).map(|()| true);
        }
        let put = Put {
            to,
            transaction: message.transaction.into(),
            cas: body.cas,
        };
        if self.begin_check(item, Whose::Put(Box::new(put)), cx) {
            Ok(false)
        } else {
            Err((SERVER, "Busy"))
        }
    }

    fn keep_item(&mut self, to: Asker, item: Arc<Item>) -> Result<(), Refusal> {
        let now = self.seconds();
        let family = &mut self.families[usize::from(to.from.is_ipv6())];
        if !family.items.keep(item, to.from.ip(), now) {
            return Err((SERVER, "Full"));
        }
        self.watch_store();
        Ok(())
    }

    /// The signature of an item to be kept was checked.
    pub(super) fn end_put(&mut self, put: Put, item: Arc<Item>, good: bool, cx: &mut Context<'_>) {
        let (to, now) = (put.to, self.seconds());
        let family = &self.families[usize::from(to.from.is_ipv6())];
        if !family
            .sockets
            .iter()
            .any(|(socket, _)| *socket == to.socket)
        {
            return;
        }
        // Others may have come meanwhile.
        let kept = match family.items.check(&item, put.cas, now) {
            _ if !good => Err(BAD_SIGNATURE),
            Err(Conflict::Cas) => Err(CAS),
            Err(Conflict::Old) => Err(OLD),
            Ok(()) => self.keep_item(to, item),
        };
        let written = match kept {
            Ok(()) => self.answer(to, &put.transaction, cx, |_| {}),
            Err(refusal) => refuse(to, &put.transaction, refusal, cx),
        };
        self.replies.take(written);
    }

    /// Answers a survey.
    pub(super) fn answer_samples(
        &mut self,
        to: Asker,
        target: &Id20,
        message: &Message<'_>,
        cx: &mut Context<'_>,
    ) -> u32 {
        let now = self.seconds();
        let family = &mut self.families[usize::from(to.from.is_ipv6())];
        let dht = &self.config.dht;
        family
            .samples
            .renew(&family.store, dht, now, &mut self.choice);
        let family = &self.families[usize::from(to.from.is_ipv6())];
        let room = to.limit.saturating_sub(FRAME + LISTS + SURVEY) / 20;
        let hashes = family.samples.hashes();
        let hashes = &hashes[..hashes.len().min(room)];
        let interval = family.samples.left(dht, now);
        let left = to.limit.saturating_sub(SURVEY + hashes.len() * 20);
        let (v4, v6) = self.nodes_for(target, Asker { limit: left, ..to }, message.body.want);
        let id = family.id;
        transmit(to, cx, |buf| {
            let mut response = Response::begin(buf, to.from, &id);
            response.interval(interval);
            write_nodes(&mut response, &v4, &v6);
            response.samples(family.samples.of(), hashes.iter().copied());
            response.end(message.transaction);
        })
    }
}
