//! Those who ask and do not read keep nothing from the others.

use super::world::{World, hello};
use super::*;

const BLOCK: u32 = 16 * 1024;

/// Connects peers to `seed` whose way in never drains: nothing says that what they were sent has
/// left. Each asks for all that it may have while choked, again and again.
fn silent(world: &mut World, seed: usize, numbers: core::ops::Range<u32>, interested: bool) {
    world.run(SECOND);
    for number in numbers {
        let id = conn(10_000 + number);
        let peer = hello(number as u8, addr(number as usize), true);
        world.give(seed, Input::Joined(id, peer));
        world.give(seed, Input::Message(id, Message::HaveNone));
        if interested {
            world.give(seed, Input::Message(id, Message::Interested));
        }
        let swarm = &world.nodes[seed].swarm;
        let mut pieces = swarm.peers[&id].allowed_out.clone();
        if !swarm.peers[&id].choked {
            pieces.extend(0..32);
        }
        assert!(!pieces.is_empty());
        for piece in pieces {
            for begin in (0..PIECE as u32).step_by(BLOCK as usize) {
                let length = BLOCK;
                let block = BlockRef {
                    piece,
                    begin,
                    length,
                };
                world.give(seed, Input::Message(id, Message::Request(block)));
            }
        }
    }
    world.run(SECOND);
}

/// Bytes under way to `seed`'s peers.
fn under_way(world: &World, seed: usize) -> u64 {
    let peers = world.nodes[seed].swarm.peers.values();
    peers.map(|peer| peer.reading + peer.unsent).sum()
}

#[test]
fn choked_peers_that_never_read_keep_nobody_from_being_served() {
    // The least that a torrent is granted, and more than it has of unsent bytes by these peers.
    for read_bytes in [256 * 1024, 1 << 20] {
        let mut world = World::new();
        let info = torrent(64 * PIECE, PIECE);
        let seed = world.seed(&info);
        let grant = Grant {
            read_bytes,
            ..world::generous()
        };
        world.give(seed, Input::Grant(grant));
        silent(&mut world, seed, 50..150, false);
        let leecher = world.leech(&info);
        world.introduce(leecher, &[seed]);
        assert!(world.run_while_not(SECOND * 30, |world| world.is_complete(leecher)));
        world.run(SECOND);
        world.assert_right(leecher);
        // A block for each, and what is granted to all.
        let most = read_bytes + 101 * u64::from(BLOCK);
        assert!(under_way(&world, seed) <= most);
    }
}

#[test]
fn nor_do_unchoked_ones() {
    let mut world = World::new();
    let info = torrent(64 * PIECE, PIECE);
    let seed = world.seed(&info);
    let grant = Grant {
        read_bytes: 256 * 1024,
        ..world::generous()
    };
    world.give(seed, Input::Grant(grant));
    // As many as there are slots.
    silent(&mut world, seed, 50..58, true);
    let most = grant.read_bytes + 8 * u64::from(BLOCK);
    assert!((1..=most).contains(&under_way(&world, seed)));
    let leecher = world.leech(&info);
    world.introduce(leecher, &[seed]);
    assert!(world.run_while_not(SECOND * 600, |world| world.is_complete(leecher)));
}

#[test]
fn one_peer_that_never_reads_leaves_room_for_others() {
    let mut world = World::new();
    let info = torrent(64 * PIECE, PIECE);
    let seed = world.seed(&info);
    let read_bytes = 256 * 1024;
    let grant = Grant {
        read_bytes,
        ..world::generous()
    };
    world.give(seed, Input::Grant(grant));
    silent(&mut world, seed, 50..51, true);
    let taken = under_way(&world, seed);
    assert!(
        (read_bytes / 4..=read_bytes * 3 / 4).contains(&taken),
        "{taken}"
    );
}
