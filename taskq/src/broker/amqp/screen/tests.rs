use lapin::types::generation::gen_field_table;
use lapin::types::parsing::parse_field_table;
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use lapin::{BasicProperties, protocol};
use proptest::prelude::*;

use super::*;
use crate::codec::celery::UNREADABLE;

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).expect("it is short").to_be_bytes();
    [&[kind, 0, 7], &size[..], payload, &[0xCE]].concat()
}

/// A content header with these flags and properties.
fn header(flags: u16, properties: &[u8]) -> Vec<u8> {
    [&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9][..], &flags.to_be_bytes(), properties].concat()
}

fn short(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).expect("it is short")], bytes].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).expect("it is short").to_be_bytes(), bytes].concat()
}

/// An entry of a table: name, type and value.
fn entry(name: &[u8], kind: u8, value: &[u8]) -> Vec<u8> {
    [&short(name), &[kind][..], value].concat()
}

/// A list within lists, `levels` of them.
fn nested(levels: usize) -> Vec<u8> {
    (1..levels).fold(long(&[]), |inner, _| long(&[b"A", &inner[..]].concat()))
}

/// Screens `bytes` in pieces of this size, and takes them in pieces of another.
fn screened(bytes: &[u8], piece: usize) -> io::Result<Vec<u8>> {
    let (mut screen, mut passed) = (Screen::default(), Vec::new());
    for piece in bytes.chunks(piece) {
        screen.room()[..piece.len()].copy_from_slice(piece);
        screen.received(piece.len())?;
        let mut into = [0; 13];
        loop {
            let count = screen.take(&mut into);
            passed.extend_from_slice(&into[..count]);
            if count == 0 {
                break;
            }
        }
    }
    Ok(passed)
}

/// The properties of the only frame in `bytes`, as lapin reads them.
fn properties(bytes: &[u8]) -> BasicProperties {
    let (rest, properties) =
        protocol::basic::parse_properties(&bytes[HEAD + 12..bytes.len() - END]).expect("lapin can read it");
    assert!(rest.is_empty(), "{rest:?}");
    properties
}

