//! One function per decoder: any bytes may come, and what is accepted survives a round trip.

use bytes::Bytes;
use sha1::{Digest as _, Sha1};
use trackerless_core::bencode::{self as ben, Limits, Scratch, Writer};
use trackerless_core::config::PexConfig;
use trackerless_core::dht::krpc::{Message, Saved};
use trackerless_core::lsd::Search;
use trackerless_core::metainfo::{Magnet, Torrent};
use trackerless_core::record::Header;
use trackerless_core::resume::{MAGIC, Resume};
use trackerless_core::wire::extension;
use trackerless_core::{
    compact as addresses, metadata as ut_metadata, pex as ut_pex, record as recording,
};

fn rewrite(value: ben::Value<'_, '_>, writer: &mut Writer<'_>) {
    if let Some(number) = value.as_int() {
        writer.int(number);
    } else if let Some(bytes) = value.as_bytes() {
        writer.bytes(bytes);
    } else if let Some(list) = value.as_list() {
        writer.list();
        for item in list.iter() {
            rewrite(item, writer);
        }
        writer.end();
    } else if let Some(dict) = value.as_dict() {
        writer.dict();
        for (key, item) in dict.iter() {
            writer.key(key);
            rewrite(item, writer);
        }
        writer.end();
    } else {
        panic!("a value is of one of four kinds");
    }
}

/// Bencoding: what is canonical is written back byte for byte.
pub fn bencode(data: &[u8]) {
    for limits in [Limits::DATAGRAM, Limits::MESSAGE, Limits::TORRENT] {
        if let Ok(document) = ben::decode(data, &limits) {
            let mut again = Vec::new();
            rewrite(document.root(), &mut Writer::new(&mut again));
            if document.is_canonical() {
                assert_eq!(again, data, "canonical bytes came out different");
            }
        }
        if let Ok((document, length)) = ben::decode_prefix(data, &limits) {
            assert_eq!(document.root().raw(), &data[..length]);
        }
    }
}

/// Compact addresses.
pub fn compact(data: &[u8]) {
    if let Some(addr) = addresses::decode(data) {
        assert_eq!(addresses::encode(addr).as_bytes(), data);
    }
}

/// DHT messages: every field that can be read is read.
pub fn krpc(data: &[u8]) {
    if let Ok(message) = Message::decode(data) {
        assert!(!message.transaction.is_empty());
        let _ = message.body.nodes.iter().count();
        let _ = message.body.nodes6.iter().count();
        let _ = message.body.values.iter().count();
    }
}

/// Saved routing tables.
pub fn saved_table(data: &[u8]) {
    if let Ok(saved) = Saved::decode(data) {
        let _ = saved.nodes.iter().count() + saved.nodes6.iter().count();
    }
}

/// Magnet links: what is printed is read back the same.
pub fn magnet(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else {
        return;
    };
    match Magnet::parse(text) {
        Ok(mut link) => {
            for ignored in link.ignored.drain(..) {
                assert!(!ignored.to_string().contains('\n'), "one line: {ignored}");
            }
            let printed = link.to_string();
            assert_eq!(Magnet::parse(&printed).as_ref(), Ok(&link), "{printed}");
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "one line: {error}"),
    }
}

/// Torrent files: what is accepted can be laid out, and every path stays below the folder.
pub fn metainfo(data: &[u8]) {
    let Ok(torrent) = Torrent::parse(Bytes::copy_from_slice(data)) else {
        return;
    };
    let info = &torrent.info;
    let mut offset = 0;
    let mut paths = std::collections::BTreeSet::new();
    for file in &info.files {
        assert!(file.offset >= offset, "files overlap");
        offset = file.offset.checked_add(file.length).expect("offsets fit");
        for elements in [Some(&file.path), file.symlink.as_ref()]
            .into_iter()
            .flatten()
        {
            for element in elements {
                assert!(!element.is_empty() && element != "." && element != "..");
                assert!(!element.contains(['/', '\0']), "{element:?}");
            }
        }
        assert!(
            file.pad || paths.insert(&file.path),
            "two files share a path"
        );
    }
    assert!(offset <= info.total_length);
    let sum: u64 = (0..info.piece_count.min(4096))
        .map(|p| u64::from(info.piece_size(p)))
        .sum();
    assert!(sum <= info.total_length);
    assert_eq!(info.piece_size(info.piece_count), 0);
}

