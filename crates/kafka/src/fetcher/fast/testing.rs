//! The common parts of the fast fetcher's tests.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{
    Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use tokio::sync::mpsc;

use super::FetcherContext;
use super::fetch_session::{FetchKind, FetchOptions};
use crate::cluster::{AnswerMemory, Cluster};
use crate::config::{ClusterConfig, Isolation, Sasl, Security};
use crate::fetcher::{FetchFault, Fetched, RecordSender};
use crate::health::SourceHealth;
use crate::log_limiter::LogLimiter;
use crate::mailbox::Mailbox;
use crate::report::Reporter;

pub(super) fn options(isolation: Isolation) -> FetchOptions {
    FetchOptions { isolation, rack: String::new(), kind: FetchKind::Session }
}

/// The context of tasks whose route and whose membership are played by the test.
pub(super) fn context(
    sasl: Option<Sasl>,
    options: FetchOptions,
    records: mpsc::Sender<Fetched>,
    faults: Mailbox<FetchFault>,
) -> FetcherContext {
    let security = Security { tls: None, sasl };
    let cluster = ClusterConfig { bootstrap_servers: Vec::new(), security, client_rack: None };
    let connections = Cluster::new(&cluster).unwrap().own_connections().unwrap();
    let health = Arc::new(SourceHealth::default());
    let reporter = Reporter::new("r", &health, &Arc::new(LogLimiter::default()));
    FetcherContext {
        connections,
        options,
        refresh: Duration::from_secs(30),
        budget: AnswerMemory::new(1 << 20).budget_of(1 << 20),
        limit: 1 << 20,
        records_tx: RecordSender::new(records, Arc::clone(&health)),
        faults,
        reporter,
        health,
        alone: false,
    }
}

/// A batch of leader epoch 5 that has a record with this value for each offset.
pub(super) fn batch(offsets: Range<i64>, value: &[u8]) -> Bytes {
    let records: Vec<Record> = offsets
        .map(|offset| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: 5,
            producer_id: -1,
            producer_epoch: -1,
            timestamp_type: TimestampType::Creation,
            offset,
            sequence: -1,
            timestamp: 0,
            key: None,
            value: Some(Bytes::copy_from_slice(value)),
            headers: Default::default(),
        })
        .collect();
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut bytes, &records, &options).unwrap();
    bytes.freeze()
}
