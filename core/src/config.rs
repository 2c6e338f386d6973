//! Every limit and parameter, named, with its unit and its reason.

mod validate;

use alloc::string::String;

use crate::metainfo::Rules;
use crate::time::Duration;
pub use validate::ConfigError;

/// How an engine behaves. Validated once, by [`Config::validate`], when the engine is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Client name and version, shown to peers (`v` of BEP 10).
    pub client: String,
    /// First 8 bytes of our peer id (BEP 20).
    pub peer_id_prefix: [u8; 8],
    /// Private addresses count as distinct hosts, for test networks: per-address and per-prefix
    /// limits do not apply to them.
    pub lab: bool,
    /// Whether decisions are explained in events (`Event::Explained`): why a peer is served or
    /// not, why a block is asked for.
    pub explain: bool,
    /// Whether streams may be opened and accepted over TCP.
    pub tcp: bool,
    /// DHT (BEP 5).
    pub dht: DhtConfig,
    /// Local service discovery (BEP 14).
    pub lsd: LsdConfig,
    /// Peer exchange (BEP 11).
    pub pex: PexConfig,
    /// Each connection.
    pub wire: WireConfig,
    /// Each torrent.
    pub swarm: SwarmConfig,
    /// Trackers.
    pub tracker: TrackerConfig,
    /// What all torrents share.
    pub limits: Limits,
}