fn note(properties: &BasicProperties) -> String {
    let table = properties.headers().as_ref().expect("there is a table");
    match table.inner().get(UNREADABLE) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_can_be_read_passes_as_it_is() {
    let table = [entry(b"id", b'S', &long(b"\xff")), entry(b"deep", b'A', &nested(DEPTH_MAX))].concat();
    let all = [short("text/ä".as_bytes()), long(&table), vec![2], short(b"7"), vec![0; 8]].concat();
    let frames = [
        frame(METHOD, b"\0\x3c\0\x3c\x05taskq\0\0\0\0\0\0\0\x01\0\0\x04mail"),
        frame(HEADER, &header(0b1011_0100_0100_0000, &all)),
        frame(BODY, &[0xCE; 100]),
        frame(HEARTBEAT, &[]),
        frame(HEADER, &header(0, &[])),
    ]
    .concat();
    for piece in [1, 2, 7, 8, 100, frames.len()] {
        assert_eq!(screened(&frames, piece).expect("nothing is wrong"), frames, "{piece}");
    }
    let other_protocol = b"AMQP\x00\x01\x00\x00 and more";
    assert_eq!(screened(other_protocol, 3).expect("lapin says so"), other_protocol);
}

#[test]
fn what_lapin_cannot_read_is_told_and_the_rest_kept() {
    const TYPE: u16 = 1 << 15;
    const TABLE: u16 = 1 << 13;
    const REPLY: u16 = 1 << 9;
    let task = entry(b"task", b'S', &long(b"shop.buy"));
    let with = |bad: &[u8]| long(&[&task[..], bad, &entry(b"id", b'S', &long(b"7"))].concat());
    let cases: Vec<(&str, u16, Vec<u8>, &str, bool)> = vec![
        ("type", TYPE, short(b"a\xff"), "the content type is not UTF-8", false),
        ("reply", TABLE | REPLY, [with(&[]), short(&[0xC3])].concat(), "the reply address is not UTF-8", true),
        ("name", TABLE, with(&entry(b"\xff", b'V', &[])), "the header \"\u{fffd}\" is not UTF-8", true),
        (
            "depth",
            TABLE,
            with(&entry(b"x", b'A', &nested(DEPTH_MAX + 1))),
            "the header \"x\" is nested deeper than 32 levels",
            true,
        ),
        ("deepest", TABLE, with(&entry(b"x", b'A', &nested(26_000))), "deeper than 32 levels", true),
        (
            "tables",
            TABLE,
            with(&entry(b"x", b'F', &long(&entry(&[0xC3], b't', &[1])))),
            "the header \"x\" is not UTF-8",
            true,
        ),
        ("kind", TABLE, with(&entry(b"x", b'?', &[1, 2])), "the header \"x\" is of the unknown type 0x3f", true),
        ("short list", TABLE, with(&entry(b"x", b'A', &long(b"I\0"))), "the header \"x\" is cut off", true),
        ("short table", TABLE, long(&task[..9]), "the header \"task\" is cut off", false),
        ("no table", TABLE, vec![0, 0, 1, 0, 1], "the header table is cut off", false),
        ("no priority", 1 << 11, vec![], "the priority is cut off", false),
        ("more", TYPE, [short(b"a"), vec![1, 2, 3]].concat(), "3 bytes follow the properties that AMQP knows", false),
    ];
    for (what, flags, bytes, expected, has_task) in cases {
        let bad = frame(HEADER, &header(flags, &bytes));
        let good = frame(BODY, b"body");
        for piece in [1, 5, 1 << 20] {
            let passed = screened(&[&bad[..], &good, &bad].concat(), piece.min(ROOM)).expect("it is repaired");
            let size = u32::from_be_bytes(passed[3..7].try_into().expect("four bytes")) as usize;
            let (repaired, rest) = passed.split_at(HEAD + size + END);
            assert_eq!((&rest[..good.len()], &rest[good.len()..]), (&good[..], repaired), "{what}");
            let properties = properties(repaired);
            assert!(note(&properties).contains(expected), "{what}: {}", note(&properties));
            let headers = properties.headers().as_ref().expect("there is a table");
            assert_eq!(headers.inner().contains_key("task"), has_task, "{what}");
        }
    }
}

#[test]
fn headers_beyond_all_frames_are_cut() {
    let entries: Vec<u8> =
        (0..9).flat_map(|number| entry(&[b'a' + number], b'S', &long(&vec![b'x'; 30_000]))).collect();
    let passed = screened(&frame(HEADER, &header(1 << 13, &long(&entries))), ROOM).expect("it is repaired");
    assert!(passed.len() < 70_000, "{}", passed.len());
    let note = note(&properties(&passed));
    assert!(
        note.starts_with("the header \"c\" of 30007 bytes has no room; ") && note.ends_with("; and 2 more"),
        "{note}"
    );
    let endless = [&[HEADER, 0, 1][..], &u32::MAX.to_be_bytes()].concat();
    let error = screened(&endless, 100).expect_err("it is far too large").to_string();
    assert_eq!(error, "the broker sent a frame of 4294967295 bytes, and 16777216 is the maximum");
}

#[test]
fn names_in_methods_are_repaired_in_place() {
    for (method, repaired) in [
        (&b"\0\x3c\0\x3c\x01c\0\0\0\0\0\0\0\x01\0\x02\xffe\x03\xe2\x82q"[..], &b"\x02?e\x03??q"[..]),
        (b"\0\x3c\0\x47\0\0\0\0\0\0\0\x01\0\x01e\x01\x80\0\0\0\x01", b"\x01e\x01?\0\0\0\x01"),
        (b"\0\x3c\0\x32\x01\x38\x01\xff\x01\xff\x01\xff", b"\x01?\x01?\x01?"),
        (b"\0\x14\0\x28\x01\x96\x04ab\xe2\x82\0\0\0\0", b"\x04ab??\0\0\0\0"),
        // Cut off, which lapin refuses.
        (b"\0\x14\0\x28\x01\x96\x09ab", b"\x09ab"),
    ] {
        let passed = screened(&frame(METHOD, method), 5).expect("it is repaired");
        assert_eq!(passed.len(), HEAD + method.len() + END);
        assert!(passed[..passed.len() - END].ends_with(repaired), "{passed:?}");
    }
    let greeting = [&b"\0\x0a\0\x0a\0\x09"[..], &long(&entry(b"x", b'A', &nested(5000)))].concat();
    let error = screened(&frame(METHOD, &greeting), ROOM).expect_err("it is too deep").to_string();
    assert_eq!(error, "nested deeper than 32 levels");
}

#[test]
fn the_greeting_is_kept_once_and_nothing_else_is() {
    let greeting = [&b"\0\x0a\0\x0a\0\x09"[..], &long(&entry(b"version", b'S', &long(b"4.3.6")))].concat();
    let bytes = [frame(METHOD, &greeting), frame(METHOD, b"\0\x0a\0\x1e\x07\xff\0\x02\0\0\0\x3c")].concat();
    for piece in [1, 7, bytes.len()] {
        let (mut screen, mut kept) = (Screen::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            screen.room()[..piece.len()].copy_from_slice(piece);
            screen.received(piece.len()).expect("it is sound");
            kept.extend(screen.take_greeting());
        }
        assert_eq!(kept, std::slice::from_ref(&greeting), "in pieces of {piece}");
    }
}

fn value() -> impl Strategy<Value = AMQPValue> {
    let leaf = prop_oneof![
        Just(AMQPValue::Void),
        any::<bool>().prop_map(AMQPValue::Boolean),
        any::<i16>().prop_map(AMQPValue::ShortInt),
        any::<u64>().prop_map(AMQPValue::Timestamp),
        any::<f32>().prop_filter("comparable", |float| !float.is_nan()).prop_map(AMQPValue::Float),
        any::<Vec<u8>>().prop_map(|bytes| AMQPValue::LongString(bytes.into())),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4)
                .prop_map(|items| AMQPValue::FieldArray(FieldArray::from(items))),
            proptest::collection::btree_map(".{0,9}", inner, 0..4).prop_map(|entries| {
                let mut table = FieldTable::default();
                for (name, value) in entries {
                    table.insert(name.into(), value);
                }
                AMQPValue::FieldTable(table)
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Content headers of any bytes: what passes can be read by lapin, and what lapin could read passes unchanged.
    #[test]
    fn lapin_can_read_what_passes(flags: u16, bytes in proptest::collection::vec(
        prop_oneof![Just(0), Just(1), Just(b'A'), Just(b'F'), Just(b'S'), any::<u8>()], 0..80), piece in 1_usize..40) {
        let bare = frame(HEADER, &header(flags, &bytes));
        let passed = screened(&bare, piece).expect("headers are repaired");
        let was_readable = protocol::basic::parse_properties(&bare[HEAD + 12..bare.len() - END])
            .is_ok_and(|(rest, _)| rest.is_empty());
        properties(&passed);
        prop_assert_eq!(passed == bare, was_readable);
    }

    #[test]
    fn tables_are_read_as_lapin_writes_them(entries in proptest::collection::btree_map(".{0,9}", value(), 0..6),
            flip in proptest::option::of((any::<proptest::sample::Index>(), any::<u8>()))) {
        let mut table = FieldTable::default();
        for (name, value) in entries {
            table.insert(name.into(), value);
        }
        let mut bytes = gen_field_table(&table)(Vec::new().into()).expect("it can be written").into_inner().0;
        if let Some((at, byte)) = flip {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let readable = parse_field_table(&bytes[..]).is_ok_and(|(rest, _)| rest.is_empty());
        let size = u32::from_be_bytes(bytes[..4].try_into().expect("four bytes")) as usize;
        let checked = size == bytes.len() - 4 && table::check_first(&bytes).is_ok();
        prop_assert_eq!(checked, readable);
    }
}
