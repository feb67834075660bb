//! The compressions of Kafka, read piece by piece so that no more than a limit is ever held.

use std::cell::RefCell;
use std::io::{self, Read};

use zstd_safe::{DCtx, InBuffer, OutBuffer, ResetDirective};

use super::compression::Codec;
use super::error::{BatchFault, CodecFault};

/// The first piece of memory, at least.
const FIRST_PIECE: usize = 16 << 10;
/// The largest ratio of snappy's output to its input: three bytes copy 64.
const SNAPPY_RATIO: usize = 22;
/// The bytes that snappy-java writes before its blocks. Its version and the oldest one that reads
/// it follow, four bytes each.
pub(super) const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
const XERIAL_VERSIONS: usize = 8;
/// A zstd context that holds more than this is not kept.
const KEPT_CONTEXT: usize = 8 << 20;

thread_local! {
    /// Made once for each thread: it is large, and many batches are small.
    static ZSTD: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

/// The reason why something was not decompressed.
enum Refused {
    TooLarge,
    Broken(CodecFault),
}

impl From<CodecFault> for Refused {
    fn from(fault: CodecFault) -> Self {
        Self::Broken(fault)
    }
}

impl Codec {
    /// Returns the codec by the number in a batch's attributes.
    pub(super) fn of(number: i16) -> Result<Self, BatchFault> {
        match number {
            1 => Ok(Codec::Gzip),
            2 => Ok(Codec::Snappy),
            3 => Ok(Codec::Lz4),
            4 => Ok(Codec::Zstd),
            other => Err(BatchFault::Compression(other)),
        }
    }

    /// The number in a batch's attributes.
    pub(super) fn number(self) -> i16 {
        match self {
            Codec::Gzip => 1,
            Codec::Snappy => 2,
            Codec::Lz4 => 3,
            Codec::Zstd => 4,
        }
    }

    /// Decompresses all of `bytes`, at most `limit` bytes of it.
    pub(super) fn decompress(self, bytes: &[u8], limit: usize) -> Result<Vec<u8>, BatchFault> {
        let result = match self {
            Codec::Gzip => stream(flate2::bufread::MultiGzDecoder::new(bytes), bytes.len(), limit),
            Codec::Snappy => snappy(bytes, limit),
            Codec::Lz4 => stream(lz4_flex::frame::FrameDecoder::new(bytes), bytes.len(), limit),
            Codec::Zstd => ZSTD.with(|context| match context.try_borrow_mut() {
                Ok(mut context) => {
                    let result = zstd(&mut context, bytes, limit);
                    context.take_if(|context| context.sizeof() > KEPT_CONTEXT);
                    result
                }
                Err(_) => zstd(&mut None, bytes, limit),
            }),
        };
        result.map_err(|refused| match refused {
            Refused::TooLarge => BatchFault::TooLarge { limit },
            Refused::Broken(fault) => BatchFault::Decompress { codec: self, fault },
        })
    }
}

/// Memory to begin with for what `compressed` bytes become.
fn first_piece(compressed: usize, limit: usize) -> usize {
    compressed.saturating_mul(4).max(FIRST_PIECE).min(limit)
}

fn stream(reader: impl Read, compressed: usize, limit: usize) -> Result<Vec<u8>, Refused> {
    let mut out = Vec::with_capacity(first_piece(compressed, limit));
    // One more than allowed tells too much from just enough.
    let allowed = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let read = reader.take(allowed).read_to_end(&mut out);
    if out.len() > limit {
        return Err(Refused::TooLarge);
    }
    read.map(|_| out).map_err(|error: io::Error| CodecFault::Stream(error.to_string()).into())
}

fn snappy(bytes: &[u8], limit: usize) -> Result<Vec<u8>, Refused> {
    let mut out = Vec::new();
    let Some(mut blocks) =
        bytes.strip_prefix(XERIAL_MAGIC).and_then(|rest| rest.get(XERIAL_VERSIONS..))
    else {
        snappy_block(bytes, &mut out, limit)?;
        return Ok(out);
    };
    out.reserve(first_piece(blocks.len(), limit));
    while !blocks.is_empty() {
        let (size, rest) = blocks.split_first_chunk().ok_or(CodecFault::Cut)?;
        let size = usize::try_from(u32::from_be_bytes(*size)).unwrap_or(usize::MAX);
        let (block, rest) = rest.split_at_checked(size).ok_or(CodecFault::Cut)?;
        blocks = rest;
        snappy_block(block, &mut out, limit)?;
    }
    Ok(out)
}

fn snappy_block(block: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), Refused> {
    let claimed = snap::raw::decompress_len(block).map_err(CodecFault::Snappy)?;
    if claimed > limit.saturating_sub(out.len()) {
        return Err(Refused::TooLarge);
    }
    if claimed > block.len().saturating_mul(SNAPPY_RATIO) {
        return Err(CodecFault::Claim.into());
    }
    let start = out.len();
    out.resize(start + claimed, 0);
    let target = out.get_mut(start..).unwrap_or_default();
    let written =
        snap::raw::Decoder::new().decompress(block, target).map_err(CodecFault::Snappy)?;
    out.truncate(start + written);
    Ok(())
}

fn zstd(
    context: &mut Option<DCtx<'static>>,
    bytes: &[u8],
    limit: usize,
) -> Result<Vec<u8>, Refused> {
    let broken = |code: usize| CodecFault::Zstd(zstd_safe::get_error_name(code));
    let context = match context {
        Some(context) => context,
        None => context.insert(DCtx::try_create().ok_or(CodecFault::NoMemory)?),
    };
    context.reset(ResetDirective::SessionOnly).map_err(broken)?;
    // If all fits at once, zstd needs no window. What a frame claims is believed within reason.
    let claimed = zstd_safe::get_frame_content_size(bytes).ok().flatten().unwrap_or(0);
    let believed =
        usize::try_from(claimed).unwrap_or(usize::MAX).min(bytes.len().saturating_mul(32));
    let mut out = vec![0; first_piece(bytes.len(), limit).max(believed.min(limit))];
    let mut written = 0;
    let mut input = InBuffer::around(bytes);
    loop {
        let before = (input.pos(), written);
        let mut output = OutBuffer::around_pos(out.as_mut_slice(), written);
        let wanted = context.decompress_stream(&mut output, &mut input).map_err(broken)?;
        written = output.pos();
        let all_read = input.pos() == bytes.len();
        // 0: a frame ended. More may follow.
        if wanted == 0 && all_read {
            out.truncate(written);
            return Ok(out);
        }
        if written == out.len() {
            if written == limit && (input.pos(), written) == before {
                return Err(Refused::TooLarge);
            }
            let size = out.len().saturating_mul(2).max(FIRST_PIECE).min(limit);
            out.resize(size, 0);
        } else if all_read {
            return Err(CodecFault::Cut.into());
        }
    }
}