/// Parameters of the DHT.
#[derive(Debug, Clone, PartialEq)]
pub struct DhtConfig {
    /// Whether the DHT runs at all.
    pub enabled: bool,
    /// Announce ourselves as read-only (BEP 43): we ask, and answer nothing.
    pub read_only: bool,
    /// Contacts of the first four buckets; wide buckets start lookups 3 to 4 bits closer.
    pub wide_buckets: [u16; 4],
    /// Contacts of every other bucket: the `k` of Kademlia.
    pub bucket_size: u16,
    /// Replacements remembered per bucket.
    pub replacements: u16,
    /// Queries of one lookup in flight.
    pub alpha: u8,
    /// Candidates one lookup remembers.
    pub max_candidates: u16,
    /// Lookups at once; more are queued.
    pub max_lookups: u16,
    /// Lookups waiting for their turn; more are refused.
    pub max_queued_lookups: u16,
    /// After this long without an answer another slot is opened, and in the end whoever would be
    /// among the closest is asked a second time.
    pub short_timeout: Duration,
    /// Least of that, however quick answers are: queueing on a loaded path alone takes this long.
    pub short_timeout_floor: Duration,
    /// After this long a query has failed.
    pub query_timeout: Duration,
    /// Consecutive failures after which a node without a spare is dropped.
    pub max_failures: u8,
    /// Time between refresh queries of one table.
    pub refresh_interval: Duration,
    /// When a node turns out to be another, the nodes of its bucket are asked whether they still
    /// are who they were, but at most this often: one that changes its id all the time would have
    /// us ask its neighbours as often.
    pub recheck_interval: Duration,
    /// Nodes heard or asked within this time are not asked then.
    pub fresh_for: Duration,
    /// A node whose id changes twice within this time stays out of the table until as long after
    /// the second change. Once is a restart, or an id that follows the address (BEP 42).
    pub id_change_pause: Duration,
    /// Hosts remembered because their node changed its id; the oldest change is forgotten first.
    pub max_changed_nodes: u16,
    /// Pause before our own id is looked up again when the last lookup found other nodes than the
    /// one before; it doubles every time. Short, since others may be joining at this moment.
    pub bootstrap_pause: Duration,
    /// Longest such pause.
    pub max_bootstrap_pause: Duration,
    /// Such lookups, from the first on, for which others wait as long as nobody is known; after
    /// that there is perhaps nobody to be known.
    pub patient_rounds: u8,
    /// Such lookups in a row that bring nothing new, after which we have joined.
    pub quiet_rounds: u8,
    /// Time between lookups of our own id once they find nothing new: neighbours come and go.
    pub own_lookup_interval: Duration,
    /// Nodes in a table below which we are still joining, whatever lookups find.
    pub small_table: u16,
    /// Nodes in the tables below which the network is taken to be young: torrents announced then
    /// are announced again as soon as there are twice as many.
    pub young_table: u16,
    /// Timers handled for one input; the rest waits for the next tick.
    pub timers_per_input: u16,
    /// Queued lookups begun for one input.
    pub starts_per_input: u16,
    /// Packets of one address in `budget_window` before it is ignored.
    pub address_packets: u16,
    /// Window of the per-address budget.
    pub budget_window: Duration,
    /// How long a flooding address is ignored.
    pub flood_ban: Duration,
    /// Addresses remembered by the per-address budget, rounded down to a power of two.
    pub max_tracked_addresses: u32,
    /// Bytes of replies per second to all; over it requests are dropped without a word.
    pub reply_bytes_per_second: u32,
    /// Longest reply, bytes: one packet on any usual path.
    pub max_reply: u16,
    /// Bytes of replies per second to all who did not show yet that they receive them: this is
    /// what forged sources can make us send.
    pub unproven_bytes_per_second: u32,
    /// The same to one address in `budget_window`.
    pub unproven_bytes_per_address: u32,
    /// A reply is at most this many times its query until the asker showed that it receives.
    pub amplification: u8,
    /// Time between changes of the token secret; the previous one stays valid.
    pub token_rotation: Duration,
    /// Info-hashes in the peer store.
    pub max_stored_torrents: u32,
    /// Peers per info-hash in the peer store.
    pub max_stored_peers: u32,
    /// Peers one host (an address of IPv4, a /64 of IPv6) may have in the peer store, so that
    /// nobody fills it alone.
    pub max_stored_per_host: u16,
    /// The same of one network (a /24 of IPv4, a /48 of IPv6), whose hosts may all be one
    /// person's: as much as four hosts.
    pub max_stored_per_network: u16,
    /// Endpoints of one host per info-hash; a few, since computers behind one router share an
    /// address or a /64.
    pub max_stored_ports: u16,
    /// Peers of one network per info-hash, so that it takes many networks to keep others out.
    pub max_stored_nearby: u16,
    /// Distinct peers one lookup reports; more are passed over.
    pub max_lookup_peers: u32,
    /// Nodes heard of that wait to be pinged; more are passed over.
    pub max_waiting_nodes: u16,
    /// Of which one address and one network may have this many: whoever names them may know only
    /// itself, under all its ports.
    pub waiting_crowding: Crowding,
    /// Time between such pings, so that a loaded table is no burst.
    pub ping_interval: Duration,
    /// Contacts of a bootstrap that are remembered.
    pub max_routers: u16,
    /// Peers in one reply, IPv4; fits an unfragmented packet.
    pub reply_peers_v4: u16,
    /// Peers in one reply, IPv6.
    pub reply_peers_v6: u16,
    /// A stored peer is forgotten this long after its announce.
    pub peer_lifetime: Duration,
    /// Items of others that are kept in each address family (BEP 44); a closer one takes the place
    /// of the farthest.
    pub max_items: u16,
    /// Items that one host may have kept, so that nobody fills the store alone.
    pub max_items_per_host: u16,
    /// The same of one network (a /24 of IPv4, a /48 of IPv6).
    pub max_items_per_network: u16,
    /// An item is forgotten this long after it was last put (BEP 44).
    pub item_lifetime: Duration,
    /// Signatures of items that are being checked for us; of more items nothing is known, and those
    /// who bring them are told to come back.
    pub max_signature_checks: u16,
    /// A signature that is not checked by then is taken to be wrong.
    pub signature_patience: Duration,
    /// Info-hashes in one answer to a survey (BEP 51); with nodes beside them it is one packet.
    pub samples: u8,
    /// How long such an answer stays the same.
    pub sample_interval: Duration,
    /// One that is short is drawn anew when there is more, but not more often than this: all that
    /// is kept is looked at.
    pub sample_renewal: Duration,
    /// Time between looks at the next `sweep_slice` info-hashes for peers to be forgotten.
    pub sweep_interval: Duration,
    /// Info-hashes looked at then; few, since each may have many peers.
    pub sweep_slice: u16,
    /// Time between announces of a torrent.
    pub announce_interval: Duration,
    /// Queries of ours per second, whoever asks for them: what many lookups and checks at once
    /// cost others, and a table of hundreds that is loaded.
    pub queries_per_second: u16,
    /// Queries of ours at once, after a silence.
    pub queries_burst: u16,
    /// New remote endpoints per second; home routers fall over near 100.
    pub new_endpoints_per_second: u16,
    /// New remote endpoints at once, after a silence.
    pub new_endpoints_burst: u16,
    /// Endpoints remembered as not new, rounded down to a power of two; when more are in use, some
    /// cost the budget again.
    pub max_tracked_endpoints: u16,
    /// How long a home router is taken to remember an endpoint without traffic.
    pub mapping_lifetime: Duration,
    /// Networks whose votes on our address are remembered; newer ones take the place of older.
    pub max_voters: u8,
    /// Agreeing networks below which no vote changes our address.
    pub vote_quorum: u8,
    /// Routers are asked only when fewer starting nodes than this are known.
    pub router_threshold: u16,
    /// Largest datagram read; longer ones are dropped.
    pub max_datagram: u16,
    /// A bootstrap that has found nobody by then is answered so.
    pub bootstrap_patience: Duration,
}

