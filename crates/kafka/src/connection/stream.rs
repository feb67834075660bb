//! A stream that is encrypted or not.

use tokio::io::{AsyncRead, AsyncWrite};

/// The byte stream of a connection: TCP, or TLS over it.
pub(super) type Stream = Box<dyn ByteStream>;

/// All that a connection needs to know of its stream.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> ByteStream for S {}