/// `ut_metadata` messages.
pub fn metadata(data: &[u8]) {
    if let Ok(Some(message)) = ut_metadata::Message::decode(&Bytes::copy_from_slice(data)) {
        let mut again = Vec::new();
        message.encode(&mut again);
        let read = ut_metadata::Message::decode(&Bytes::from(again));
        assert_eq!(read, Ok(Some(message)));
    }
}

/// Datagrams of local service discovery.
pub fn lsd(data: &[u8]) {
    if let Some(search) = Search::parse(data) {
        assert_ne!(search.port, 0);
        assert!(search.hashes().count() <= data.len() / 40);
    }
}

/// `ut_pex` messages: what is read is written and read the same; and what one peer told stays
/// within its limits, whatever it tells and takes back.
pub fn pex(data: &[u8]) {
    let mut scratch = Scratch::new();
    let Ok(message) = ut_pex::Message::decode(data, &mut scratch) else {
        return;
    };
    let added: Vec<_> = message.all_added().collect();
    let dropped: Vec<_> = message.all_dropped().collect();
    assert!(added.len() * 6 + dropped.len() * 6 <= data.len());
    let mut again = Vec::new();
    ut_pex::encode(&added, &dropped, &mut again);
    let read = ut_pex::Message::decode(&again, &mut scratch).expect("what is written can be read");
    assert!(read.all_added().eq(added.iter().copied()));
    assert!(read.all_dropped().eq(dropped.iter().copied()));
    let config = PexConfig {
        max_remembered: 3,
        ..PexConfig::default()
    };
    let mut told = ut_pex::Told::default();
    for (addr, _) in &added {
        told.add(&config, false, [16, 0, 0, 1].into(), *addr);
    }
    assert!(told.endpoints().count() <= 3);
    for addr in added.iter().map(|(addr, _)| addr).chain(&dropped) {
        told.remove(*addr);
    }
    assert_eq!(told.endpoints().count(), 0);
}

/// Extension handshakes.
pub fn extension_handshake(data: &[u8]) {
    if let Some(handshake) = extension::decode_handshake(data, 128) {
        let mut again = Vec::new();
        extension::encode_handshake(&handshake, &mut again);
        assert!(extension::decode_handshake(&again, 128).is_some());
    }
}

/// Recordings: what is read is written back as it was, up to the first frame that is wrong. Also
/// inputs without the checksum around them, which no mutation would find.
pub fn record(data: &[u8]) {
    if let Ok((header, mut reader)) = recording::Reader::open(data) {
        let mut again = Vec::new();
        let Header {
            config,
            seed,
            start,
        } = header;
        let mut writer = recording::Writer::begin(&config, &seed, start, &mut again);
        while let Some(Ok(record)) = reader.next() {
            let now = record.now;
            record
                .input
                .feed(|input| writer.record(now, &input, &mut again));
        }
        assert_eq!(again, &data[..reader.position()]);
    }
    if let Ok(input) = recording::decode_input(data) {
        let mut again = Vec::new();
        input.feed(|input| recording::encode_input(&input, &mut again));
        assert_eq!(again, data);
    }
}

/// Resume data; also behind a right checksum, which no mutation would find.
pub fn resume(data: &[u8]) {
    let mut whole = MAGIC.to_vec();
    whole.extend(Sha1::digest(data));
    whole.extend(data);
    for bytes in [data, &whole] {
        if let Ok(resume) = Resume::decode(bytes) {
            for piece in [0, 1, resume.piece_count, u32::MAX] {
                assert!(!resume.has(piece) || piece < resume.piece_count);
            }
            let mut again = Vec::new();
            resume.encode(&mut again);
            assert_eq!(Resume::decode(&again), Ok(resume));
        }
    }
}