/// Parameters of local service discovery.
#[derive(Debug, Clone, PartialEq)]
pub struct LsdConfig {
    /// Whether torrents are announced to the local network, and peers taken from it.
    pub enabled: bool,
    /// Time between announces of a torrent: BEP 14 asks for 5 minutes.
    pub interval: Duration,
    /// Time between datagrams, over all torrents: BEP 14 asks for a second at least.
    pub spacing: Duration,
    /// Longest datagram sent or read, bytes: one packet of Ethernet.
    pub max_datagram: u16,
    /// Networks with global addresses that are remembered as ours, since our own datagrams come
    /// back from there; the oldest is forgotten first.
    pub max_networks: u8,
}

/// Parameters of peer exchange.
#[derive(Debug, Clone, PartialEq)]
pub struct PexConfig {
    /// Whether peers are told of others, and what they tell is used.
    pub enabled: bool,
    /// Time between two messages to one peer: BEP 11 asks for a minute at least.
    pub interval: Duration,
    /// From a handshake to the first message, which names everyone who is connected: those who
    /// come together are told of together.
    pub first_delay: Duration,
    /// Peers named in the first message; whoever is told remembers fewer.
    pub max_first: u16,
    /// Peers that came, in each later message (BEP 11: 50).
    pub max_added: u16,
    /// Peers that left, in each later message (BEP 11: 50).
    pub max_dropped: u16,
    /// While fewer peers than this are connected, those that leave are still told of: they are
    /// most likely to be there again soon, and others may find each other through us.
    pub few_peers: u16,
    /// Of which this many at most; the one that left first is dropped first.
    pub max_held: u16,
    /// Peers that left and wait to be named; whoever comes and goes by the hundred makes some of
    /// them go unnamed.
    pub max_waiting_drops: u16,
    /// Messages of one peer in `budget_window`, besides its first; more end the connection.
    /// Several, since what waited in a slow connection comes all at once.
    pub max_messages: u8,
    /// Window of that budget.
    pub budget_window: Duration,
    /// Contacts that came, and as many that left, that are looked at in one message.
    pub max_contacts: u16,
    /// Peers that are remembered of those one peer tells of, so that no one decides alone whom we
    /// connect to.
    pub max_remembered: u16,
}

/// Whether connections are encrypted (Message Stream Encryption). Everything but `Off` needs the
/// feature `encryption`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncryptionMode {
    /// Never: neither ours nor those of others.
    Off,
    /// Ours are plain, unless a peer hangs up on that; others have their way, plain text where they
    /// leave it to us.
    Allow,
    /// Ours are encrypted, unless a peer cannot; others have their way, RC4 where they leave it to
    /// us.
    Prefer,
    /// Always, with RC4.
    Require,
}

/// Parameters of one connection.
#[derive(Debug, Clone, PartialEq)]
pub struct WireConfig {
    /// Whether it is encrypted.
    pub encryption: EncryptionMode,
    /// From connection to finished handshake.
    pub handshake_timeout: Duration,
    /// Silence after which a peer is dropped.
    pub idle_timeout: Duration,
    /// Silence of ours after which a keep-alive is sent.
    pub keep_alive: Duration,
    /// Longest frame accepted, in bytes; the largest legal message is a bitfield.
    pub max_frame: u32,
    /// Largest block sent or accepted, bytes.
    pub max_block: u32,
    /// Messages handled for one input; the rest waits for the next tick.
    pub max_messages_per_input: u16,
    /// Unsent bytes per connection.
    pub send_window: u32,
    /// A peer that takes nothing of what it is sent for this long is dropped: it would hold memory
    /// for ever. Whoever is merely slow takes some.
    pub send_timeout: Duration,
    /// Bytes a peer may be read ahead when it makes use of them and the disk budget has room.
    pub receive_window: u32,
    /// Bytes any peer may be read ahead: a few blocks, so that many idle peers hold little.
    pub min_receive_window: u32,
    /// Bytes of one extension handshake.
    pub max_extension_handshake: u32,
    /// Bytes of one message of peer exchange; far more than the longest that makes sense.
    pub max_peer_exchange: u32,
    /// Bytes kept of the name a peer gives its client; names are for people, and short.
    pub max_client_name: u16,
    /// Messages at most that wait in a connection for send window besides blocks.
    pub max_queued_control: u32,
}

/// What one address and one network (/24 of IPv4, /64 of IPv6) may have at most of something
/// that all share. Loopback is exempt, as is a private network in a [`Config::lab`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crowding {
    /// Of one address, behind which there may be a few people, or one with bad intentions.
    pub per_address: u16,
    /// Of one network, whose addresses may all be one person's.
    pub per_network: u16,
}

