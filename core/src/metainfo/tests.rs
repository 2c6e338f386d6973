use super::*;
use crate::id::hex;
use std::format;

fn info_hashes(bytes: &'static [u8]) -> Torrent {
    Torrent::parse(Bytes::from_static(bytes)).expect("a torrent")
}

#[test]
fn v2_torrents_have_the_published_hashes() {
    let v2 = |torrent: &Torrent| hex(&torrent.info.hashes.v2().expect("v2"));
    let root = |torrent: &Torrent| hex(&torrent.info.files[0].pieces_root.expect("a root"));

    let small = info_hashes(include_bytes!("testdata/v2.torrent"));
    assert_eq!(small.info.version, Version::Hybrid);
    assert_eq!(
        v2(&small),
        "597b180c1a170a585dfc5e85d834d69013ceda174b8f357d5bb1a0ca509faf0a"
    );
    assert_eq!(
        root(&small),
        "60aae9c7b428f87e0713e88229e18f0adf12cd7b22a0dd8a92bb2485eb7af242"
    );

    let large = info_hashes(include_bytes!("testdata/v2_multipiece_file.torrent"));
    let only = info_hashes(include_bytes!("testdata/v2_only.torrent"));
    assert_eq!(only.info.version, Version::V2);
    assert_eq!(large.info.version, Version::Hybrid);
    let same = "515ea9181744b817744ded9d2e8e9dc6a8450c0b0c52e24b5077f302ffbd9008";
    assert_eq!(root(&large), same);
    assert_eq!(root(&only), same);
    assert_eq!(
        v2(&large),
        "108ac2c3718ce722e6896edc56c4afa98f1d711ecaace7aad74fca418ebd03de"
    );
    assert_eq!(
        v2(&only),
        "95e04d0c4bad94ab206efa884666fd89777dbe4f7bd9945af1829037a85c6192"
    );
    assert_eq!(only.piece_layers, large.piece_layers);
    assert_eq!(only.piece_layers.len(), 1);
}

fn torrent(info: &str) -> Result<Torrent, MetainfoError> {
    Torrent::parse(Bytes::from(format!("d4:info{info}e").into_bytes()))
}

#[test]
fn a_plain_torrent_is_read() {
    let pieces = "x".repeat(40);
    let info = format!("d6:lengthi30e4:name1:a12:piece lengthi16e6:pieces40:{pieces}e");
    let torrent = torrent(&info).expect("a torrent");
    assert_eq!(torrent.info.raw, info.as_bytes());
    assert_eq!(
        Info::parse(torrent.info.raw.clone()).as_ref(),
        Ok(&*torrent.info)
    );
    assert_eq!(
        (torrent.info.piece_count, torrent.info.piece_size(1)),
        (2, 14)
    );
    assert_eq!(torrent.info.files[0].path, ["a"]);
}
