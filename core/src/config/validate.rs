//! The ranges of the fields, checked once.

use core::fmt;

use super::{Config, EncryptionMode, secs};
use crate::time::Duration;

/// A parameter is out of its range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The field, as a path.
    pub field: &'static str,
    /// What was expected.
    pub expected: &'static str,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}", self.field, self.expected)
    }
}

impl core::error::Error for ConfigError {}

impl Config {
    /// Checks every field against its range.
    ///
    /// # Errors
    /// The first field that is out of range, with what was expected.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let check = |ok: bool, field, expected| {
            if ok {
                Ok(())
            } else {
                Err(ConfigError { field, expected })
            }
        };
        let (dht, wire, swarm, limits) = (&self.dht, &self.wire, &self.swarm, &self.limits);
        let (lsd, pex) = (&self.lsd, &self.pex);
        check(self.client.len() <= 64, "client", "at most 64 bytes")?;
        check(self.peer_id_prefix.is_ascii(), "peer_id_prefix", "ASCII")?;
        check(
            (1..=128).contains(&dht.bucket_size),
            "dht.bucket_size",
            "1 to 128",
        )?;
        let wide = dht
            .wide_buckets
            .iter()
            .all(|n| (dht.bucket_size..=1024).contains(n));
        check(wide, "dht.wide_buckets", "bucket_size to 1024 each")?;
        check((1..=32).contains(&dht.alpha), "dht.alpha", "1 to 32")?;
        let candidates = dht.max_candidates >= dht.bucket_size && dht.max_candidates <= 1_000;
        check(candidates, "dht.max_candidates", "bucket_size to 1000")?;
        check(dht.max_lookups >= 1, "dht.max_lookups", "at least 1")?;
        let timeouts = dht.short_timeout >= Duration::from_millis(1)
            && dht.short_timeout <= dht.query_timeout
            && dht.query_timeout <= secs(120);
        check(timeouts, "dht.query_timeout", "short_timeout to 120 s")?;
        check(
            dht.refresh_interval >= Duration::from_millis(100),
            "dht.refresh_interval",
            "at least 100 ms",
        )?;
        check(
            dht.token_rotation >= secs(1),
            "dht.token_rotation",
            "at least 1 s",
        )?;
        check(
            dht.announce_interval >= secs(60),
            "dht.announce_interval",
            "at least 60 s",
        )?;
        check(
            dht.ping_interval >= Duration::from_millis(1),
            "dht.ping_interval",
            "at least 1 ms",
        )?;
        check(
            dht.new_endpoints_per_second >= 1,
            "dht.new_endpoints_per_second",
            "at least 1",
        )?;
        let floor = dht.short_timeout_floor >= Duration::from_millis(1)
            && dht.short_timeout_floor <= dht.short_timeout;
        check(floor, "dht.short_timeout_floor", "1 ms to short_timeout")?;
        let pauses = dht.bootstrap_pause >= Duration::from_millis(100)
            && dht.bootstrap_pause <= dht.max_bootstrap_pause;
        check(
            pauses,
            "dht.bootstrap_pause",
            "100 ms to max_bootstrap_pause",
        )?;
        check(
            dht.own_lookup_interval >= secs(1),
            "dht.own_lookup_interval",
            "at least 1 s",
        )?;
        check(
            dht.timers_per_input >= 1,
            "dht.timers_per_input",
            "at least 1",
        )?;
        check(
            dht.starts_per_input >= 1,
            "dht.starts_per_input",
            "at least 1",
        )?;
        check(
            (512..=1_452).contains(&dht.max_reply),
            "dht.max_reply",
            "512 to 1452: one packet",
        )?;
        check(
            dht.sweep_interval >= Duration::from_millis(100),
            "dht.sweep_interval",
            "at least 100 ms",
        )?;
        check(
            dht.signature_patience >= Duration::from_millis(100),
            "dht.signature_patience",
            "at least 100 ms",
        )?;
        check(dht.samples <= 50, "dht.samples", "0 to 50")?;
        check(
            dht.sample_interval <= secs(6 * 60 * 60),
            "dht.sample_interval",
            "at most 6 h, as BEP 51 has it",
        )?;
        check(dht.sweep_slice >= 1, "dht.sweep_slice", "at least 1")?;
        check(
            dht.queries_per_second >= 1,
            "dht.queries_per_second",
            "at least 1",
        )?;
        check(dht.queries_burst >= 1, "dht.queries_burst", "at least 1")?;
        check(dht.quiet_rounds >= 1, "dht.quiet_rounds", "at least 1")?;
        check(
            dht.new_endpoints_burst >= 1,
            "dht.new_endpoints_burst",
            "at least 1",
        )?;
        check(
            dht.max_tracked_endpoints >= 1,
            "dht.max_tracked_endpoints",
            "at least 1",
        )?;
        check(dht.max_voters >= 1, "dht.max_voters", "at least 1")?;
        check(
            (1..=dht.max_voters).contains(&dht.vote_quorum),
            "dht.vote_quorum",
            "1 to max_voters",
        )?;
        check(dht.amplification >= 1, "dht.amplification", "at least 1")?;
        check(
            dht.reply_peers_v4 <= 180,
            "dht.reply_peers_v4",
            "at most 180: one packet",
        )?;
        check(
            dht.reply_peers_v6 <= 60,
            "dht.reply_peers_v6",
            "at most 60: one packet",
        )?;
        check(dht.max_datagram >= 512, "dht.max_datagram", "at least 512")?;
        check(wire.max_block >= 16_384, "wire.max_block", "at least 16384")?;
        check(
            wire.max_frame >= wire.max_block + 9,
            "wire.max_frame",
            "at least max_block + 9",
        )?;
        check(
            wire.max_frame <= 1 << 24,
            "wire.max_frame",
            "at most 16 MiB",
        )?;
        check(
            wire.max_messages_per_input >= 1,
            "wire.max_messages_per_input",
            "at least 1",
        )?;
        check(
            wire.send_window >= wire.max_block,
            "wire.send_window",
            "at least max_block",
        )?;
        check(
            cfg!(feature = "encryption") || wire.encryption == EncryptionMode::Off,
            "wire.encryption",
            "Off, without the feature `encryption`",
        )?;
        check(
            wire.send_timeout >= secs(1),
            "wire.send_timeout",
            "at least 1 s",
        )?;
        check(
            wire.min_receive_window >= 32_768,
            "wire.min_receive_window",
            "at least 32768",
        )?;
        check(
            wire.receive_window >= wire.min_receive_window,
            "wire.receive_window",
            "at least min_receive_window",
        )?;
        check(
            wire.keep_alive < wire.idle_timeout,
            "wire.keep_alive",
            "less than idle_timeout",
        )?;
        check(swarm.max_peers >= 1, "swarm.max_peers", "at least 1")?;
        check(
            swarm.turnover_interval >= secs(1),
            "swarm.turnover_interval",
            "at least 1 s",
        )?;
        check(
            swarm.turnover_percent <= 100 && swarm.turnover_fill <= 100,
            "swarm.turnover_percent",
            "at most 100, as turnover_fill",
        )?;
        check(
            swarm.place_idle >= secs(1),
            "swarm.place_idle",
            "at least 1 s",
        )?;
        for (crowding, field) in [
            (dht.waiting_crowding, "dht.waiting_crowding"),
            (swarm.peer_crowding, "swarm.peer_crowding"),
            (swarm.known_crowding, "swarm.known_crowding"),
            (limits.pending_crowding, "limits.pending_crowding"),
            (limits.incoming_crowding, "limits.incoming_crowding"),
        ] {
            let fits = (1..=crowding.per_network).contains(&crowding.per_address);
            check(
                fits,
                field,
                "1 per address at least, and no more than per network",
            )?;
        }
        check(
            swarm.candidates_per_input >= 1,
            "swarm.candidates_per_input",
            "at least 1",
        )?;
        check(
            swarm.max_half_open >= 1,
            "swarm.max_half_open",
            "at least 1",
        )?;
        check(swarm.min_pipeline >= 1, "swarm.min_pipeline", "at least 1")?;
        let pipeline = swarm.min_pipeline <= swarm.max_pipeline;
        check(pipeline, "swarm.max_pipeline", "at least min_pipeline")?;
        let (shortest, longest) = (Duration::from_millis(100), secs(1));
        check(
            limits.rate_burst >= shortest && limits.rate_burst <= longest,
            "limits.rate_burst",
            "100 ms, the time between refills, to 1 s",
        )?;
        check(
            limits.min_rate_share >= 1,
            "limits.min_rate_share",
            "at least 1 byte",
        )?;
        check(swarm.upload_slots >= 1, "swarm.upload_slots", "at least 1")?;
        check(
            swarm.super_seed_pieces >= 1
                && swarm.super_seed_trust >= swarm.super_seed_pieces.into()
                && swarm.max_super_seed_pieces >= swarm.super_seed_pieces.into(),
            "swarm.super_seed_pieces",
            "1 to super_seed_trust and max_super_seed_pieces",
        )?;
        let slots = swarm.upload_slots <= swarm.max_upload_slots;
        check(slots, "swarm.max_upload_slots", "at least upload_slots")?;
        check(
            swarm.max_seeding_time >= swarm.seeding_time,
            "swarm.max_seeding_time",
            "at least seeding_time",
        )?;
        check(
            swarm.choke_interval >= secs(1),
            "swarm.choke_interval",
            "at least 1 s",
        )?;
        check(swarm.max_metadata >= 1, "swarm.max_metadata", "at least 1")?;
        check(
            swarm.max_metadata_sizes >= 1,
            "swarm.max_metadata_sizes",
            "at least 1",
        )?;
        let turns = swarm.metadata_turn >= Duration::from_millis(1)
            && swarm.metadata_turn <= swarm.max_metadata_turn
            && swarm.max_metadata_turn <= secs(3_600);
        check(
            turns,
            "swarm.metadata_turn",
            "1 ms to max_metadata_turn, that at most 1 h",
        )?;
        check(
            swarm.haves_per_input >= 1,
            "swarm.haves_per_input",
            "at least 1",
        )?;
        check(
            swarm.availability_slice >= 1,
            "swarm.availability_slice",
            "at least 1",
        )?;
        let pause = Duration::from_millis(1)..=secs(1);
        check(
            pause.contains(&swarm.availability_pause),
            "swarm.availability_pause",
            "1 ms to 1 s",
        )?;
        check(
            swarm.pieces_per_input >= 1,
            "swarm.pieces_per_input",
            "at least 1",
        )?;
        check(
            swarm.check_parallel >= 1,
            "swarm.check_parallel",
            "at least 1",
        )?;
        check(
            swarm.save_interval >= secs(1),
            "swarm.save_interval",
            "at least 1 s",
        )?;
        check(swarm.default_reqq >= 1, "swarm.default_reqq", "at least 1")?;
        check(
            swarm.slots_per_optimistic >= 2,
            "swarm.slots_per_optimistic",
            "at least 2",
        )?;
        check(
            swarm.slots_per_prefix >= 1,
            "swarm.slots_per_prefix",
            "at least 1",
        )?;
        check(
            (1..=3).contains(&swarm.endgame_requesters),
            "swarm.endgame_requesters",
            "1 to 3",
        )?;
        check(
            swarm.endgame_blocks >= 1,
            "swarm.endgame_blocks",
            "at least 1",
        )?;
        check(
            swarm.dht_retry >= secs(1),
            "swarm.dht_retry",
            "at least 1 s",
        )?;
        check(
            (secs(1)..=secs(3_600)).contains(&pex.interval),
            "pex.interval",
            "1 s to 1 h",
        )?;
        let named = [pex.max_first, pex.max_added, pex.max_dropped];
        check(
            named.iter().all(|most| (1..=1_000).contains(most)),
            "pex.max_added",
            "1 to 1000, as of max_first and max_dropped",
        )?;
        check(
            wire.max_peer_exchange < wire.max_frame,
            "wire.max_peer_exchange",
            "less than max_frame",
        )?;
        check(
            swarm.dht_urgent_interval >= swarm.dht_retry,
            "swarm.dht_urgent_interval",
            "at least dht_retry",
        )?;
        self.validate_trackers()?;
        check(
            (secs(1)..=secs(3_600)).contains(&lsd.interval),
            "lsd.interval",
            "1 s to 1 h",
        )?;
        check(
            lsd.spacing >= Duration::from_millis(1) && lsd.spacing <= lsd.interval,
            "lsd.spacing",
            "1 ms to interval",
        )?;
        check(
            (256..=1_452).contains(&lsd.max_datagram),
            "lsd.max_datagram",
            "256 to 1452: one packet",
        )?;
        check(
            limits.max_resolved >= 1,
            "limits.max_resolved",
            "at least 1",
        )?;
        check(
            limits.max_connections >= 1,
            "limits.max_connections",
            "at least 1",
        )?;
        check(
            limits.connects_per_second >= 1,
            "limits.connects_per_second",
            "at least 1",
        )?;
        check(
            limits.disk_budget >= 1 << 20,
            "limits.disk_budget",
            "at least 1 MiB",
        )?;
        check(
            (1 << 16..=limits.disk_budget).contains(&limits.min_disk_share),
            "limits.min_disk_share",
            "64 KiB to disk_budget",
        )?;
        check(
            swarm.served_per_input >= 1,
            "swarm.served_per_input",
            "at least 1",
        )?;
        check(
            limits.wakes_per_tick >= 1 && limits.resumed_per_input >= 1,
            "limits.wakes_per_tick",
            "at least 1, as resumed_per_input",
        )?;
        check(
            limits.max_unfinished >= wire.max_frame,
            "limits.max_unfinished",
            "at least wire.max_frame",
        )?;
        check(
            limits.read_budget >= 1 << 18,
            "limits.read_budget",
            "at least 256 KiB",
        )?;

        check(
            (1 << 17..=limits.read_budget).contains(&limits.min_read_share),
            "limits.min_read_share",
            "128 KiB to read_budget",
        )?;
        check(
            swarm.endgame_patience >= Duration::from_millis(1) && swarm.endgame_slower >= 1,
            "swarm.endgame_slower",
            "at least 1, and endgame_patience at least 1 ms",
        )?;
        check(
            (Duration::from_millis(1)..=swarm.request_timeout).contains(&swarm.stall_patience),
            "swarm.stall_patience",
            "1 ms to request_timeout",
        )?;
        Ok(())
    }

    fn validate_trackers(&self) -> Result<(), ConfigError> {
        let tracker = &self.tracker;
        let least = Duration::from_millis(100);
        let checks = [
            (
                tracker.patience >= least,
                "tracker.patience",
                "at least 100 ms",
            ),
            (
                tracker.udp_timeout >= least && tracker.udp_timeout <= secs(120),
                "tracker.udp_timeout",
                "100 ms to 120 s",
            ),
            (tracker.udp_retries <= 8, "tracker.udp_retries", "at most 8"),
            (
                tracker.max_requests >= 1,
                "tracker.max_requests",
                "at least 1",
            ),
            (
                tracker.crowded_pause >= least,
                "tracker.crowded_pause",
                "at least 100 ms",
            ),
            (
                tracker.http_timeout >= secs(1),
                "tracker.http_timeout",
                "at least 1 s",
            ),
            (
                tracker.min_interval >= secs(1)
                    && tracker.min_interval <= tracker.interval
                    && tracker.interval <= tracker.max_interval,
                "tracker.min_interval",
                "1 s to interval, that at most max_interval",
            ),
            (
                tracker.scrape_interval >= secs(1),
                "tracker.scrape_interval",
                "at least 1 s",
            ),
            (
                tracker.retry >= secs(1) && tracker.retry <= tracker.max_retry,
                "tracker.retry",
                "1 s to max_retry",
            ),
            (
                tracker.stop_patience <= secs(60),
                "tracker.stop_patience",
                "at most 60 s",
            ),
            (
                tracker.max_scrapes >= 1,
                "tracker.max_scrapes",
                "at least 1",
            ),
            (
                tracker.begun_per_look >= 1,
                "tracker.begun_per_look",
                "at least 1",
            ),
            (
                tracker.timers_per_input >= 1,
                "tracker.timers_per_input",
                "at least 1",
            ),
        ];
        for (ok, field, expected) in checks {
            if !ok {
                return Err(ConfigError { field, expected });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_a_wrong_field_is_named() {
        assert_eq!(Config::default().validate(), Ok(()));
        let mut config = Config::default();
        config.dht.alpha = 0;
        assert_eq!(config.validate().unwrap_err().field, "dht.alpha");
        let mut config = Config::default();
        config.wire.send_window = 1;
        assert_eq!(config.validate().unwrap_err().field, "wire.send_window");
    }
}