/// Parameters of one torrent.
#[derive(Debug, Clone, PartialEq)]
pub struct SwarmConfig {
    /// Connected peers.
    pub max_peers: u16,
    /// Of which one address and one network may have this many, however they came.
    pub peer_crowding: Crowding,
    /// Time between looks for the least useful peers, near the limit of peers.
    pub turnover_interval: Duration,
    /// How many of all peers, in percent, make room for others then; one at least.
    pub turnover_percent: u8,
    /// Percent of that limit from which on that is done.
    pub turnover_fill: u8,
    /// When all places are taken, a connection over which no block's worth of anything has flowed
    /// for this long may have to make room for a newcomer: one on which nobody waits for anything,
    /// whoever comes. As long as any newcomer is given to show what it is good for.
    pub place_idle: Duration,
    /// One on which somebody waits makes room for a peer that ranks higher (BEP 40), but only one
    /// in this time: no flood of newcomers churns out those who wait.
    pub place_interval: Duration,
    /// Peers known but not connected.
    pub max_known_peers: u32,
    /// Of which one address and one network may have this many.
    pub known_crowding: Crowding,
    /// Known peers that one input looks at to find some to connect to; more follow at once.
    pub candidates_per_input: u16,
    /// Time a connection attempt may take.
    pub connect_timeout: Duration,
    /// Connection attempts at once.
    pub max_half_open: u16,
    /// Reconnect after this times (failures + 1).
    pub reconnect_delay: Duration,
    /// A peer that the user named, and while there is no other and something is missing any peer,
    /// is tried again sooner: after this, doubled with each failure after the first, as long as
    /// that is less. It may just not be up yet.
    pub reconnect_soon: Duration,
    /// Failures in a row up to which a peer that nobody named is tried again so soon: when we are
    /// cut off, who was known is to last longer than that.
    pub soon_failures: u8,
    /// Failures in a row after which a peer that nobody named is forgotten; a connection that
    /// brought or took something begins the count anew.
    pub max_peer_failures: u8,
    /// Seconds of download that are requested ahead.
    pub pipeline_time: Duration,
    /// Fewest blocks requested ahead.
    pub min_pipeline: u16,
    /// Most blocks requested ahead.
    pub max_pipeline: u16,
    /// Requests of one peer that wait to be served; more are rejected.
    pub max_served_queue: u16,
    /// Blocks read and pieces of metadata sent for one input; the rest follows at once. What peers
    /// have asked for may be far more.
    pub served_per_input: u32,
    /// A request unanswered for this long marks the peer snubbed, whoever else there is.
    pub request_timeout: Duration,
    /// A request this long after a choke is forgiven.
    pub choke_grace: Duration,
    /// Pieces picked at random before rarest first.
    pub random_first: u32,
    /// Pieces begun and not finished, besides one per peer.
    pub max_partial_pieces: u32,
    /// Unchoke slots, optimistic ones included.
    pub upload_slots: u16,
    /// Slots of a seed while its peers take less than it could give: more are tried out while the
    /// rate grows with them.
    pub max_upload_slots: u16,
    /// Time for which more slots are tried out; the rate of the last few seconds shows what they
    /// brought.
    pub slot_trial: Duration,
    /// Time after which they are tried again when they brought nothing.
    pub slot_trial_pause: Duration,
    /// Growth of the rate, in percent, for which half as many slots again are worth keeping.
    pub slot_gain: u8,
    /// Time between rounds of the choker.
    pub choke_interval: Duration,
    /// Time between changes of the optimistic unchoke.
    pub optimistic_interval: Duration,
    /// Largest metadata accepted, bytes.
    pub max_metadata: u32,
    /// Metadata assemblies of different claimed sizes at once.
    pub max_metadata_sizes: u8,
    /// Metadata requests in flight per peer.
    pub metadata_requests: u8,
    /// A claimed size that waited this long for an assembly takes the place of the one that
    /// brings least, and keeps it as long; after a wrong hash a peer contributes alone for this
    /// long before another may. Long enough for most metadata at a modest rate.
    pub metadata_turn: Duration,
    /// Turns that were used well are doubled the next time, up to this: long enough for the
    /// largest metadata at a modest rate.
    pub max_metadata_turn: Duration,
    /// Pause after a rejected metadata request.
    pub metadata_pause: Duration,
    /// Most pieces of a torrent; larger ones are refused.
    pub max_pieces: u32,
    /// Pieces that one input looks at when storage has been opened; more follow at once. A few
    /// milliseconds of work.
    pub pieces_per_input: u32,
    /// Haves sent to one peer, which came before it was known what we have, for one input; more
    /// follow at once.
    pub haves_per_input: u32,
    /// Pieces of peers that come or leave which are counted, to know how common each is, in one
    /// `availability_pause`: half a millisecond of work.
    pub availability_slice: u32,
    /// Time after which as many are counted again, so that peers that come and go with a great
    /// many pieces take a small part of the time.
    pub availability_pause: Duration,
    /// Blocks of bad pieces that are remembered with their hash (20 bytes) and who brought them,
    /// until the right piece shows who lied; the oldest piece is forgotten first.
    pub max_suspect_blocks: u32,
    /// Pieces hashed at once when data on disk is checked.
    pub check_parallel: u8,
    /// Time between saves of resume data while something changes.
    pub save_interval: Duration,
    /// Whether the DHT may be asked for peers.
    pub dht: bool,
    /// First pause before the DHT is asked again by a torrent that found too few peers, or that
    /// too few nodes know of; doubles up to the announce interval.
    pub dht_retry: Duration,
    /// A torrent that lost its last peer asks the DHT again at once, but not sooner than this
    /// after the last time, so that a peer that comes and goes does not keep it asking.
    pub dht_urgent_interval: Duration,
    /// DHT ports that one connection may name; a peer has one, and another when it restarts its
    /// node.
    pub max_dht_ports: u8,
    /// Requests assumed to be queued by a peer that does not say: what most clients do.
    pub default_reqq: u32,
    /// Blocks nobody asked for after which a peer is dropped; some are on their way when they
    /// are cancelled.
    pub max_unasked_blocks: u32,
    /// HAVEs remembered of one peer before the number of pieces is known.
    pub max_early_haves: u32,
    /// Pieces a choked peer may begin with (BEP 6 suggests ten).
    pub allowed_fast: u8,
    /// Pieces remembered that one peer allows while it chokes us.
    pub max_allowed_fast: u16,
    /// Pieces remembered that one peer suggests; the oldest is forgotten first.
    pub max_suggested: u16,
    /// Peers that left whose addresses are remembered, so that a bad piece can still be blamed.
    pub max_departed: u16,
    /// Addresses never connected to again; the oldest is forgotten first.
    pub max_banned: u32,
    /// Peers saved for the next start: enough to begin with.
    pub saved_peers: u16,
    /// Slots of which one is optimistic.
    pub slots_per_optimistic: u16,
    /// Slots for peers of one address prefix (IPv4 /24, IPv6 /48), so that one network cannot
    /// take them all. Loopback is exempt.
    pub slots_per_prefix: u16,
    /// Seeding: a peer keeps its slot at least this long.
    pub seeding_time: Duration,
    /// Seeding: a peer that got this many bytes gives its slot to one that waits.
    pub seeding_quota: u64,
    /// Seeding: a slow peer does so after this long, whatever it got.
    pub max_seeding_time: Duration,
    /// Seeding: one in so many slots changes hands in one round, so that the others keep the
    /// uplink busy until its next peer has asked for something.
    pub slots_per_turn: u16,
    /// Super-seeding: pieces that a peer is told of first and has not passed on.
    pub super_seed_pieces: u8,
    /// Super-seeding: a peer that was sent all it was told of, and could pass on none of it for
    /// this long, has room for twice as many: clients let each other wait for seconds, and our
    /// uplink need not idle meanwhile.
    pub super_seed_idle: Duration,
    /// And room for so many at most before it has passed on one: what somebody who passes on
    /// nothing is given for nothing.
    pub super_seed_trust: u16,
    /// And for so many at most after that.
    pub max_super_seed_pieces: u16,
    /// Super-seeding: a peer that could pass on none for this long is told of another all the same.
    pub super_seed_patience: Duration,
    /// A peer that brings a piece within this time is given whole ones.
    pub whole_piece_time: Duration,
    /// Largest piece, bytes, that is kept for one peer because it is fast.
    pub max_whole_piece: u32,
    /// Peers asked for one block at once in endgame, 1 to 3; a block that arrives twice is
    /// wasted.
    pub endgame_requesters: u8,
    /// Blocks one peer is asked for in endgame while others are asked for them too: what it may
    /// waste.
    pub endgame_blocks: u16,
    /// Endgame: the first block of a queue is worth racing when it will take longer than this; an
    /// idle peer that has brought nothing yet is taken to need as long.
    pub endgame_patience: Duration,
    /// And so many times longer than the idle peer will need.
    pub endgame_slower: u8,
    /// While another peer has nothing to ask for, a request that has had its turn for this long,
    /// and for `endgame_slower` times as long as the idle peer will need, marks its peer snubbed
    /// unless the rest of the block is about to come: what it sits on is given away. Longer than
    /// a disk, a lost packet or a full uplink holds up a peer that serves.
    pub stall_patience: Duration,
    /// Times one piece may be lost by storage (it cannot be read back to be hashed or
    /// committed) before storage counts as failed.
    pub max_lost_pieces: u8,
}

