//! Requests of librdkafka's admin client, which answer for each partition.

use std::ffi::{CStr, CString};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_resp_err_t as Code;
use uuid::Uuid;

use super::{Queue, millis, rk};
use crate::client::Client;
use crate::config::Isolation;
use crate::topic_partition::TopicPartition;

/// Wait for librdkafka beyond its requests: it answers once they have timed out. Leaders are asked
/// for first, with as much time as they have themselves.
const ANSWER_SLACK: Duration = Duration::from_secs(1);

/// The options of a request.
struct Options(NonNull<sys::rd_kafka_AdminOptions_t>);

impl Options {
    fn new(client: &Client, request: sys::rd_kafka_admin_op_t, wait: Duration) -> Option<Self> {
        // SAFETY: the client is alive; the options are destroyed once, in `drop`; no text is asked
        // for.
        unsafe {
            let options = Self(NonNull::new(sys::rd_kafka_AdminOptions_new(rk(client), request))?);
            sys::rd_kafka_AdminOptions_set_request_timeout(
                options.0.as_ptr(),
                millis(wait),
                ptr::null_mut(),
                0,
            );
            Some(options)
        }
    }

    fn set_isolation(&mut self, isolation: Isolation) {
        use sys::rd_kafka_IsolationLevel_t as Level;
        let level = match isolation {
            Isolation::ReadCommitted => Level::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED,
            Isolation::ReadUncommitted => Level::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED,
        };
        // SAFETY: the options are alive; the error, if there is one, is ours to destroy.
        unsafe {
            let error = sys::rd_kafka_AdminOptions_set_isolation_level(self.0.as_ptr(), level);
            if !error.is_null() {
                sys::rd_kafka_error_destroy(error);
            }
        }
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_AdminOptions_new` and destroyed nowhere else.
        unsafe { sys::rd_kafka_AdminOptions_destroy(self.0.as_ptr()) }
    }
}

/// The result of a request.
struct AdminEvent(NonNull<sys::rd_kafka_event_t>);

impl AdminEvent {
    /// Takes the one that comes within `wait`, unless it is an error.
    fn wait(queue: &Queue, wait: Duration) -> Result<Self, RDKafkaErrorCode> {
        // SAFETY: the queue is alive; an event returned is ours to destroy.
        let event = unsafe {
            sys::rd_kafka_queue_poll(queue.queue.as_ptr(), millis(2 * wait + ANSWER_SLACK))
        };
        let event = Self(NonNull::new(event).ok_or(RDKafkaErrorCode::OperationTimedOut)?);
        // SAFETY: the event is alive.
        match unsafe { sys::rd_kafka_event_error(event.0.as_ptr()) } {
            Code::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(event),
            code => Err(code.into()),
        }
    }
}

impl Drop for AdminEvent {
    fn drop(&mut self) {
        // SAFETY: taken off its queue, and destroyed nowhere else.
        unsafe { sys::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}

/// The offset of one partition for the time that was asked for, `None` if there is none; or why it
/// is not known.
pub(crate) type OffsetOf = (TopicPartition, Result<Option<i64>, RDKafkaErrorCode>);

/// Asks for the first offset at a time or after it, -2 and -1 being the earliest and the end (under
/// `read_committed` the last stable offset). Every leader is given `wait`.
///
/// `rd_kafka_offsets_for_times` fails as a whole if one partition does.
pub(crate) fn offsets(
    client: &Arc<Client>,
    times: &TopicPartitionList,
    isolation: Isolation,
    wait: Duration,
) -> Result<Vec<OffsetOf>, RDKafkaErrorCode> {
    let request = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS;
    let mut options = Options::new(client, request, wait).ok_or(RDKafkaErrorCode::Fail)?;
    options.set_isolation(isolation);
    let queue = Queue::new(client).ok_or(RDKafkaErrorCode::Fail)?;
    // SAFETY: client, list, options and queue are alive; librdkafka copies the list and the
    // options.
    unsafe {
        sys::rd_kafka_ListOffsets(
            rk(client),
            times.ptr(),
            options.0.as_ptr(),
            queue.queue.as_ptr(),
        );
    }
    let event = match AdminEvent::wait(&queue, wait) {
        // Its word for partitions none of which has a leader.
        Err(RDKafkaErrorCode::NoEnt) => return Err(RDKafkaErrorCode::LeaderNotAvailable),
        event => event?,
    };
    let mut offsets = Vec::new();
    // SAFETY: the result and its infos live as long as the event; `count` of them are there, and
    // each has a partition whose topic is a C string.
    unsafe {
        let result = sys::rd_kafka_event_ListOffsets_result(event.0.as_ptr());
        let mut count = 0;
        if result.is_null() {
            return Err(RDKafkaErrorCode::Fail);
        }
        let infos = sys::rd_kafka_ListOffsets_result_infos(result, &mut count);
        for index in 0..count {
            let partition =
                &*sys::rd_kafka_ListOffsetsResultInfo_topic_partition(*infos.add(index));
            let topic = CStr::from_ptr(partition.topic).to_string_lossy();
            let offset = match partition.err {
                Code::RD_KAFKA_RESP_ERR_NO_ERROR => offset_answered(partition.offset),
                code => Err(code.into()),
            };
            offsets.push((TopicPartition::new(&*topic, partition.partition), offset));
        }
    }
    Ok(offsets)
}

/// Asks for the ids of topics, each of one life of its topic. Those that cannot be described, or
/// have none, are left out.
pub(crate) fn topic_ids(
    client: &Arc<Client>,
    topics: &[String],
    wait: Duration,
) -> Result<Vec<(String, Uuid)>, RDKafkaErrorCode> {
    let names: Vec<CString> =
        topics.iter().filter_map(|topic| CString::new(topic.as_str()).ok()).collect();
    let request = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    let options = Options::new(client, request, wait).ok_or(RDKafkaErrorCode::Fail)?;
    let queue = Queue::new(client).ok_or(RDKafkaErrorCode::Fail)?;
    let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    // SAFETY: client, names, options and queue are alive; librdkafka copies the names into the
    // collection, and the collection and the options into the request; the collection is ours
    // to destroy.
    unsafe {
        let collection =
            sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        sys::rd_kafka_DescribeTopics(
            rk(client),
            collection,
            options.0.as_ptr(),
            queue.queue.as_ptr(),
        );
        sys::rd_kafka_TopicCollection_destroy(collection);
    }
    let event = AdminEvent::wait(&queue, wait)?;
    let mut ids = Vec::new();
    // SAFETY: the result and its descriptions live as long as the event; `count` of them are there,
    // each with a name that is a C string; an id is looked at if it is not null.
    unsafe {
        let result = sys::rd_kafka_event_DescribeTopics_result(event.0.as_ptr());
        let mut count = 0;
        if result.is_null() {
            return Err(RDKafkaErrorCode::Fail);
        }
        let descriptions = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        for index in 0..count {
            let description = *descriptions.add(index);
            let error = sys::rd_kafka_TopicDescription_error(description);
            let id = sys::rd_kafka_TopicDescription_topic_id(description);
            let failed = !error.is_null()
                && sys::rd_kafka_error_code(error) != Code::RD_KAFKA_RESP_ERR_NO_ERROR;
            if failed || id.is_null() {
                continue;
            }
            let name = CStr::from_ptr(sys::rd_kafka_TopicDescription_name(description));
            let id = Uuid::from_u64_pair(
                sys::rd_kafka_Uuid_most_significant_bits(id).cast_unsigned(),
                sys::rd_kafka_Uuid_least_significant_bits(id).cast_unsigned(),
            );
            if !id.is_nil() {
                ids.push((name.to_string_lossy().into_owned(), id));
            }
        }
    }
    Ok(ids)
}

/// An answer has an offset, or -1 for none; a partition whose leader did not answer keeps
/// librdkafka's mark.
fn offset_answered(offset: i64) -> Result<Option<i64>, RDKafkaErrorCode> {
    match offset {
        0.. => Ok(Some(offset)),
        -1 => Ok(None),
        _ => Err(RDKafkaErrorCode::OperationTimedOut),
    }
}
