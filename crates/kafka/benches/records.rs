//! The cost of reading the records of a fetch response: checksums, batches, the walk. To run it:
//! `cargo bench -p zafka-kafka --features bench --bench records`. Times are for a whole response;
//! the throughput column says records a second.
#![allow(missing_docs, clippy::expect_used)]

use bytes::{Bytes, BytesMut};
use divan::{Bencher, black_box, counter::ItemsCount};
use kafka_protocol::records::{
    Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use zafka_kafka::bench::{read, read_headers};

/// Records of a response, whatever their size.
const RECORDS: i64 = 50_000;

fn main() {
    divan::main();
}

/// A response of batches of `count` records, values of `size` bytes, keys of eight.
fn response(count: i64, size: usize, headers: usize, codec: Compression) -> Bytes {
    let mut out = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: codec };
    for base in (0..RECORDS).step_by(count as usize) {
        let records: Vec<Record> =
            (base..base + count).map(|offset| record(offset, size, headers)).collect();
        RecordBatchEncoder::encode_with_custom_compression(
            &mut out,
            &records,
            &options,
            Some(|data: &mut BytesMut, out: &mut BytesMut, codec: Compression| {
                out.extend_from_slice(&compress(codec, data));
                Ok(())
            }),
        )
        .expect("records that can be written");
    }
    out.freeze()
}

fn record(offset: i64, size: usize, headers: usize) -> Record {
    // Text that compresses about as text does.
    let value: Vec<u8> = (0..size as u64)
        .map(|at| {
            b"0123456789abcdef"
                [((offset as u64 ^ at).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) as usize]
        })
        .collect();
    Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 0,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset,
        sequence: offset as i32,
        timestamp: 1_700_000_000_000 + offset / 10,
        key: Some(offset.to_be_bytes().to_vec().into()),
        value: Some(value.into()),
        headers: (0..headers)
            .map(|n| (format!("header-{n}").into(), Some("value".into())))
            .collect(),
    }
}

fn compress(codec: Compression, data: &[u8]) -> Vec<u8> {
    match codec {
        Compression::Gzip => {
            let mut out = Vec::new();
            let mut encoder = flate2::bufread::GzEncoder::new(data, flate2::Compression::default());
            std::io::Read::read_to_end(&mut encoder, &mut out).expect("memory");
            out
        }
        Compression::Snappy => snap::raw::Encoder::new().compress_vec(data).expect("memory"),
        Compression::Lz4 => {
            let mut out = lz4_flex::frame::FrameEncoder::new(Vec::new());
            std::io::Write::write_all(&mut out, data).expect("memory");
            out.finish().expect("memory")
        }
        Compression::Zstd => {
            let mut out = vec![0; zstd_safe::compress_bound(data.len())];
            let size = zstd_safe::compress(out.as_mut_slice(), data, 3).expect("room");
            out.truncate(size);
            out
        }
        Compression::None => data.to_vec(),
    }
}

fn bench(bencher: Bencher<'_, '_>, response: Bytes) {
    let mut bytes = 0;
    let totals = read(response.clone(), 0, None, usize::MAX, |_| ());
    assert_eq!((totals.records, totals.failed), (RECORDS as u64, false));
    bencher.counter(ItemsCount::new(RECORDS as u64)).bench_local(|| {
        read(black_box(response.clone()), 0, Some(&[]), usize::MAX, |record| {
            bytes += black_box(record).value.map_or(0, <[u8]>::len);
        })
    });
}

/// Values of 100 bytes, by how many records a batch has.
#[divan::bench(args = [1, 10, 100, 1000])]
fn value_100(bencher: Bencher<'_, '_>, count: i64) {
    bench(bencher, response(count, 100, 0, Compression::None));
}

#[divan::bench]
fn value_1000(bencher: Bencher<'_, '_>) {
    bench(bencher, response(100, 1000, 0, Compression::None));
}

#[divan::bench]
fn value_100_three_headers(bencher: Bencher<'_, '_>) {
    bench(bencher, response(100, 100, 3, Compression::None));
}

/// Batches of 100 records with values of 100 bytes, compressed.
#[divan::bench(args = ["gzip", "snappy", "lz4", "zstd"])]
fn compressed(bencher: Bencher<'_, '_>, codec: &str) {
    let codec = match codec {
        "gzip" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        _ => Compression::Zstd,
    };
    bench(bencher, response(100, 100, 0, codec));
}

/// The pass over the headers before the next request is sent; a batch has 100 records.
#[divan::bench]
fn headers_alone(bencher: Bencher<'_, '_>) {
    let response = response(100, 100, 0, Compression::None);
    bencher
        .counter(ItemsCount::new(RECORDS as u64))
        .bench_local(|| read_headers(black_box(&response)));
}