/// Parameters of trackers (BEP 3, 12, 15).
#[derive(Debug, Clone, PartialEq)]
pub struct TrackerConfig {
    /// Whether trackers are asked at all.
    pub enabled: bool,
    /// Trackers of one torrent; more are not asked.
    pub max_trackers: u16,
    /// Longest URL of a tracker, bytes; what redirects lead to may be twice as long.
    pub max_url: u16,
    /// A tracker that did not answer by then has the next one asked beside it.
    pub patience: Duration,
    /// Peers asked for in an announce; none while enough are connected.
    pub num_want: u16,
    /// Peers taken from one answer.
    pub max_answer_peers: u16,
    /// Longest answer over HTTP, bytes: several times what many peers as dictionaries need.
    pub max_answer: u32,
    /// Bytes kept of what trackers want people to read, and of the id one wants to hear again.
    pub max_text: u16,
    /// A datagram unanswered for this long, times 2 to the power of the repetitions, is repeated.
    pub udp_timeout: Duration,
    /// Repetitions, after which a tracker is taken to be away.
    pub udp_retries: u8,
    /// How long a connection id may be used after it came.
    pub connection_lifetime: Duration,
    /// Connection ids remembered; the oldest is forgotten first.
    pub max_connections: u16,
    /// Requests to trackers under way, over all torrents.
    pub max_requests: u16,
    /// Trackers of one torrent that are scraped at once: one that hangs keeps no other waiting.
    pub max_scrapes: u16,
    /// Announces and scrapes begun for one look at a torrent; the rest is due at once again.
    pub begun_per_look: u16,
    /// Pause before a torrent that found so many under way tries again.
    pub crowded_pause: Duration,
    /// Time a request over HTTP may take, each redirect by itself.
    pub http_timeout: Duration,
    /// Redirects followed, one after another.
    pub max_redirects: u8,
    /// Time between announces to a tracker that does not say.
    pub interval: Duration,
    /// Shortest time between announces, whatever a tracker says.
    pub min_interval: Duration,
    /// Longest time between announces, whatever a tracker says: much later we are forgotten.
    pub max_interval: Duration,
    /// Time between scrapes of a tracker whose announces do not tell how many peers it knows.
    pub scrape_interval: Duration,
    /// Pause after a first failure; doubles with each that follows.
    pub retry: Duration,
    /// Longest such pause.
    pub max_retry: Duration,
    /// Time that goodbyes of a torrent are waited for.
    pub stop_patience: Duration,
    /// Timers handled for one input; the rest waits for the next tick.
    pub timers_per_input: u16,
}

