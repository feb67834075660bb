//! Compressed batches: what the clients of the field write, and what would not fit into memory.

use std::io::Write;

use super::super::BatchFault;
use super::super::compression::Codec;
use super::build::{Batch, batch, compress, read, read_stepwise, records, xerial};

const ALL: [Codec; 4] = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

fn number(codec: Codec) -> i16 {
    ALL.iter().position(|one| *one == codec).unwrap() as i16 + 1
}

/// Neither all the same nor noise, and more than one block of every codec.
fn text() -> Vec<u8> {
    (0..40_000)
        .flat_map(|n: u32| format!("{} ", n.wrapping_mul(2_654_435_761) >> 12).into_bytes())
        .collect()
}

#[test]
fn decompresses_what_other_writers_make() {
    let text = text();
    let lz4 = |info: FrameInfo| {
        let mut out = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
        out.write_all(&text).unwrap();
        out.finish().unwrap()
    };
    use lz4_flex::frame::{BlockMode, BlockSize, FrameInfo};
    let linked = FrameInfo::new()
        .block_mode(BlockMode::Linked)
        .block_size(BlockSize::Max64KB)
        .block_checksums(true)
        .content_checksum(true);
    // As kafka-clients writes it.
    let java = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    // In two frames or members.
    let twice = |codec| {
        let (first, second) = text.split_at(text.len() / 3);
        [compress(codec, first), compress(codec, second)].concat()
    };
    // As a stream, without the size in its header.
    let zstd_stream = {
        let mut context = zstd_safe::CCtx::create();
        let mut out = vec![0; zstd_safe::compress_bound(text.len())];
        let mut output = zstd_safe::OutBuffer::around(out.as_mut_slice());
        let mut input = zstd_safe::InBuffer::around(&text);
        while input.pos() < text.len() {
            context.compress_stream(&mut output, &mut input).unwrap();
        }
        while context.end_stream(&mut output).unwrap() > 0 {}
        let size = output.pos();
        out.truncate(size);
        assert!(matches!(zstd_safe::get_frame_content_size(&out), Ok(None)));
        out
    };
    let cases = [
        (Codec::Gzip, compress(1, &text)),
        (Codec::Gzip, twice(1)),
        (Codec::Snappy, xerial(&text)),
        (Codec::Snappy, snap::raw::Encoder::new().compress_vec(&text).unwrap()),
        (Codec::Lz4, compress(3, &text)),
        (Codec::Lz4, lz4(linked)),
        (Codec::Lz4, lz4(java)),
        (Codec::Zstd, compress(4, &text)),
        (Codec::Zstd, twice(4)),
        (Codec::Zstd, zstd_stream),
    ];
    for (codec, bytes) in cases {
        assert_eq!(codec.decompress(&bytes, 1 << 30).unwrap(), text);
        assert_eq!(codec.decompress(&bytes, text.len()).unwrap(), text);
        let limit = text.len() - 1;
        assert_eq!(codec.decompress(&bytes, limit), Err(BatchFault::TooLarge { limit }), "{codec}");
        // Cut off anywhere, it is an error or a part, which the count of records would tell.
        for cut in [0, 1, 4, 7, 20, bytes.len() / 2, bytes.len() - 1] {
            if let Ok(part) = codec.decompress(&bytes[..cut], 1 << 30) {
                assert!(text.starts_with(&part));
            }
        }
    }
}

#[test]
fn nothing_decompresses_to_nothing() {
    for codec in ALL {
        let bytes = compress(number(codec), b"");
        assert_eq!(codec.decompress(&bytes, 0), Ok(vec![]), "{codec}");
    }
}

#[test]
fn a_bomb_is_an_error() {
    let zeros = vec![0; 64 << 20];
    for codec in ALL {
        let data = compress(number(codec), &zeros);
        assert!(data.len() < zeros.len() / 15);
        let bomb = Batch { attributes: number(codec), ..batch(3, records(3..4)) }.around(&data);
        let mut bytes = batch(0, records(0..3)).bytes();
        bytes.extend(bomb);
        bytes.extend(batch(4, records(4..5)).bytes());
        let limit = 1 << 20;
        let outcome = read_stepwise(&bytes, 0, None, limit, usize::MAX);
        assert_eq!((outcome.offsets(), outcome.next_offset), (vec![0, 1, 2], Some(3)));
        assert_eq!(outcome.error, Some(BatchFault::TooLarge { limit }.at(3)));
    }
}

#[test]
fn a_size_that_is_only_claimed_takes_no_memory() {
    // Snappy: 400 MB in six bytes. Zstd: a frame of 16 EiB with an empty block.
    let snappy = [0x80, 0x88, 0xde, 0xbe, 0x01, 0x00];
    assert!(matches!(
        Codec::Snappy.decompress(&snappy, 512 << 20),
        Err(BatchFault::Decompress { .. })
    ));
    let zstd =
        [0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, 0, 0];
    let refused = Codec::Zstd.decompress(&zstd, 512 << 20);
    assert!(matches!(refused, Err(BatchFault::Decompress { .. })), "{refused:?}");
}

#[test]
fn data_that_is_broken_is_an_error() {
    for codec in ALL {
        let good = Batch { attributes: number(codec), ..batch(3, records(3..40)) }.bytes();
        let mut missed = 0;
        for at in 61..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x55;
            super::build::seal(&mut bad);
            let outcome = read(&bad);
            let same = outcome.records == records(3..40);
            // Without a checksum of its own the data may be other records; never fewer without an
            // error.
            assert!(outcome.error.is_some() || outcome.records.len() == 37, "{codec}, byte {at}");
            missed += usize::from(outcome.error.is_none() && !same);
        }
        if codec == Codec::Gzip {
            assert_eq!(missed, 0, "gzip has a checksum");
        }
    }
    for unknown in 5..8 {
        let bytes = Batch { attributes: unknown, ..batch(3, records(3..4)) }.bytes();
        assert_eq!(read(&bytes).error, Some(BatchFault::Compression(unknown).at(3)));
    }
}
