//! PORT messages (BEP 5), and who sends too many.

use super::*;

/// An address that no rule exempts.
fn remote(n: u32, port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::from(0x5001_0203 + (n << 8)).into(), port)
}

#[test]
fn one_connection_that_names_port_after_port_has_a_few_asked_and_keeps_nobody_waiting() {
    let mut host = Host::new(|_| {});
    let torrent = host.add(Source::Magnet(MAGNET.into()));
    host.give(command(1, Command::AddPeer(torrent, remote(0, 5000))));
    host.pass(Duration::from_secs(1));
    let (conn, to) = host.shake(torrent, PeerId([9; 20]), &[]);
    let mut port = 1_024_u16;
    let mut others = Vec::new();
    for step in 0..600 {
        let mut bytes = Vec::new();
        for _ in 0..200 {
            port = port.wrapping_add(1).max(1_024);
            bytes.extend_from_slice(&[0, 0, 0, 3, 9]);
            bytes.extend_from_slice(&port.to_be_bytes());
        }
        let data = BytesMut::from(&bytes[..]);
        host.give(Input::Received { conn, data });
        if step % 10 == 0 {
            let other = remote(1 + step, 6881);
            others.push(other);
            host.give(command(2, Command::AddDhtNode(other)));
        }
        host.pass(Duration::from_millis(100));
    }
    let asked: Vec<SocketAddr> = host.datagrams.iter().map(|(to, _)| *to).collect();
    let mut ports: Vec<u16> = asked
        .iter()
        .filter(|at| at.ip() == to.ip())
        .map(SocketAddr::port)
        .collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports, [1_025, 1_026, 1_027]);
    assert!(others.iter().all(|other| asked.contains(other)));
}
