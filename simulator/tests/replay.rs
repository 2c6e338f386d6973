//! A recording replays an engine exactly, and a recording that changed is noticed.

use std::time::Duration;

use bytes::Bytes;
use trackerless_core::Input;
use trackerless_core::io::{Digest, JobResult};
use trackerless_core::record::{OwnedInput, Reader, RecordError, Writer};
use trackerless_sim::HostId;
use trackerless_sim::replay::{Replayed, replay};
use trackerless_sim::scenario::{self, Size};

/// The recording of one host, and what it did while it was made.
struct Recorded {
    file: Vec<u8>,
    output_hash: u64,
}

/// The busiest of the DHT nodes that peers announced to and a leecher, out of one run in which
/// everybody finished, a minute after that.
fn record(content_length: usize) -> [Recorded; 2] {
    let mut scenario = scenario::find("demo").unwrap();
    scenario.content.size = Size(content_length as u64);
    let mut stage = scenario.play(5).record().stage().unwrap();
    assert!(stage.go().unwrap());
    stage.pass(Duration::from_secs(60)).unwrap();
    let (leechers, sim) = (stage.leechers(), stage.sim);
    let nodes = (0..scenario.groups[0].count).map(HostId);
    let holders =
        nodes.filter(|host| datagrams_with(sim.recording(*host).unwrap(), b"13:announce_peer") > 0);
    let busiest = holders.max_by_key(|host| sim.recording(*host).unwrap().len());
    [busiest.unwrap(), leechers[0]].map(|host| Recorded {
        file: sim.recording(host).unwrap().to_vec(),
        output_hash: sim.output_hash(host),
    })
}

fn datagrams_with(file: &[u8], text: &[u8]) -> usize {
    let (_, records) = Reader::open(file).unwrap();
    let is = |input: &OwnedInput| match input {
        OwnedInput::Datagram { payload, .. } => {
            payload.windows(text.len()).any(|window| window == text)
        }
        OwnedInput::Other(_) => false,
    };
    records
        .filter(|record| is(&record.as_ref().unwrap().input))
        .count()
}

fn received(file: &[u8]) -> usize {
    let (_, records) = Reader::open(file).unwrap();
    let bytes = records.map(|record| match record.unwrap().input {
        OwnedInput::Other(Input::Received { data, .. }) => data.len(),
        _ => 0,
    });
    bytes.sum()
}

#[test]
fn recorded_engines_replay_to_the_same_outputs() {
    let length = 1 << 20;
    let [node, leecher] = record(length);
    // One that really serves, and one that really downloads.
    for query in ["4:ping", "9:find_node", "9:get_peers", "13:announce_peer"] {
        assert!(datagrams_with(&node.file, query.as_bytes()) > 0, "{query}");
    }
    assert!(received(&leecher.file) > length);
    for recorded in [node, leecher] {
        let seen = replay(&recorded.file).unwrap();
        assert!(seen.inputs > 100 && seen.outputs > 100, "{seen:?}");
        assert_eq!(seen.output_hash, recorded.output_hash);
        assert_eq!(seen.cut_off, 0);
    }
}

/// Where the first wrong frame is, as the decoder tells it.
fn damage(file: &[u8]) -> Option<usize> {
    let (_, mut reader) = match Reader::open(file) {
        Ok(opened) => opened,
        Err(RecordError::Damaged | RecordError::NotARecording) => return Some(0),
        Err(other) => panic!("{other}"),
    };
    while let Some(record) = reader.next() {
        match record {
            Ok(_) => {}
            Err(RecordError::Damaged) => return Some(reader.position()),
            Err(other) => panic!("{other}"),
        }
    }
    None
}

/// At a thousand places: whatever an engine would make of it, the decoder says in which record it
/// is. (Every bit of a small recording: see the decoder's own tests.)
#[test]
fn a_flipped_byte_is_noticed_wherever_it_is() {
    let [node, leecher] = record(100_000);
    for recorded in [node, leecher] {
        let mut file = recorded.file;
        let mut starts = vec![0];
        let (_, mut reader) = Reader::open(&file).unwrap();
        loop {
            starts.push(reader.position());
            if reader.next().is_none() {
                break;
            }
        }
        assert_eq!(damage(&file), None);
        for at in (0..file.len()).step_by(file.len() / 1_000) {
            file[at] ^= 1 << (at % 8);
            let frame = starts.iter().rev().find(|start| **start <= at);
            assert_eq!(damage(&file), frame.copied(), "byte {at}");
            file[at] ^= 1 << (at % 8);
        }
        // And what was right before it is replayed and told of.
        let at = file.len() / 2;
        file[at] ^= 0x80;
        let error = replay(&file).unwrap_err();
        assert_eq!(error.reason, RecordError::Damaged);
        assert!(error.at <= at && starts.contains(&error.at));
        assert_eq!(replay(&file[..error.at]), Ok(error.before));
        assert!(error.before.inputs > 20, "{:?}", error.before);
    }
}

