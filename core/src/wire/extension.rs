//! The extension protocol (BEP 10): its handshake, and who calls what by which number.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::message::ExtensionHandshake;
use crate::bencode::{self, Writer};

/// Our number for `ut_pex` (BEP 11).
pub const UT_PEX: u8 = 1;
/// Our number for `ut_metadata` (BEP 9).
pub const UT_METADATA: u8 = 2;
/// Our number for `lt_donthave` (BEP 54).
pub const LT_DONTHAVE: u8 = 3;

/// The numbers a peer gave to extensions; 0 is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Numbers {
    /// `ut_metadata`.
    pub ut_metadata: u8,
    /// `ut_pex`.
    pub ut_pex: u8,
    /// `lt_donthave`.
    pub lt_donthave: u8,
}

impl Numbers {
    /// Takes over what a handshake says; what it leaves out stays as it was, since a later
    /// handshake may tell of changes only.
    pub fn update(&mut self, handshake: &ExtensionHandshake) {
        self.ut_metadata = handshake.ut_metadata.unwrap_or(self.ut_metadata);
        self.ut_pex = handshake.ut_pex.unwrap_or(self.ut_pex);
        self.lt_donthave = handshake.lt_donthave.unwrap_or(self.lt_donthave);
    }
}

/// Appends the dictionary of an extension handshake.
///
/// Whatever numbers `handshake` names, ours are written: an extension with a number other than 0
/// is announced under our number, 0 is written as it is, and `None` is left out, except that
/// `ut_metadata` is announced unless it is 0.
pub fn encode_handshake(handshake: &ExtensionHandshake, buf: &mut Vec<u8>) {
    let ours = |theirs: Option<u8>, our| theirs.map(|number| if number == 0 { 0 } else { our });
    let named = [
        (
            &b"lt_donthave"[..],
            ours(handshake.lt_donthave, LT_DONTHAVE),
        ),
        (
            &b"ut_metadata"[..],
            ours(handshake.ut_metadata.or(Some(UT_METADATA)), UT_METADATA),
        ),
        (&b"ut_pex"[..], ours(handshake.ut_pex, UT_PEX)),
    ];
    let mut writer = Writer::new(buf);
    writer.dict();
    if handshake.prefers_encryption {
        writer.key(b"e").int(1);
    }
    writer.key(b"m").dict();
    for (name, number) in named {
        if let Some(number) = number {
            writer.key(name).int(i64::from(number));
        }
    }
    writer.end();
    if let Some(size) = handshake.metadata_size {
        writer.key(b"metadata_size").int(i64::from(size));
    }
    if let Some(port) = handshake.port {
        writer.key(b"p").int(i64::from(port));
    }
    if let Some(reqq) = handshake.reqq {
        writer.key(b"reqq").int(i64::from(reqq));
    }
    if let Some(upload_only) = handshake.upload_only {
        writer.key(b"upload_only").int(upload_only.into());
    }
    if let Some(client) = &handshake.client {
        writer.key(b"v").bytes(client.as_bytes());
    }
    match handshake.your_ip {
        Some(IpAddr::V4(ip)) => drop(writer.key(b"yourip").bytes(&ip.octets())),
        Some(IpAddr::V6(ip)) => drop(writer.key(b"yourip").bytes(&ip.octets())),
        None => {}
    }
    writer.end();
}

/// Reads the dictionary of an extension handshake; `None` when it is not one. Fields of the wrong
/// type or out of range are read as left out; of the client's name `max_name` bytes are kept.
#[must_use]
pub fn decode_handshake(payload: &[u8], max_name: u16) -> Option<Box<ExtensionHandshake>> {
    // Some clients pad the dictionary; what follows it means nothing.
    let (document, _) = bencode::decode_prefix(payload, &bencode::Limits::MESSAGE).ok()?;
    let root = document.root().as_dict()?;
    let names = root.dict(b"m");
    let number = |name: &[u8]| u8::try_from(names?.int(name)?).ok();
    let your_ip = root.bytes(b"yourip").and_then(|ip| match ip.len() {
        4 => <[u8; 4]>::try_from(ip).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(ip).ok().map(IpAddr::from),
        _ => None,
    });
    Some(Box::new(ExtensionHandshake {
        ut_metadata: number(b"ut_metadata"),
        ut_pex: number(b"ut_pex"),
        lt_donthave: number(b"lt_donthave"),
        ut_holepunch: number(b"ut_holepunch"),
        prefers_encryption: root.int(b"e").is_some_and(|value| value != 0),
        metadata_size: root
            .int(b"metadata_size")
            .and_then(|size| u32::try_from(size).ok()),
        port: root.int(b"p").and_then(|port| u16::try_from(port).ok()),
        reqq: root.int(b"reqq").and_then(|reqq| u32::try_from(reqq).ok()),
        client: root.bytes(b"v").map(|name| client_name(name, max_name)),
        your_ip,
        upload_only: root.int(b"upload_only").map(|value| value != 0),
    }))
}

