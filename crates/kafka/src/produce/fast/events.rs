//! The events of brokers' tasks.

use kafka_protocol::ResponseError;

use super::Key;
use super::request::Answered;
use crate::connection::RequestError;
use crate::records::ProducerId;

/// Events of brokers' tasks. As many wait as there are requests under way.
pub(super) enum Event {
    Connected(i32),
    /// A connection could not be made, or ended.
    Failed {
        broker: i32,
        error: RequestError,
    },
    /// Requests under way at a broker that does not answer.
    Slow {
        broker: i32,
        error: RequestError,
    },
    /// The answer to a Produce request; none for a partition that the answer leaves out.
    Produced {
        broker: i32,
        serial: u64,
        answers: Vec<(Key, u64, Option<Answered>)>,
    },
    /// The end of a Produce request without an answer.
    Lost {
        broker: i32,
        serial: u64,
        requests: Vec<(Key, u64)>,
        was_sent: bool,
    },
    /// A producer id, or why there is none.
    ProducerId(Key, Result<ProducerId, Option<ResponseError>>),
}