#[test]
fn a_recording_that_a_crash_cut_off_replays_as_far_as_it_goes() {
    for Recorded { file, .. } in record(100_000) {
        let (_, mut reader) = Reader::open(&file).unwrap();
        let mut before = Replayed::default();
        for _ in 0..100 {
            reader.next().unwrap().unwrap();
            let whole = replay(&file[..reader.position()]).unwrap();
            assert_eq!(whole.cut_off, 0);
            assert!(whole.inputs == before.inputs + 1 && whole.outputs >= before.outputs);
            before = whole;
        }
        let end = reader.position();
        reader.next().unwrap().unwrap();
        // All cuts of a short record, some of a long one, and always the first and the last.
        let length = reader.position() - end;
        let cuts = (1..length).step_by(length.div_ceil(50)).chain([length - 1]);
        for more in cuts {
            let cut = replay(&file[..end + more]).unwrap();
            let expected = Replayed {
                cut_off: more,
                ..before
            };
            assert_eq!(cut, expected);
        }
    }
}

/// The recording again, with right checksums, after `change` saw every input; the change is the
/// `nth` for which `change` returns true.
fn rewritten(file: &[u8], nth: usize, change: impl Fn(&mut OwnedInput) -> bool) -> Option<Vec<u8>> {
    let (header, records) = Reader::open(file).unwrap();
    let mut out = Vec::new();
    let mut writer = Writer::begin(&header.config, &header.seed, header.start, &mut out);
    let mut seen = 0;
    for record in records {
        let mut record = record.unwrap();
        if seen <= nth && change(&mut record.input) {
            seen += 1;
            if seen <= nth {
                // Not this one: back to what it was.
                change(&mut record.input);
            }
        }
        let now = record.now;
        record
            .input
            .feed(|input| writer.record(now, &input, &mut out));
    }
    (seen > nth).then_some(out)
}

/// The output hash alone notices what an output depends on: a byte of a block, of a query's
/// transaction, of a piece's hash.
#[test]
fn one_wrong_byte_of_an_input_leads_to_other_outputs() {
    let [node, leecher] = record(300_000);
    let mut tried = [0; 3];
    let mut try_all =
        |which: usize, recorded: &Recorded, change: &dyn Fn(&mut OwnedInput) -> bool| {
            for nth in 0..100 {
                let Some(wrong) = rewritten(&recorded.file, nth, change) else {
                    break;
                };
                assert_eq!(damage(&wrong), None);
                let seen = replay(&wrong).unwrap();
                assert_ne!(
                    seen.output_hash, recorded.output_hash,
                    "kind {which}, number {nth}"
                );
                tried[which] += 1;
            }
        };
    assert_eq!(
        rewritten(&node.file, 0, |_| true).as_deref(),
        Some(&node.file[..]),
        "no change is no change"
    );
    // A query's transaction is echoed by the answer.
    try_all(0, &node, &|input| {
        let OwnedInput::Datagram { payload, .. } = input else {
            return false;
        };
        let mut bytes = payload.to_vec();
        let place = bytes.windows(5).position(|window| {
            let [a, b, c, length, colon] = window else {
                return false;
            };
            [*a, *b, *c] == *b"1:t" && length.is_ascii_digit() && *colon == b':'
        });
        let query = bytes.ends_with(b"1:y1:qe");
        if let (Some(place), true) = (place, query) {
            bytes[place + 5] ^= 1;
            *payload = Bytes::from(bytes);
        }
        query && place.is_some()
    });
    // A byte of a block is written to disk.
    try_all(1, &leecher, &|input| match input {
        OwnedInput::Other(Input::Received { data, .. }) if data.len() > 8_000 => {
            let middle = data.len() / 2;
            data[middle] ^= 1;
            true
        }
        _ => false,
    });
    // A piece whose hash is wrong is not committed.
    try_all(2, &leecher, &|input| match input {
        OwnedInput::Other(Input::JobDone {
            result: JobResult::Hashed(Digest::Sha1(hash)),
            ..
        }) => {
            hash[19] ^= 1;
            true
        }
        _ => false,
    });
    assert!(tried[0] > 50 && tried[1] > 10 && tried[2] > 3, "{tried:?}");
}
