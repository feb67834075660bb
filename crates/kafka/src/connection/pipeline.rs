//! Requests one behind the other on a connection, without waiting for the answers in between. Their
//! bytes are written from where they are.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Instant;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};

use super::answer::AnswerError;
use super::frames::FrameError;
use super::{Connection, ConnectionError, SMALL};

/// Bytes that are read at once. Answers are small.
const READ: usize = 8 << 10;

/// An answer that is waited for.
#[derive(Clone, Copy, Debug)]
struct PendingAnswer {
    key: i16,
    correlation: i32,
    header_version: i16,
    /// The position of its request in all that was queued.
    begin: u64,
}

/// A connection that has several requests under way.
pub(crate) struct Pipeline {
    connection: Connection,
    outgoing: Outgoing,
    /// The part of the next answers that was read.
    answers: BytesMut,
    waited: VecDeque<PendingAnswer>,
    queued: u64,
    written: u64,
    progress: Instant,
}

impl Pipeline {
    /// Makes a pipeline of a connection that has no request under way.
    pub(crate) fn new(connection: Connection) -> Self {
        Self {
            connection,
            outgoing: Outgoing::default(),
            answers: BytesMut::new(),
            waited: VecDeque::new(),
            queued: 0,
            written: 0,
            progress: Instant::now(),
        }
    }

    /// Queues a request.
    ///
    /// # Errors
    /// It cannot be encoded.
    pub(crate) fn push<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<(), ConnectionError> {
        let mut body = BytesMut::new();
        request.encode(&mut body, version).map_err(|error| self.connection.fault(&error))?;
        self.push_pieces::<R>(version, vec![body.freeze()])
    }

    /// Queues a request whose body is made of these pieces.
    ///
    /// # Errors
    /// Its header cannot be encoded, or it is too large.
    pub(crate) fn push_pieces<R: Request>(
        &mut self,
        version: i16,
        body: Vec<Bytes>,
    ) -> Result<(), ConnectionError> {
        let connection = &mut self.connection;
        connection.correlation = connection.correlation.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(connection.correlation)
            .with_client_id(Some(StrBytes::from_static_str("zafka")));
        let mut frame = BytesMut::with_capacity(64);
        frame.put_i32(0);
        let encoded = header.encode(&mut frame, R::header_version(version));
        encoded.map_err(|error| connection.fault(&error))?;
        let size = frame.len() - 4 + body.iter().map(Bytes::len).sum::<usize>();
        let prefix = i32::try_from(size).map_err(|error| connection.fault(&error))?;
        if let Some(place) = frame.first_chunk_mut() {
            *place = prefix.to_be_bytes();
        }
        if self.waited.is_empty() {
            self.progress = Instant::now();
        }
        self.waited.push_back(PendingAnswer {
            key: R::KEY,
            correlation: connection.correlation,
            header_version: <R::Response as HeaderVersion>::header_version(version),
            begin: self.queued,
        });
        self.queued += size as u64 + 4;
        self.outgoing.pieces.push_back(frame.freeze());
        self.outgoing.pieces.extend(body);
        Ok(())
    }

    /// Returns for each request that is under way, in their order, whether the broker may have it.
    pub(crate) fn sent(&self) -> impl Iterator<Item = bool> {
        self.waited.iter().map(|waited| waited.begin < self.written)
    }

    /// Returns the time of the last progress while requests were under way.
    pub(crate) fn progress(&self) -> Instant {
        self.progress
    }

    /// Returns true if the session is to be renewed, for which the requests under way end first.
    pub(crate) fn is_to_be_renewed(&self) -> bool {
        self.connection.session.is_some_and(|session| Instant::now() >= session.renew_at)
    }

    /// Renews the session. To be called while no request is under way.
    ///
    /// # Errors
    /// As [`Connection::renew`].
    pub(crate) async fn renew(&mut self) -> Result<u64, ConnectionError> {
        self.connection.renew().await
    }

    /// The body of the next answer, while what is queued is written. Can be dropped and called
    /// again.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub(crate) async fn next(&mut self) -> Result<Bytes, ConnectionError> {
        loop {
            if let Some(answer) = self.take_answer()? {
                return Ok(answer);
            }
            let Self { connection, outgoing, answers, .. } = &mut *self;
            answers.reserve(READ);
            let (mut reader, mut writer) = split(&mut connection.stream);
            let mut written = 0;
            let result = tokio::select! {
                result = writer.write_buf(outgoing), if outgoing.has_remaining() => {
                    written = *result.as_ref().unwrap_or(&0);
                    result
                }
                result = reader.read_buf(answers) => match result {
                    Ok(0) => Err(std::io::ErrorKind::UnexpectedEof.into()),
                    result => result,
                },
            };
            self.written += written as u64;
            match result {
                Ok(_) => self.progress = Instant::now(),
                Err(error) => return Err(self.connection.lost(&error.into())),
            }
        }
    }

    fn take_answer(&mut self) -> Result<Option<Bytes>, ConnectionError> {
        let Some(size) = self.answers.first_chunk::<4>() else { return Ok(None) };
        let size = i32::from_be_bytes(*size);
        let lost = |error: FrameError| Err(self.connection.lost(&error));
        let Ok(size) = usize::try_from(size) else { return lost(FrameError::Negative(size)) };
        if size > SMALL {
            return lost(FrameError::TooLarge { size, limit: SMALL });
        }
        if self.answers.len() < size + 4 {
            return Ok(None);
        }
        let mut frame = self.answers.split_to(size + 4).freeze().slice(4..);
        let Some(waited) = self.waited.pop_front() else {
            return Err(self.connection.fault(&"an answer to nothing"));
        };
        let header = ResponseHeader::decode(&mut frame, waited.header_version);
        let header = header.map_err(|_| self.connection.fault(&AnswerError::Short))?;
        if header.correlation_id != waited.correlation {
            let (found, expected) = (header.correlation_id, waited.correlation);
            let reason = format!("an answer to request {found} instead of {expected}");
            // Whatever it was, this request has no answer.
            self.waited.push_front(waited);
            return Err(self.connection.fault(&reason));
        }
        self.connection.served |= waited.key != ApiKey::ApiVersions as i16;
        Ok(Some(frame))
    }
}

/// Bytes to be written.
#[derive(Debug, Default)]
struct Outgoing {
    pieces: VecDeque<Bytes>,
}

impl Buf for Outgoing {
    fn remaining(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    fn has_remaining(&self) -> bool {
        self.pieces.iter().any(|piece| !piece.is_empty())
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.iter().find(|piece| !piece.is_empty()).map_or(&[], |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let pieces = self.pieces.iter().filter(|piece| !piece.is_empty());
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(piece) = self.pieces.front_mut() {
            if count < piece.len() {
                return piece.advance(count);
            }
            count -= piece.len();
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_written_in_their_order() {
        let mut outgoing = Outgoing::default();
        outgoing.pieces.extend([&b"ab"[..], b"", b"cde"].map(Bytes::from_static));
        assert_eq!((outgoing.remaining(), outgoing.chunk()), (5, &b"ab"[..]));
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(outgoing.chunks_vectored(&mut slices), 2);
        outgoing.advance(3);
        assert_eq!((outgoing.remaining(), outgoing.chunk()), (2, &b"de"[..]));
        outgoing.advance(2);
        assert!(!outgoing.has_remaining() && outgoing.pieces.is_empty());
    }
}