fn client_name(bytes: &[u8], max: u16) -> String {
    let max = usize::from(max);
    let mut name: String = String::from_utf8_lossy(&bytes[..bytes.len().min(max)]).into();
    // A replacement character is longer than the byte it stands for.
    while name.len() > max {
        name.pop();
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;
    use std::format;

    const MAX_CLIENT: usize = 128;

    fn read(payload: &[u8]) -> Option<Box<ExtensionHandshake>> {
        decode_handshake(payload, MAX_CLIENT as u16)
    }

    #[test]
    fn example_of_bep_10() {
        // As printed, the key's length counts its micro sign as one byte, the name's as two.
        let printed =
            b"d1:md11:LT_metadatai1e6:\xc2\xb5T_PEXi2ee1:pi6881e1:v13:\xc2\xb5Torrent 1.2e";
        assert_eq!(read(printed), None);
        let text = b"d1:md11:LT_metadatai1e6:\xb5T_PEXi2ee1:pi6881e1:v13:\xc2\xb5Torrent 1.2e";
        let read = read(text).unwrap();
        assert_eq!(read.port, Some(6881));
        assert_eq!(read.client.as_deref(), Some("\u{b5}Torrent 1.2"));
        assert_eq!((read.ut_metadata, read.ut_pex), (None, None));
    }

    #[test]
    fn fields_of_the_wrong_kind_are_left_out() {
        let text = b"d1:md11:ut_metadatai300e6:ut_pexi-1ee13:metadata_sizei-5e1:p3:abc4:reqqi\
            99999999999e1:vi3e6:yourip5:abcdee";
        assert_eq!(*read(text).unwrap(), ExtensionHandshake::default());
        assert_eq!(read(b"le"), None);
        assert_eq!(read(b"d1:m"), None);
        assert_eq!(read(b""), None);
    }

    #[test]
    fn a_later_handshake_changes_only_what_it_names() {
        let mut numbers = Numbers {
            ut_metadata: 9,
            ut_pex: 8,
            lt_donthave: 7,
        };
        numbers.update(&read(b"d1:md6:ut_pexi0eee").unwrap());
        assert_eq!(
            numbers,
            Numbers {
                ut_metadata: 9,
                ut_pex: 0,
                lt_donthave: 7
            }
        );
    }

    #[test]
    fn a_long_name_is_cut() {
        let mut text = format!("d1:v{}:", 3000).into_bytes();
        text.extend_from_slice(&[0xff; 3000]);
        text.push(b'e');
        let name = read(&text).unwrap().client.unwrap();
        assert!(!name.is_empty() && name.len() <= MAX_CLIENT);
    }

    quickcheck! {
        fn round_trips(
            size: Option<u32>, port: Option<u16>, reqq: Option<u32>, client: Option<String>,
            ip: Option<(u128, bool)>, upload_only: Option<bool>, on: (bool, bool, bool)
        ) -> bool {
            let handshake = ExtensionHandshake {
                ut_metadata: Some(if on.0 { UT_METADATA } else { 0 }),
                ut_pex: on.1.then_some(UT_PEX),
                lt_donthave: on.0.then_some(LT_DONTHAVE),
                ut_holepunch: None,
                prefers_encryption: on.2,
                metadata_size: size,
                port,
                reqq,
                client: client.map(|name| name.chars().take(MAX_CLIENT / 4).collect()),
                your_ip: ip.map(|(ip, v4)| {
                    if v4 { IpAddr::V4((ip as u32).into()) } else { IpAddr::V6(ip.into()) }
                }),
                upload_only,
            };
            let mut buf = Vec::new();
            encode_handshake(&handshake, &mut buf);
            read(&buf).as_deref() == Some(&handshake)
        }

        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) -> bool {
            read(&bytes).is_none_or(|read| read.client.is_none_or(|v| v.len() <= 128))
        }
    }
}
