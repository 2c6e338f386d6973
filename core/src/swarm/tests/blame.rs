//! Who is banned when pieces that several peers brought turn out wrong: the liars, and nobody
//! else.

use std::collections::BTreeSet;

use quickcheck::quickcheck;

use super::*;
use crate::rng::Label;

/// A leecher among honest seeds and some that lie in every so many-th block. All are slow enough
/// that pieces come from several at once. Gives the world, the leecher and the liars.
fn among(honest: usize, lies: &[u32], config: Config) -> (World, usize, BTreeSet<SocketAddr>) {
    let mut world = World::with(config);
    let info = torrent(24 * 4 * PIECE, 4 * PIECE);
    let mut liars = BTreeSet::new();
    let mut all = Vec::new();
    for lies in core::iter::repeat_n(0, honest).chain(lies.iter().copied()) {
        let seed = world.seed(&info);
        world.nodes[seed].lies = lies;
        world.nodes[seed].up_rate = 300_000;
        if lies > 0 {
            liars.insert(addr(seed));
        }
        all.push(seed);
    }
    let leecher = world.leech(&info);
    world.introduce(leecher, &all);
    (world, leecher, liars)
}

fn banned(world: &World, node: usize) -> BTreeSet<SocketAddr> {
    let events = world.nodes[node].seen.iter();
    let banned = events.filter_map(|event| match event {
        Public::PeerClosed {
            addr,
            reason: CloseReason::Banned,
            ..
        } => Some(*addr),
        _ => None,
    });
    banned.collect()
}

/// Whom the events blame, and how many failures had several suspects.
fn blamed(world: &World, node: usize) -> (BTreeSet<SocketAddr>, usize) {
    let (mut blamed, mut shared) = (BTreeSet::new(), 0);
    for event in &world.nodes[node].seen {
        if let Public::PieceFailed {
            blame, suspects, ..
        } = event
        {
            assert!(blame.is_empty() || suspects.is_empty());
            blamed.extend(blame.iter().copied());
            shared += usize::from(suspects.len() > 1);
        }
    }
    (blamed, shared)
}

#[test]
fn of_those_who_brought_a_bad_piece_exactly_the_liar_is_banned() {
    let (mut world, leecher, liars) = among(4, &[7], Config::default());
    assert!(world.run_while_not(SECOND * 300, |world| world.is_complete(leecher)));
    world.run(SECOND);
    world.assert_right(leecher);
    let (blamed, shared) = blamed(&world, leecher);
    assert!(shared > 0, "no bad piece had several suspects");
    assert_eq!(blamed, liars);
    assert_eq!(banned(&world, leecher), liars);
    assert_eq!(world.nodes[leecher].swarm.blame.blocks(), 0);
}

#[test]
fn a_liar_that_left_before_it_was_known_is_not_let_in_again() {
    let (mut world, leecher, liars) = among(2, &[3], Config::default());
    let failed = |world: &World| blamed(world, leecher).1 > 0;
    assert!(world.run_while_not(SECOND * 60, failed));
    assert!(banned(&world, leecher).is_empty());
    world.give(2, Input::Stop);
    assert!(world.run_while_not(SECOND * 300, |world| world.is_complete(leecher)));
    let (blamed, _) = blamed(&world, leecher);
    assert_eq!(blamed, liars);
    let known = &world.nodes[leecher].swarm.known;
    assert!(liars.iter().all(|liar| known.is_banned(*liar)));
    assert!(!known.is_banned(addr(0)) && !known.is_banned(addr(1)));
}

#[test]
fn without_room_for_suspects_no_honest_peer_is_banned_either() {
    for most in [0, 20] {
        let mut config = Config::default();
        config.swarm.max_suspect_blocks = most;
        let (mut world, leecher, liars) = among(4, &[7], config);
        let mut peak = 0;
        assert!(world.run_while_not(SECOND * 300, |world| {
            peak = peak.max(world.nodes[leecher].swarm.blame.blocks());
            world.is_complete(leecher)
        }));
        world.run(SECOND);
        world.assert_right(leecher);
        // One piece has 16 blocks.
        assert_eq!(peak, most as usize / 16 * 16);
        // Alone with a piece a liar gives itself away.
        assert!(banned(&world, leecher).is_subset(&liars));
    }
}

quickcheck! {
    fn whatever_liars_do_nobody_honest_is_banned(honest: u8, lies: Vec<u8>, seed: u8) -> bool {
        let lies: Vec<u32> = lies.iter().take(3).map(|lies| u32::from(lies % 20) + 1).collect();
        let (mut world, leecher, liars) = among(usize::from(honest % 5) + 1, &lies, Config::default());
        let mut choice = Choice::new(&[seed; 32], Label::Custom(0));
        for node in &mut world.nodes {
            node.up_rate = 100_000 + choice.below(900_000);
        }
        assert!(world.run_while_not(SECOND * 900, |world| world.is_complete(leecher)));
        world.run(SECOND);
        world.assert_right(leecher);
        let (blamed, _) = blamed(&world, leecher);
        assert!(banned(&world, leecher).is_subset(&liars));
        blamed.is_subset(&liars)
    }
}
