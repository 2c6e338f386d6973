//! The engine's configuration as a table of a scenario: every field, under its own name.

use trackerless_core::config::{
    Config, Crowding, DhtConfig, EncryptionMode, Limits, LsdConfig, PexConfig, SwarmConfig,
    TrackerConfig, WireConfig,
};

use super::tree::{Doc, Item, Node, Wrong};
use super::value::{Value, named, table, text};

table!(Config {
    client,
    peer_id_prefix,
    lab,
    explain,
    tcp,
    dht,
    lsd,
    pex,
    wire,
    swarm,
    tracker,
    limits,
});
table!(DhtConfig {
    enabled,
    read_only,
    wide_buckets,
    bucket_size,
    replacements,
    alpha,
    max_candidates,
    max_lookups,
    max_queued_lookups,
    short_timeout,
    short_timeout_floor,
    query_timeout,
    max_failures,
    refresh_interval,
    recheck_interval,
    fresh_for,
    id_change_pause,
    max_changed_nodes,
    bootstrap_pause,
    max_bootstrap_pause,
    patient_rounds,
    quiet_rounds,
    own_lookup_interval,
    small_table,
    young_table,
    timers_per_input,
    starts_per_input,
    address_packets,
    budget_window,
    flood_ban,
    max_tracked_addresses,
    reply_bytes_per_second,
    max_reply,
    unproven_bytes_per_second,
    unproven_bytes_per_address,
    amplification,
    token_rotation,
    max_stored_torrents,
    max_stored_peers,
    max_stored_per_host,
    max_stored_per_network,
    max_stored_ports,
    max_stored_nearby,
    max_lookup_peers,
    max_waiting_nodes,
    waiting_crowding,
    ping_interval,
    max_routers,
    reply_peers_v4,
    reply_peers_v6,
    peer_lifetime,
    max_items,
    max_items_per_host,
    max_items_per_network,
    item_lifetime,
    max_signature_checks,
    signature_patience,
    samples,
    sample_interval,
    sample_renewal,
    sweep_interval,
    sweep_slice,
    announce_interval,
    queries_per_second,
    queries_burst,
    new_endpoints_per_second,
    new_endpoints_burst,
    max_tracked_endpoints,
    mapping_lifetime,
    max_voters,
    vote_quorum,
    router_threshold,
    max_datagram,
    bootstrap_patience,
});
table!(LsdConfig {
    enabled,
    interval,
    spacing,
    max_datagram,
    max_networks,
});
table!(PexConfig {
    enabled,
    interval,
    first_delay,
    max_first,
    max_added,
    max_dropped,
    few_peers,
    max_held,
    max_waiting_drops,
    max_messages,
    budget_window,
    max_contacts,
    max_remembered,
});
table!(WireConfig {
    encryption,
    handshake_timeout,
    idle_timeout,
    keep_alive,
    max_frame,
    max_block,
    max_messages_per_input,
    send_window,
    send_timeout,
    receive_window,
    min_receive_window,
    max_extension_handshake,
    max_peer_exchange,
    max_client_name,
    max_queued_control,
});
table!(Crowding {
    per_address,
    per_network,
});
table!(SwarmConfig {
    max_peers,
    turnover_interval,
    turnover_percent,
    turnover_fill,
    place_idle,
    place_interval,
    peer_crowding,
    max_known_peers,
    known_crowding,
    candidates_per_input,
    connect_timeout,
    max_half_open,
    reconnect_delay,
    reconnect_soon,
    soon_failures,
    max_peer_failures,
    pipeline_time,
    min_pipeline,
    max_pipeline,
    max_served_queue,
    served_per_input,
    request_timeout,
    choke_grace,
    random_first,
    max_partial_pieces,
    upload_slots,
    max_upload_slots,
    slot_trial,
    slot_trial_pause,
    slot_gain,
    choke_interval,
    optimistic_interval,
    max_metadata,
    max_metadata_sizes,
    metadata_requests,
    metadata_turn,
    max_metadata_turn,
    metadata_pause,
    max_pieces,
    pieces_per_input,
    haves_per_input,
    availability_slice,
    availability_pause,
    max_suspect_blocks,
    check_parallel,
    save_interval,
    dht,
    dht_retry,
    dht_urgent_interval,
    max_dht_ports,
    default_reqq,
    max_unasked_blocks,
    max_early_haves,
    allowed_fast,
    max_allowed_fast,
    max_suggested,
    max_departed,
    max_banned,
    saved_peers,
    slots_per_optimistic,
    slots_per_prefix,
    seeding_time,
    seeding_quota,
    max_seeding_time,
    slots_per_turn,
    super_seed_pieces,
    super_seed_idle,
    super_seed_trust,
    max_super_seed_pieces,
    super_seed_patience,
    whole_piece_time,
    max_whole_piece,
    endgame_requesters,
    endgame_blocks,
    endgame_patience,
    endgame_slower,
    stall_patience,
    max_lost_pieces,
});
table!(TrackerConfig {
    enabled,
    max_trackers,
    max_url,
    patience,
    num_want,
    max_answer_peers,
    max_answer,
    max_text,
    udp_timeout,
    udp_retries,
    connection_lifetime,
    max_connections,
    max_requests,
    max_scrapes,
    begun_per_look,
    crowded_pause,
    http_timeout,
    max_redirects,
    interval,
    min_interval,
    max_interval,
    scrape_interval,
    retry,
    max_retry,
    stop_patience,
    timers_per_input,
});
table!(Limits {
    max_torrents,
    max_connections,
    spare_connections,
    max_pending_incoming,
    pending_crowding,
    incoming_crowding,
    max_hints,
    max_resolved,
    max_own_addresses,
    connects_per_second,
    disk_budget,
    min_disk_share,
    read_budget,
    min_read_share,
    max_unfinished,
    wakes_per_tick,
    resumed_per_input,
    rate_burst,
    min_rate_share,
    download_rate,
    upload_rate,
});

const ENCRYPTION: [(&str, EncryptionMode); 4] = [
    ("off", EncryptionMode::Off),
    ("allow", EncryptionMode::Allow),
    ("prefer", EncryptionMode::Prefer),
    ("require", EncryptionMode::Require),
];

impl Value for EncryptionMode {
    fn read(item: &Item, _: &Self) -> Result<Self, Wrong> {
        named(item, &ENCRYPTION)
    }

    fn write(&self, _: &Self) -> Doc {
        let name = ENCRYPTION.iter().find(|(_, mode)| mode == self);
        text(name.map_or("off", |(name, _)| name))
    }
}

/// Contacts of the widest buckets.
impl Value for [u16; 4] {
    fn read(item: &Item, _: &Self) -> Result<Self, Wrong> {
        let four = match &item.node {
            Node::Array(_) => Vec::<u16>::read(item, &Vec::new())?.try_into().ok(),
            _ => None,
        };
        four.ok_or_else(|| item.not("a list of four whole numbers"))
    }

    fn write(&self, _: &Self) -> Doc {
        Doc::Value(format!("{self:?}"))
    }
}

/// The beginning of a peer id (BEP 20).
impl Value for [u8; 8] {
    fn read(item: &Item, _: &Self) -> Result<Self, Wrong> {
        let eight = match &item.node {
            Node::Text(text) => text.as_bytes().try_into().ok(),
            _ => None,
        };
        eight
            .filter(|text: &[u8; 8]| text.is_ascii())
            .ok_or_else(|| item.not("eight characters as \"-TK0100-\""))
    }

    fn write(&self, _: &Self) -> Doc {
        text(&String::from_utf8_lossy(self))
    }
}
