//! Batches that break the format: each is an error with its position, and what stands before it
//! comes out.

use super::super::error::RecordFault;
use super::super::header::Outline;
use super::super::{BatchFault, after_broken, outline};
use super::build::{Batch, batch, put_number, read, records, seal};

/// The one in the middle of three, with its records or its header made wrong.
fn between(bad: Vec<u8>) -> Vec<u8> {
    let mut bytes = batch(0, records(0..3)).bytes();
    bytes.extend(bad);
    bytes.extend(batch(20, records(20..23)).bytes());
    bytes
}

fn patched(at: usize, with: &[u8]) -> Vec<u8> {
    let mut bytes = batch(10, records(10..13)).bytes();
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes
}

fn sealed(at: usize, with: &[u8]) -> Vec<u8> {
    let mut bytes = patched(at, with);
    seal(&mut bytes);
    bytes
}

#[test]
fn headers_that_cannot_be() {
    let size = batch(10, records(10..13)).bytes().len() as i32 - 12;
    let max = i32::MAX.to_be_bytes();
    let cases = [
        (patched(8, &(-1_i32).to_be_bytes()), BatchFault::Length(-1)),
        (patched(8, &i32::MIN.to_be_bytes()), BatchFault::Length(i32::MIN)),
        (patched(8, &[0, 0, 0, 0]), BatchFault::Length(0)),
        (patched(8, &[0, 0, 0, 13]), BatchFault::Length(13)),
        (patched(8, &[0, 0, 0, 48]), BatchFault::Length(48)),
        (patched(16, &[3]), BatchFault::Magic(3)),
        (patched(16, &[0xff]), BatchFault::Magic(-1)),
        (sealed(23, &[0xff; 4]), BatchFault::Offsets { base: 10, delta: -1 }),
        (sealed(57, &[0xff; 4]), BatchFault::Count(-1)),
        (sealed(57, &[0, 0, 0, 4]), BatchFault::Count(4)),
        (sealed(57, &max), BatchFault::Count(i32::MAX)),
    ];
    for (bad, fault) in cases {
        let bytes = between(bad);
        let outcome = read(&bytes);
        assert_eq!((outcome.offsets(), outcome.next_offset), (vec![0, 1, 2], Some(3)), "{fault}");
        // The outline sees what stands outside the checksum.
        let outline = outline(&bytes);
        match fault {
            BatchFault::Length(_) | BatchFault::Magic(_) => {
                assert_eq!((outline.next_offset, &outline.error), (Some(3), &outcome.error));
            }
            _ => assert_eq!((outline.next_offset, outline.error), (Some(23), None)),
        }
        assert_eq!(outcome.error, Some(fault.at(10)));
    }
    // What cannot be told from a batch that is cut off ends the reading; the position stays before
    // it.
    let bytes = between(patched(8, &max));
    let outcome = read(&bytes);
    assert_eq!(
        (outcome.offsets(), outcome.next_offset, outcome.error),
        (vec![0, 1, 2], Some(3), None)
    );
    let whole_bytes = bytes.len() - 2 * (size as usize + 12);
    assert_eq!(
        outline(&bytes),
        Outline { next_offset: Some(3), epochs: vec![(0, 3)], whole_bytes, error: None }
    );
}

#[test]
fn base_offsets_that_cannot_be() {
    for (base, fault) in [
        (-1, BatchFault::Offsets { base: -1, delta: 2 }),
        (i64::MIN, BatchFault::Offsets { base: i64::MIN, delta: 2 }),
        (i64::MAX - 2, BatchFault::Offsets { base: i64::MAX - 2, delta: 2 }),
        (2, BatchFault::Order(2)),
        (0, BatchFault::Order(2)),
    ] {
        let bytes = between(patched(0, &base.to_be_bytes()));
        let outcome = read(&bytes);
        assert_eq!((outcome.offsets(), outcome.next_offset), (vec![0, 1, 2], Some(3)), "{fault}");
        assert_eq!(outcome.error, Some(fault.at(base)));
        outline(&bytes);
    }
}

#[test]
fn a_checksum_that_does_not_fit() {
    let good = batch(10, records(10..13)).bytes();
    for at in 17..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        let outcome = read(&between(bad));
        assert_eq!((outcome.offsets(), outcome.next_offset), (vec![0, 1, 2], Some(3)));
        let error = outcome.error.unwrap();
        assert_eq!(error.base_offset, 10);
        assert!(matches!(error.fault, BatchFault::Checksum { .. }), "byte {at}: {error}");
        let text = error.to_string();
        assert!(text.starts_with("the record batch at offset 10: its checksum is "), "{text}");
    }
}

/// A record of `parts`: a number is written as one, bytes as they are. Its length stands before it.
enum Part<'a> {
    Number(i64),
    Bytes(&'a [u8]),
}
use Part::{Bytes, Number};

