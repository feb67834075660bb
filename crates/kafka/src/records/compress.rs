//! The compressions of Kafka, written as the Java client writes them.

use std::io::Write;

use bytes::{BufMut, BytesMut};
use flate2::write::GzEncoder;
use lz4_flex::frame::FrameEncoder;

use super::codec::XERIAL_MAGIC;
use super::compression::Codec;

/// The bytes that snappy-java writes behind its magic: its version, and the oldest one that reads
/// it.
const XERIAL_VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// Size of snappy-java's blocks before they are compressed.
const XERIAL_BLOCK: usize = 32 << 10;
/// zstd's own default, and the Java client's.
const ZSTD_LEVEL: i32 = 3;

/// Appends `bytes` compressed. False if that cannot be done; what was appended is useless then.
pub(super) fn compress(codec: Codec, bytes: &[u8], out: &mut BytesMut) -> bool {
    match codec {
        Codec::Gzip => {
            let mut encoder = GzEncoder::new(out.writer(), flate2::Compression::default());
            encoder.write_all(bytes).and_then(|()| encoder.try_finish()).is_ok()
        }
        Codec::Snappy => snappy(bytes, out),
        Codec::Lz4 => {
            let mut encoder = FrameEncoder::new(out.writer());
            encoder.write_all(bytes).is_ok() && encoder.finish().is_ok()
        }
        Codec::Zstd => zstd(bytes, out),
    }
}

fn snappy(bytes: &[u8], out: &mut BytesMut) -> bool {
    out.extend_from_slice(XERIAL_MAGIC);
    out.extend_from_slice(&XERIAL_VERSIONS);
    let mut encoder = snap::raw::Encoder::new();
    for block in bytes.chunks(XERIAL_BLOCK) {
        let size_at = out.len();
        let begin = size_at + 4;
        out.put_u32(0);
        out.put_bytes(0, snap::raw::max_compress_len(block.len()));
        let Ok(written) = encoder.compress(block, out.get_mut(begin..).unwrap_or_default()) else {
            return false;
        };
        out.truncate(begin + written);
        let size = u32::try_from(written).unwrap_or(u32::MAX).to_be_bytes();
        if let Some(place) = out.get_mut(size_at..begin) {
            place.copy_from_slice(&size);
        }
    }
    true
}

fn zstd(bytes: &[u8], out: &mut BytesMut) -> bool {
    let begin = out.len();
    out.put_bytes(0, zstd_safe::compress_bound(bytes.len()));
    let place = out.get_mut(begin..).unwrap_or_default();
    let written = zstd_safe::compress(place, bytes, ZSTD_LEVEL);
    out.truncate(begin + written.unwrap_or(0));
    written.is_ok()
}
