//! Requests over HTTP: which URL is fetched, what its answer means, where redirects may lead.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use super::machine::{Blame, Outcome, Trackers};
use super::requests::{Fetch, Kind, Stage, token};
use super::{Event, Job, TrackerUrl, http};
use crate::io::{HttpAnswer, JobError, Outbox};
use crate::slab::Key;

impl Trackers {
    /// Fetches the URL of an HTTP request.
    pub(super) fn get(&mut self, key: Key, url: TrackerUrl, events: &mut Vec<Event>) {
        let Some(request) = self.requests.at(key) else {
            return;
        };
        let (torrent, tracker, kind) = (request.torrent, request.tracker, request.kind);
        let text = match kind {
            Kind::Scrape => http::scrape_url(&url, self.info_hash(torrent)),
            Kind::Announce(event) => {
                let announce = self.announce(torrent, tracker, event, None);
                announce.map(|announce| http::announce_url(&url, &announce))
            }
        };
        let Some(text) = text else {
            self.fail(
                key,
                Blame::Silent,
                "it cannot be scraped".to_string(),
                events,
            );
            return;
        };
        if let Some(request) = self.requests.at_mut(key) {
            request.stage = Stage::Http(Box::new(Fetch { url, redirects: 0 }));
        }
        let job = Job::Get {
            url: text,
            redirected_by: None,
        };
        events.push(Event::Job(token(key), job));
        if let Kind::Announce(event) = kind {
            self.on_sent(torrent, tracker, event);
        }
    }

    pub(super) fn on_answer(
        &mut self,
        key: Key,
        answer: HttpAnswer,
        out: &mut Outbox,
        events: &mut Vec<Event>,
    ) {
        let Some(request) = self.requests.at(key) else {
            return;
        };
        if let Some(location) = answer.location.as_deref()
            && (300..400).contains(&answer.status)
        {
            self.redirect(key, location, answer.from, events);
            return;
        }
        let (torrent, kind) = (request.torrent, request.kind);
        let config = Arc::clone(&self.config);
        let limits = &config.tracker;
        let good = (200..300).contains(&answer.status);
        let status = || format!("HTTP status {}", answer.status);
        let event = match kind {
            Kind::Announce(event) => event,
            Kind::Scrape => {
                let counts = http::decode_scrape(&answer.body, self.info_hash(torrent), limits);
                match counts {
                    Ok(counts) if good => {
                        let (seeds, leechers) = (counts.seeds, counts.leechers);
                        if let Some(request) = self.end_request(key) {
                            self.scraped(torrent, request.tracker, seeds, leechers, events);
                        }
                    }
                    _ => self.fail(key, Blame::Silent, status(), events),
                }
                return;
            }
        };
        // A refusal may come with any status.
        let read = match http::decode(&answer.body, limits) {
            Err(error @ http::AnswerError::Refused(_)) => Err((Blame::Refused, error.to_string())),
            _ if !good => Err((Blame::Silent, status())),
            Err(error) => Err((Blame::Silent, error.to_string())),
            Ok(read) => Ok(read),
        };
        let read = match read {
            Ok(read) => read,
            Err((blame, message)) => {
                self.fail(key, blame, message, events);
                return;
            }
        };
        if let Some(claim) = read.external_ip {
            let voter = answer.from;
            events.push(Event::ExternalIp { voter, claim });
        }
        let Some(request) = self.requests.at(key) else {
            return;
        };
        let index = request.tracker;
        if let Some(id) = read.tracker_id
            && let Some(entry) = self.torrents.get_mut(&torrent)
            && let Some(tracker) = entry.tiers.trackers.get_mut(usize::from(index))
        {
            tracker.tracker_id = id;
        }
        let outcome = Outcome {
            interval: read.interval,
            min_interval: read.min_interval,
            seeds: read.seeds,
            leechers: read.leechers,
            peers: read.peers,
            warning: read.warning,
        };
        let port = self.url(torrent, index).map_or(0, TrackerUrl::port);
        let from = SocketAddr::new(answer.from, port);
        self.done(key, event, from, outcome, out, events);
    }

    /// The tracker sends us elsewhere; whoever is there is asked by whom we were sent.
    fn redirect(&mut self, key: Key, location: &str, from: IpAddr, events: &mut Vec<Event>) {
        let config = Arc::clone(&self.config);
        // What is told is longer than what was configured: the query came with it.
        let max_url = config.tracker.max_url.saturating_mul(2);
        let Some(request) = self.requests.at_mut(key) else {
            return;
        };
        let Stage::Http(fetch) = &mut request.stage else {
            return;
        };
        if fetch.redirects >= config.tracker.max_redirects {
            let message = "it redirects too often".to_string();
            self.fail(key, Blame::Silent, message, events);
            return;
        }
        let target = match fetch.url.join(location, max_url) {
            Ok(target) => target,
            Err(error) => {
                let message = format!("it redirects to what is no URL: {error}");
                self.fail(key, Blame::Silent, message, events);
                return;
            }
        };
        // A host refuses names that lead there; an address needs no look.
        if let Some(ip) = target.ip()
            && let Err(refusal) = target.may_contact(Some(from), ip)
        {
            self.fail(key, Blame::Silent, refusal.to_string(), events);
            return;
        }
        fetch.redirects += 1;
        fetch.url = target.clone();
        let job = Job::Get {
            url: String::from(&**target.text()),
            redirected_by: Some(from),
        };
        events.push(Event::Job(token(key), job));
    }
}

/// Why nothing came, for people.
pub(super) fn job_error(error: JobError) -> &'static str {
    match error {
        JobError::NotFound => "its name is not known",
        JobError::TimedOut => "no answer",
        JobError::TooLarge => "its answer is too long",
        JobError::Forbidden => "at an address that may not be contacted",
        JobError::Unsupported => "HTTP is not spoken here",
        _ => "it cannot be reached",
    }
}
