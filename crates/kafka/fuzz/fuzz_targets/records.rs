//! Arbitrary bytes as the records of a partition. Offsets rise and stay below the position,
//! whatever the bytes.
//!
//! The first byte says whether lengths and checksums are put right, so that the fuzzer gets past
//! them: then the input is a chain of entries, each behind two bytes with its size.
//! To run it, in `crates/kafka`: `cargo +nightly fuzz run records -s none`. The C libraries that
//! are built along do not link with a sanitizer.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use zafka_kafka::bench::{read, read_headers};

const LIMIT: usize = 1 << 20;

fuzz_target!(|input: &[u8]| {
    let [mode, from, input @ ..] = input else { return };
    let bytes = if mode & 1 == 0 { input.to_vec() } else { sealed(input) };
    let aborted = (mode & 2 != 0).then_some(&[(0, 0), (1, 2)][..]);
    let from = i64::from(*from);
    let mut last = from - 1;
    let totals = read(Bytes::from(bytes.clone()), from, aborted, LIMIT, |record| {
        assert!(record.offset > last);
        last = record.offset;
    });
    match totals.next_offset {
        Some(next) => assert!(last < next && from <= next),
        None => assert_eq!(totals.records, 0),
    }
    if !totals.failed {
        assert_eq!(totals.next_offset, read_headers(&bytes).map(|next| next.max(from)));
    }
});

fn sealed(mut input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut next = 0;
    while let [high, low, rest @ ..] = input {
        let size = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (entry, rest) = rest.split_at(size);
        input = rest;
        let mut entry = entry.to_vec();
        if entry.len() < 26 {
            continue;
        }
        let length = (entry.len() - 12) as u32;
        entry[8..12].copy_from_slice(&length.to_be_bytes());
        // Mostly offsets that rise.
        if entry[0] != 0xff {
            let offset = i64::saturating_add(next, entry[7].into());
            entry[..8].copy_from_slice(&offset.to_be_bytes());
        }
        if entry[16] < 2 {
            let checksum = crc32fast::hash(&entry[16..]);
            entry[12..16].copy_from_slice(&checksum.to_be_bytes());
        } else {
            entry[16] = 2;
            let checksum = crc32c::crc32c(&entry[21..]);
            entry[17..21].copy_from_slice(&checksum.to_be_bytes());
        }
        out.extend(entry);
        next = read_headers(&out).unwrap_or(0);
    }
    out
}
