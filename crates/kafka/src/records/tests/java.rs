//! Batches that Java wrote (`vectors/records.txt`): all formats, all compressions, transactions.

use zafka_envelope::Timestamp;

use super::super::{Aborted, outline};
use super::build::{header, read, read_stepwise};

const VECTORS: &str = include_str!("../../../vectors/records.txt");

pub(super) fn vectors() -> impl Iterator<Item = (&'static str, &'static str, &'static str, Vec<u8>)>
{
    VECTORS.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let [magic, codec, what, hex] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let digits = hex.as_bytes().chunks(2).map(|digits| std::str::from_utf8(digits).unwrap());
        (magic, codec, what, digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect())
    })
}

#[test]
fn reads_what_java_writes() {
    let mut seen = 0;
    for (magic, codec, what, bytes) in vectors().filter(|vector| vector.2 != "transactions") {
        let name = format!("{magic} {codec} {what}");
        let outcome = read(&bytes);
        assert_eq!((&outcome.error, outcome.next_offset), (&None, Some(1003)), "{name}");
        assert_eq!(outline(&bytes).next_offset, Some(1003), "{name}");
        assert_eq!(outcome.offsets(), [1000, 1001, 1002], "{name}");
        let value = b"0123456789".repeat(if codec == "none" { 2 } else { 4000 });
        let parts: Vec<_> =
            outcome.records.iter().map(|one| (one.key.as_deref(), one.value.as_deref())).collect();
        assert_eq!(
            parts,
            [(Some(&b"key"[..]), Some(&*value)), (None, Some(b"")), (Some(b""), None)],
            "{name}"
        );
        let expected = if magic == "2" {
            vec![header(b"a", Some(b"1")), header(b"a", None), header(b"", Some(b""))]
        } else {
            vec![]
        };
        assert_eq!(outcome.records[0].headers, expected, "{name}");
        let stamps: Vec<_> = outcome.records.iter().map(|one| one.timestamp).collect();
        let expected = match (magic, what) {
            ("0", _) => [Timestamp::None; 3],
            (_, "append") => [Timestamp::LogAppend(1_700_000_009_999); 3],
            _ => [0, 5, 3].map(|after| Timestamp::Create(1_700_000_000_000 + after)),
        };
        assert_eq!(stamps, expected, "{name}");
        seen += 1;
    }
    assert_eq!(seen, 22);
}

#[test]
fn reads_transactions_that_java_writes() {
    let (.., bytes) = vectors().find(|vector| vector.2 == "transactions").unwrap();
    let outcome = read(&bytes);
    assert_eq!(outcome.offsets(), [0, 1, 2, 3, 4, 5, 8, 9, 10]);
    assert_eq!((outcome.next_offset, outcome.error), (Some(11), None));
    let aborted = vec![Aborted { producer_id: 7, first_offset: 0 }];
    let outcome = read_stepwise(&bytes, 0, Some(aborted), 1 << 20, 1);
    assert_eq!(outcome.offsets(), [3, 4, 5, 8, 9, 10]);
    assert_eq!((outcome.next_offset, outcome.error), (Some(11), None));
}