fn body(parts: &[Part<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for part in parts {
        match part {
            Number(number) => put_number(*number, &mut body),
            Bytes(bytes) => body.extend(*bytes),
        }
    }
    let mut out = Vec::new();
    put_number(body.len() as i64, &mut out);
    out.extend(body);
    out
}

#[test]
fn records_that_break_the_format() {
    let good =
        |delta| body(&[Bytes(b"\0"), Number(0), Number(delta), Number(-1), Number(-1), Number(0)]);
    let start = |delta| vec![Bytes(b"\0"), Number(0), Number(delta)];
    let with = |rest: Vec<Part<'_>>| body(&start(1).into_iter().chain(rest).collect::<Vec<_>>());
    let long = [0x80; 10];
    let cases = [
        (vec![], RecordFault::Cut),
        (vec![0x80], RecordFault::Cut),
        (vec![0], RecordFault::Cut),
        (vec![1], RecordFault::Negative),
        (vec![100, 0], RecordFault::Cut),
        ([&long[..], &[1]].concat(), RecordFault::Number),
        (vec![0xff, 0xff, 0xff, 0xff, 0x1f], RecordFault::Number),
        (body(&[Bytes(b"\0"), Bytes(&long), Bytes(&[1])]), RecordFault::Number),
        (body(&[Bytes(b"\0"), Bytes(&long[..9]), Bytes(&[2])]), RecordFault::Number),
        (with(vec![Number(-2)]), RecordFault::Negative),
        (with(vec![Number(-1), Number(-2)]), RecordFault::Negative),
        (with(vec![Number(1)]), RecordFault::Cut),
        (with(vec![Number(i64::from(i32::MAX))]), RecordFault::Cut),
        (with(vec![Number(-1), Number(-1)]), RecordFault::Cut),
        (with(vec![Number(-1), Number(-1), Number(-1)]), RecordFault::Negative),
        (with(vec![Number(-1), Number(-1), Number(1)]), RecordFault::Cut),
        (with(vec![Number(-1), Number(-1), Number(1), Number(-1)]), RecordFault::Negative),
        (
            with(vec![Number(-1), Number(-1), Number(1), Number(0), Number(-2)]),
            RecordFault::Negative,
        ),
        (with(vec![Number(-1), Number(-1), Number(1 << 20)]), RecordFault::Cut),
        (with(vec![Number(-1), Number(-1), Number((1 << 20) + 1)]), RecordFault::Headers),
        (with(vec![Number(-1), Number(-1), Number(i64::from(i32::MAX))]), RecordFault::Headers),
        (with(vec![Number(-1), Number(-1), Number(0), Bytes(b"x")]), RecordFault::Rest),
        (good(0), RecordFault::Offset(0)),
        (good(-1), RecordFault::Offset(-1)),
        (good(3), RecordFault::Offset(3)),
        (
            body(&[Bytes(b"\0"), Number(i64::MAX), Number(1), Number(-1), Number(-1), Number(0)]),
            RecordFault::Timestamp,
        ),
    ];
    let head = Batch { last_delta: Some(2), count: Some(3), ..batch(10, vec![]) };
    for (number, (bad, fault)) in cases.into_iter().enumerate() {
        for codec in [0, 4] {
            let data = [good(0), bad.clone()].concat();
            let data = super::build::compress(codec, &data);
            let outcome = read(&between(Batch { attributes: codec, ..head.clone() }.around(&data)));
            // What stands before the record was handed out, and the position is right behind it.
            assert_eq!(outcome.offsets(), [0, 1, 2, 10], "case {number}");
            assert_eq!(outcome.next_offset, Some(11), "case {number}");
            assert_eq!(
                outcome.error,
                Some(BatchFault::Record { number: 1, fault }.at(10)),
                "case {number}"
            );
        }
    }
}

#[test]
fn more_and_fewer_records_than_the_header_says() {
    for (count, fault) in [
        (2, BatchFault::Rest(records_size(12..13))),
        (0, BatchFault::Rest(records_size(10..13))),
        (4, BatchFault::Record { number: 3, fault: RecordFault::Cut }),
    ] {
        let bad = Batch { count: Some(count), last_delta: Some(5), ..batch(10, records(10..13)) };
        let outcome = read(&between(bad.bytes()));
        let read = [0, 1, 2, 10, 11, 12];
        assert_eq!(outcome.offsets(), read[..3 + (count as usize).min(3)]);
        assert_eq!(outcome.next_offset, Some(10 + i64::from(count.min(3))));
        assert_eq!(outcome.error, Some(fault.at(10)));
    }
}

fn records_size(offsets: std::ops::Range<i64>) -> usize {
    batch(10, records(offsets)).bytes().len() - 61
}

#[test]
fn the_widest_numbers_are_read() {
    // Offset delta and timestamps as far as they go.
    let last = i64::from(i32::MAX);
    let data = [
        body(&[Bytes(b"\0"), Number(i64::MIN), Number(0), Number(-1), Number(-1), Number(0)]),
        body(&[Bytes(b"\0"), Number(i64::MAX), Number(last), Number(-1), Number(-1), Number(0)]),
    ]
    .concat();
    let wide =
        Batch { base_timestamp: 0, last_delta: Some(i32::MAX), count: Some(2), ..batch(0, vec![]) };
    let outcome = read(&wide.around(&data));
    assert_eq!(
        (outcome.offsets(), outcome.next_offset, outcome.error),
        (vec![0, last], Some(last + 1), None)
    );
}

#[test]
fn where_the_log_goes_on_behind_a_batch_that_cannot_be_read() {
    let sound = batch(20, records(20..23)).bytes();
    let max = i32::MAX.to_be_bytes();
    for (name, broken, followed, alone) in [
        ("its checksum is wrong", patched(17, &[0; 4]), Some(20), Some(13)),
        ("so is where it claims to end", patched(23, &max), Some(20), None),
        ("its magic is wrong", patched(16, &[9]), None, None),
        ("it claims to be longer than what is there", patched(8, &max), None, None),
    ] {
        let both = [broken.clone(), sound.clone()].concat();
        assert_eq!(after_broken(&both, 10, 100), followed, "{name}");
        assert_eq!(after_broken(&broken, 10, 100), alone, "{name}, at the end");
        assert_eq!(after_broken(&both, 50, 100), None, "{name}: not back");
    }
}
