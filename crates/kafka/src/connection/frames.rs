//! Frames of Kafka's protocol: a size of four bytes, big-endian, and as many bytes. Each is read
//! into one buffer, which is used again once no part of it is held.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::pool::Pool;

const PREFIX: usize = 4;
/// Memory that is taken before the first byte of a frame is there.
const FIRST_BYTES: usize = 2 << 20;
/// The first three bytes of an alert, as a TLS listener sends it to a client without TLS (RFC 8446
/// section 5.1).
const TLS_ALERT: usize = 0x15_03_03;
/// Bytes that are read at first: all of a small frame, with its size.
const SMALL: usize = 8 << 10;

/// The reason why there is no frame.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("the connection was closed")]
    Closed,
    #[error("an answer of {size} bytes, where at most {limit} are taken")]
    TooLarge { size: usize, limit: usize },
    #[error("an answer of {size} bytes with {bytes} in it")]
    TooMany { size: usize, bytes: usize },
    #[error("an answer of {0} bytes")]
    Negative(i32),
    #[error("the answer is TLS: the listener wants it (kafka.security.tls)")]
    Tls,
    #[error("{0}")]
    Io(io::Error),
}

impl From<io::Error> for FrameError {
    /// However a connection ends, by a reset or without TLS's farewell, it is the same.
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        match error.kind() {
            BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

/// The frame that is being read, and buffers of those that were.
#[derive(Default)]
pub(super) struct Frames {
    /// The part of the frame that was read; its size before it, until that is known.
    buffer: BytesMut,
    size: Option<usize>,
    pool: Arc<Pool>,
}

impl Frames {
    /// Makes the buffers of a connection that shares them with others.
    pub(super) fn new(pool: Arc<Pool>) -> Self {
        Self { pool, ..Self::default() }
    }

    /// The size of the next frame, for which no memory is taken yet. Can be dropped and called
    /// again.
    pub(super) async fn size(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        limit: usize,
    ) -> Result<usize, FrameError> {
        if let Some(size) = self.size {
            return Ok(size);
        }
        // One answer is under way at a time, so that nothing follows it.
        self.buffer.reserve(SMALL);
        while self.buffer.len() < PREFIX {
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(FrameError::Closed);
            }
        }
        let size = self.buffer.get_i32();
        let size = usize::try_from(size).map_err(|_| FrameError::Negative(size))?;
        if size > limit && size >> 8 == TLS_ALERT {
            return Err(FrameError::Tls);
        }
        if size > limit {
            return Err(FrameError::TooLarge { size, limit });
        }
        if self.buffer.len() > size {
            return Err(FrameError::TooMany { size, bytes: self.buffer.len() });
        }
        self.size = Some(size);
        Ok(size)
    }

    /// The next frame. Can be dropped and called again.
    pub(super) async fn frame(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        limit: usize,
    ) -> Result<Bytes, FrameError> {
        let size = self.size(stream, limit).await?;
        if size > self.buffer.capacity() && self.buffer.len() <= SMALL {
            let begun = std::mem::take(&mut self.buffer);
            self.buffer = self.pool.take(size.min(FIRST_BYTES));
            self.buffer.extend_from_slice(&begun);
        }
        read(stream, &mut self.buffer, size).await?;
        self.size = None;
        let buffer = std::mem::take(&mut self.buffer);
        let (capacity, now) = (buffer.capacity(), Instant::now());
        let frame = buffer.freeze();
        self.pool.trim(now);
        if frame.len() >= SMALL {
            self.pool.keep(&frame, capacity, now);
        }
        Ok(frame)
    }

    /// Bytes that have come of the frame being read.
    pub(super) fn begun(&self) -> usize {
        self.buffer.len()
    }

    /// Bytes that the frame being read takes.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.buffer.capacity()
    }
}

/// Reads until there are so many bytes, and no more of them.
async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    size: usize,
) -> Result<(), FrameError> {
    while buffer.len() < size {
        let left = size - buffer.len();
        // Grows with what comes: a size alone takes little memory.
        buffer.reserve(left.min(FIRST_BYTES.max(buffer.len())));
        if (&mut *stream).take(left as u64).read_buf(buffer).await? == 0 {
            return Err(FrameError::Closed);
        }
    }
    Ok(())
}