/// What all torrents of an engine share.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Torrents.
    pub max_torrents: u32,
    /// Connections, half-open ones included.
    pub max_connections: u32,
    /// Inbound connections beyond those, which may shake hands so that they can take the place of
    /// one that is of no use.
    pub spare_connections: u16,
    /// Inbound connections that have not finished their handshake.
    pub max_pending_incoming: u32,
    /// Of which one address and one network may have this many.
    pub pending_crowding: Crowding,
    /// Inbound connections that one address and one network may have over all torrents.
    pub incoming_crowding: Crowding,
    /// Peers and nodes by name or address that one link or torrent may make us contact.
    pub max_hints: u16,
    /// Addresses of one name that are used; a name may have a great many.
    pub max_resolved: u16,
    /// Addresses remembered as our own, because a connection to them led back to us.
    pub max_own_addresses: u16,
    /// Connection attempts per second.
    pub connects_per_second: u16,
    /// Block bytes handed to storage and not answered; over it reading is parked. See
    /// [`crate::storage::DiskBudget`] for what may come on top.
    pub disk_budget: u64,
    /// What one torrent may have of them whatever others use, so that a disk that hangs stops
    /// only its own torrents.
    pub min_disk_share: u64,
    /// Block bytes read from disk and not yet sent, besides one block for each connection: those
    /// who take nothing of what they are sent keep no other from its own.
    pub read_budget: u64,
    /// Least share of it that one torrent has, bytes, however many torrents there are: some blocks.
    pub min_read_share: u64,
    /// Bytes held for unfinished messages (bitfields and those of extensions), over all
    /// connections; over it, whoever holds most is dropped. Honest ones are done in a moment.
    pub max_unfinished: u32,
    /// Deadlines worked off for one `Tick`, of connections above all; the rest follows at once.
    pub wakes_per_tick: u16,
    /// Connections that are read from again for one input, once a budget has room; the rest follows
    /// at once.
    pub resumed_per_input: u16,
    /// Of a rate that is not used so much is kept, as time: long enough to make up for a host that
    /// is late, short enough that a rate holds over any few seconds.
    pub rate_burst: Duration,
    /// Where a rate limits downloads, bytes that a connection is read ahead however many there are:
    /// fewer at a time would cost more calls of the system than they are worth.
    pub min_rate_share: u32,
    /// Download rate, bytes per second; 0 is unlimited.
    pub download_rate: u64,
    /// Upload rate, bytes per second; 0 is unlimited.
    pub upload_rate: u64,
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Default for Config {
    fn default() -> Self {
        Self {
            client: String::from(concat!("Trackerless ", env!("CARGO_PKG_VERSION"))),
            peer_id_prefix: *b"-TK0100-",
            lab: false,
            explain: false,
            tcp: true,
            dht: DhtConfig::default(),
            lsd: LsdConfig::default(),
            pex: PexConfig::default(),
            wire: WireConfig::default(),
            swarm: SwarmConfig::default(),
            tracker: TrackerConfig::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for DhtConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            read_only: false,
            wide_buckets: [128, 64, 32, 16],
            bucket_size: 8,
            replacements: 8,
            alpha: 5,
            max_candidates: 100,
            max_lookups: 32,
            max_queued_lookups: 4096,
            short_timeout: secs(1),
            short_timeout_floor: Duration::from_millis(100),
            query_timeout: secs(8),
            max_failures: 20,
            refresh_interval: secs(5),
            recheck_interval: secs(300),
            fresh_for: secs(60),
            id_change_pause: secs(600),
            max_changed_nodes: 256,
            bootstrap_pause: secs(1),
            max_bootstrap_pause: secs(300),
            patient_rounds: 2,
            quiet_rounds: 2,
            own_lookup_interval: secs(15 * 60),
            small_table: 16,
            young_table: 64,
            timers_per_input: 64,
            starts_per_input: 4,
            address_packets: 50,
            budget_window: secs(10),
            flood_ban: secs(300),
            max_tracked_addresses: 4096,
            reply_bytes_per_second: 512 * 1024,
            max_reply: 1_400,
            unproven_bytes_per_second: 256 * 1024,
            unproven_bytes_per_address: 8 * 1024,
            amplification: 6,
            token_rotation: secs(300),
            max_stored_torrents: 2_000,
            max_stored_peers: 500,
            max_stored_per_host: 100,
            max_stored_per_network: 400,
            max_stored_ports: 8,
            max_stored_nearby: 16,
            max_lookup_peers: 5_000,
            max_waiting_nodes: 1_024,
            waiting_crowding: Crowding {
                per_address: 4,
                per_network: 16,
            },
            ping_interval: Duration::from_millis(25),
            max_routers: 32,
            reply_peers_v4: 100,
            reply_peers_v6: 25,
            peer_lifetime: secs(45 * 60),
            max_items: 700,
            max_items_per_host: 50,
            max_items_per_network: 200,
            item_lifetime: secs(2 * 60 * 60),
            max_signature_checks: 64,
            signature_patience: secs(10),
            samples: 20,
            sample_interval: secs(6 * 60 * 60),
            sample_renewal: secs(5),
            sweep_interval: secs(5),
            sweep_slice: 16,
            announce_interval: secs(15 * 60),
            queries_per_second: 200,
            queries_burst: 50,
            new_endpoints_per_second: 90,
            new_endpoints_burst: 10,
            max_tracked_endpoints: 2_048,
            mapping_lifetime: secs(60),
            max_voters: 32,
            vote_quorum: 4,
            router_threshold: 3,
            max_datagram: 2048,
            bootstrap_patience: secs(30),
        }
    }
}

