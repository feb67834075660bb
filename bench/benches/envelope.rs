//! The cost of laying a record out as frames, by preset.
//! `cargo bench -p zafka-bench --bench envelope`; the throughput column says records a second.
#![allow(missing_docs)]
#![allow(clippy::disallowed_methods, reason = "it measures")]

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use zafka_envelope::{Encoded, FramePlan, Header, Preset, Record, Timestamp};

/// Records that are encoded into one buffer: about a chunk's worth.
const RECORDS: i64 = 600;
const PRESETS: [Preset; 4] = [Preset::Json, Preset::Packed, Preset::Batch, Preset::Value];

fn main() {
    divan::main();
}

#[divan::bench(args = PRESETS, consts = [100, 1000])]
fn plain<const SIZE: usize>(bencher: Bencher<'_, '_>, preset: Preset) {
    encode(bencher, preset, SIZE, &[]);
}

#[divan::bench(args = PRESETS)]
fn with_two_headers(bencher: Bencher<'_, '_>, preset: Preset) {
    let headers = [
        Header {
            name: b"traceparent",
            value: Some(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        },
        Header { name: b"tenant", value: Some(b"blue") },
    ];
    encode(bencher, preset, 100, &headers);
}

fn encode(bencher: Bencher<'_, '_>, preset: Preset, size: usize, headers: &[Header<'_>]) {
    let value = vec![b'v'; size];
    let mut encoder = FramePlan::preset(preset).encoder("bench", "orders", 3);
    let mut out = Encoded::default();
    bencher.counter(ItemsCount::new(RECORDS as usize)).bench_local(|| {
        out.bytes.clear();
        out.ends.clear();
        for offset in 0..RECORDS {
            let offset = 1_000_000 + offset;
            let record = Record {
                offset,
                prev: Some(offset - 1),
                timestamp: Timestamp::Create(1_700_000_000_000 + offset / 10),
                key: Some(b"00004711"),
                value: Some(&value),
                headers,
            };
            encoder.encode(black_box(&record), &mut out);
        }
        encoder.finish(&mut out);
        black_box(out.bytes.len());
    });
}