impl Default for LsdConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: secs(5 * 60),
            spacing: secs(1),
            max_datagram: 1_400,
            max_networks: 16,
        }
    }
}

impl Default for PexConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: secs(60),
            first_delay: secs(1),
            max_first: 100,
            max_added: 50,
            max_dropped: 50,
            few_peers: 25,
            max_held: 25,
            max_waiting_drops: 200,
            max_messages: 6,
            budget_window: secs(60),
            max_contacts: 500,
            max_remembered: 50,
        }
    }
}

impl Default for WireConfig {
    fn default() -> Self {
        Self {
            encryption: match cfg!(feature = "encryption") {
                true => EncryptionMode::Allow,
                false => EncryptionMode::Off,
            },
            handshake_timeout: secs(10),
            idle_timeout: secs(120),
            keep_alive: secs(90),
            max_frame: 1024 * 1024,
            max_block: 128 * 1024,
            max_messages_per_input: 256,
            send_window: 512 * 1024,
            send_timeout: secs(60),
            receive_window: 1024 * 1024,
            min_receive_window: 64 * 1024,
            max_extension_handshake: 64 * 1024,
            max_peer_exchange: 500_000,
            max_client_name: 128,
            max_queued_control: 256 * 1024,
        }
    }
}

impl SwarmConfig {
    /// What a torrent may ask of an engine with this configuration at most.
    #[must_use]
    pub fn rules(&self) -> Rules {
        Rules {
            max_pieces: self.max_pieces,
            ..Rules::default()
        }
    }
}

impl Default for SwarmConfig {
    fn default() -> Self {
        Self {
            max_peers: 200,
            turnover_interval: secs(300),
            turnover_percent: 4,
            turnover_fill: 90,
            place_idle: secs(60),
            place_interval: secs(5),
            peer_crowding: Crowding {
                per_address: 4,
                per_network: 16,
            },
            max_known_peers: 2_000,
            known_crowding: Crowding {
                per_address: 8,
                per_network: 64,
            },
            candidates_per_input: 64,
            connect_timeout: secs(15),
            max_half_open: 20,
            reconnect_delay: secs(60),
            reconnect_soon: secs(5),
            soon_failures: 3,
            max_peer_failures: 5,
            pipeline_time: secs(3),
            min_pipeline: 2,
            max_pipeline: 500,
            max_served_queue: 2_000,
            served_per_input: 64,
            request_timeout: secs(60),
            choke_grace: secs(2),
            random_first: 4,
            max_partial_pieces: 64,
            upload_slots: 8,
            max_upload_slots: 64,
            slot_trial: secs(6),
            slot_trial_pause: secs(60),
            slot_gain: 5,
            choke_interval: secs(10),
            optimistic_interval: secs(30),
            max_metadata: 30 * 1024 * 1024,
            max_metadata_sizes: 4,
            metadata_requests: 2,
            metadata_turn: secs(5),
            max_metadata_turn: secs(300),
            metadata_pause: secs(60),
            max_pieces: 4_000_000,
            pieces_per_input: 65_536,
            haves_per_input: 1_024,
            availability_slice: 65_536,
            availability_pause: Duration::from_millis(10),
            max_suspect_blocks: 16_384,
            check_parallel: 4,
            save_interval: secs(10),
            dht: true,
            dht_retry: secs(4),
            dht_urgent_interval: secs(60),
            max_dht_ports: 3,
            default_reqq: 250,
            max_unasked_blocks: 256,
            max_early_haves: 8_192,
            allowed_fast: 10,
            max_allowed_fast: 64,
            max_suggested: 64,
            max_departed: 256,
            max_banned: 1_000,
            saved_peers: 200,
            slots_per_optimistic: 5,
            slots_per_prefix: 3,
            seeding_time: secs(60),
            seeding_quota: 16 * 1024 * 1024,
            max_seeding_time: secs(300),
            slots_per_turn: 4,
            super_seed_pieces: 2,
            super_seed_idle: secs(3),
            super_seed_trust: 8,
            max_super_seed_pieces: 64,
            super_seed_patience: secs(60),
            whole_piece_time: secs(20),
            max_whole_piece: 8 * 1024 * 1024,
            endgame_requesters: 2,
            endgame_blocks: 1,
            endgame_patience: secs(1),
            endgame_slower: 4,
            stall_patience: secs(3),
            max_lost_pieces: 3,
        }
    }
}

impl Default for TrackerConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            max_trackers: 64,
            max_url: 2_048,
            patience: secs(10),
            num_want: 200,
            max_answer_peers: 1_000,
            max_answer: 512 * 1024,
            max_text: 200,
            udp_timeout: secs(15),
            udp_retries: 8,
            connection_lifetime: secs(60),
            max_connections: 256,
            max_requests: 256,
            max_scrapes: 4,
            begun_per_look: 8,
            crowded_pause: secs(5),
            http_timeout: secs(20),
            max_redirects: 3,
            interval: secs(30 * 60),
            min_interval: secs(60),
            max_interval: secs(2 * 3_600),
            scrape_interval: secs(30 * 60),
            retry: secs(30),
            max_retry: secs(3_600),
            stop_patience: secs(2),
            timers_per_input: 32,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_torrents: 10_000,
            max_connections: 2_000,
            spare_connections: 16,
            max_pending_incoming: 100,
            pending_crowding: Crowding {
                per_address: 8,
                per_network: 32,
            },
            incoming_crowding: Crowding {
                per_address: 32,
                per_network: 128,
            },
            max_hints: 64,
            max_resolved: 16,
            max_own_addresses: 16,
            connects_per_second: 30,
            disk_budget: 8 * 1024 * 1024,
            min_disk_share: 256 * 1024,
            read_budget: 32 * 1024 * 1024,
            min_read_share: 256 * 1024,
            max_unfinished: 16 * 1024 * 1024,
            wakes_per_tick: 64,
            resumed_per_input: 32,
            rate_burst: Duration::from_millis(250),
            min_rate_share: 2_048,
            download_rate: 0,
            upload_rate: 0,
        }
    }
}
