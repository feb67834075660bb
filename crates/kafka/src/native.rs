//! The few calls into librdkafka that `rdkafka` does not wrap. With its parts the only place with
//! `unsafe`.
//!
//! What the proofs rest on: every handle here holds an `Arc` of the client it belongs to, so the
//! client outlives it; librdkafka's functions on clients and queues may be called from any thread
//! (its INTRODUCTION.md, "Threads and callbacks"); a message is used by one thread at a time and is
//! not changed once it is taken off its queue.
#![allow(unsafe_code)]

mod admin;
mod token;

use std::ffi::{CStr, CString, c_void};
use std::fmt;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::BorrowedMessage;
use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_resp_err_t as Code;
use zafka_envelope::{Header, Timestamp};

use crate::client::Client;
use crate::topic_partition::TopicPartition;
pub(crate) use admin::{offsets, topic_ids};
pub(crate) use token::{TokenRefusal, set_token};

fn millis(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}

fn rk(client: &Client) -> *mut sys::rd_kafka_t {
    client.client().native_ptr()
}

/// A queue of records, which partitions are made to deliver to.
pub(crate) struct Queue {
    queue: NonNull<sys::rd_kafka_queue_t>,
    client: Arc<Client>,
}

// SAFETY: queues are thread-safe in librdkafka.
unsafe impl Send for Queue {}
unsafe impl Sync for Queue {}

impl Queue {
    /// A new queue; `None` if librdkafka has no memory for it.
    pub(crate) fn new(client: &Arc<Client>) -> Option<Self> {
        // SAFETY: the client is alive; the queue is destroyed once, in `drop`, before the client it
        // keeps alive.
        let queue = NonNull::new(unsafe { sys::rd_kafka_queue_new(rk(client)) })?;
        Some(Self { queue, client: Arc::clone(client) })
    }

    /// Makes a partition deliver to this queue, from before it is assigned until it is forgotten.
    ///
    /// `rd_kafka_queue_forward` marks the partition's queue as forwarded by the application, so
    /// that an assignment does not point it at the consumer's queue again
    /// (`rd_kafka_toppar_op_fetch_start`).
    pub(crate) fn forward(&self, topic: &str, partition: i32) {
        let Ok(topic) = CString::new(topic) else { return };
        // SAFETY: the client and both queues are alive; the reference taken on the partition's
        // queue is given back.
        unsafe {
            let source =
                sys::rd_kafka_queue_get_partition(rk(&self.client), topic.as_ptr(), partition);
            if !source.is_null() {
                sys::rd_kafka_queue_forward(source, self.queue.as_ptr());
                sys::rd_kafka_queue_destroy(source);
            }
        }
    }

    /// Takes messages until they are `messages` or `bytes` many or no more is there, waiting up to
    /// `wait` for the first.
    ///
    /// One call for each message, and not `rd_kafka_consume_batch_queue`: that one counts an
    /// end-of-partition or an error at offset N as record N consumed, so that the pause and
    /// resume of the next rebalance skips that record.
    pub(crate) fn take(&self, messages: usize, bytes: usize, wait: Duration) -> Messages {
        let mut taken = Messages { messages: Vec::new(), client: Arc::clone(&self.client) };
        let mut size = 0;
        while taken.messages.len() < messages && size < bytes {
            let wait = if taken.messages.is_empty() { wait } else { Duration::ZERO };
            // SAFETY: the queue is alive; a message returned is ours to destroy.
            let message = unsafe { sys::rd_kafka_consume_queue(self.queue.as_ptr(), millis(wait)) };
            let Some(message) = NonNull::new(message) else { break };
            let message = Message(message);
            size += message.size();
            taken.messages.push(message);
        }
        taken
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_queue_new` and destroyed nowhere else; the client is still
        // alive.
        unsafe { sys::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

/// A topic that is read without a group, by librdkafka's simple consumer.
pub(crate) struct SimpleTopic {
    topic: NonNull<sys::rd_kafka_topic_t>,
    client: Arc<Client>,
}

// SAFETY: topic handles are thread-safe in librdkafka.
unsafe impl Send for SimpleTopic {}

impl SimpleTopic {
    pub(crate) fn new(client: &Arc<Client>, topic: &str) -> Option<Self> {
        let name = CString::new(topic).ok()?;
        // SAFETY: the client is alive, the name is a C string, no configuration means the client's
        // own.
        let topic = NonNull::new(unsafe {
            sys::rd_kafka_topic_new(rk(client), name.as_ptr(), ptr::null_mut())
        })?;
        Some(Self { topic, client: Arc::clone(client) })
    }

    /// Begins to read a partition into a queue of the same client.
    pub(crate) fn start(
        &self,
        partition: i32,
        offset: i64,
        into: &Queue,
    ) -> Result<(), RDKafkaErrorCode> {
        debug_assert!(Arc::ptr_eq(&self.client, &into.client));
        // SAFETY: topic and queue are alive and of one client.
        let result = unsafe {
            sys::rd_kafka_consume_start_queue(
                self.topic.as_ptr(),
                partition,
                offset,
                into.queue.as_ptr(),
            )
        };
        // SAFETY: reads a thread-local.
        if result == 0 { Ok(()) } else { Err(unsafe { sys::rd_kafka_last_error() }.into()) }
    }

    /// Ends reading a partition; waits until librdkafka has let go of it.
    pub(crate) fn stop(&self, partition: i32) {
        // SAFETY: the topic is alive. A partition that was not started is an error without effect.
        unsafe { sys::rd_kafka_consume_stop(self.topic.as_ptr(), partition) };
    }
}

impl Drop for SimpleTopic {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_topic_new` and destroyed nowhere else; the client is still
        // alive.
        unsafe { sys::rd_kafka_topic_destroy(self.topic.as_ptr()) }
    }
}

/// A message that was taken off a queue: a record, or an error of a partition. Lives within
/// [`Messages`].
pub(crate) struct Message(NonNull<sys::rd_kafka_message_t>);

// SAFETY: a message taken off its queue belongs to its holder; its headers are parsed on first use
// through `&Message`, which is not `Sync`.
unsafe impl Send for Message {}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: destroyed once; `Messages` keeps the client alive until after its messages.
        unsafe { sys::rd_kafka_message_destroy(self.0.as_ptr()) }
    }
}

impl Message {
    fn raw(&self) -> &sys::rd_kafka_message_t {
        // SAFETY: valid until destroyed, and nothing writes to it.
        unsafe { self.0.as_ref() }
    }

    pub(crate) fn error(&self) -> Option<RDKafkaErrorCode> {
        (self.raw().err != Code::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| self.raw().err.into())
    }

    pub(crate) fn offset(&self) -> i64 {
        self.raw().offset
    }

    pub(crate) fn partition(&self) -> i32 {
        self.raw().partition
    }

    /// The topic; `None` for an error that is not of one.
    pub(crate) fn topic(&self) -> Option<&str> {
        if self.raw().rkt.is_null() {
            return None;
        }
        // SAFETY: the message holds a reference on its topic, whose name is a C string that lives
        // as long.
        let name = unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(self.raw().rkt)) };
        name.to_str().ok()
    }

    /// The key; null and empty are told apart.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        // SAFETY: librdkafka's key, null or of that length, lives as long as the message.
        unsafe { bytes(self.raw().key, self.raw().key_len) }
    }

    /// The value; null and empty are told apart. The text of an error message.
    pub(crate) fn value(&self) -> Option<&[u8]> {
        // SAFETY: as for the key.
        unsafe { bytes(self.raw().payload, self.raw().len) }
    }

    pub(crate) fn timestamp(&self) -> Timestamp {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: writes the kind, reads the message.
        let time = unsafe { sys::rd_kafka_message_timestamp(self.0.as_ptr(), &mut kind) };
        match kind {
            // Others below zero are times before 1970.
            _ if time == -1 => Timestamp::None,
            sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_CREATE_TIME => {
                Timestamp::Create(time)
            }
            sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => {
                Timestamp::LogAppend(time)
            }
            _ => Timestamp::None,
        }
    }

    /// Adds the headers to `headers`, byte for byte.
    pub(crate) fn headers<'a>(&'a self, headers: &mut Vec<Header<'a>>) {
        let mut all = ptr::null_mut();
        // SAFETY: the headers stay the message's, and live as long.
        if unsafe { sys::rd_kafka_message_headers(self.0.as_ptr(), &mut all) }
            != Code::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            return;
        }
        for index in 0.. {
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            // SAFETY: an index past the last is answered with an error.
            let code = unsafe {
                sys::rd_kafka_header_get_all(all, index, &mut name, &mut value, &mut size)
            };
            if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                return;
            }
            // SAFETY: a C string, and null or bytes of that size, that live as long as the message.
            let (name, value) = unsafe { (CStr::from_ptr(name).to_bytes(), bytes(value, size)) };
            headers.push(Header { name, value });
        }
    }

    /// Bytes of key and value.
    pub(crate) fn size(&self) -> usize {
        self.raw().len + self.raw().key_len
    }

    fn same_partition(&self, other: &Self) -> bool {
        self.raw().rkt == other.raw().rkt && self.raw().partition == other.raw().partition
    }
}

/// # Safety
/// `start` is null or valid for `len` bytes for as long as `'a`.
unsafe fn bytes<'a>(start: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller's.
    (!start.is_null()).then(|| unsafe { slice::from_raw_parts(start.cast::<u8>(), len) })
}

/// Messages in the order of their queue. Keeps the client alive: fields are dropped in order,
/// messages first.
pub(crate) struct Messages {
    messages: Vec<Message>,
    client: Arc<Client>,
}

impl Messages {
    pub(crate) fn as_slice(&self) -> &[Message] {
        &self.messages
    }

    /// Parts them into runs of records of one partition; each error is a run of its own.
    pub(crate) fn into_runs(self) -> Vec<Self> {
        let mut runs: Vec<Self> = Vec::new();
        for message in self.messages {
            let goes_on = runs.last().and_then(|run| run.messages.last()).is_some_and(|last| {
                last.same_partition(&message) && last.error().is_none() && message.error().is_none()
            });
            match runs.last_mut() {
                Some(run) if goes_on => run.messages.push(message),
                _ => runs.push(Self { messages: vec![message], client: Arc::clone(&self.client) }),
            }
        }
        runs
    }
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").field("count", &self.messages.len()).finish_non_exhaustive()
    }
}

/// Sets the leader epoch of each of the list's partitions, in their order; -1 is none.
pub(crate) fn set_leader_epochs(list: &mut TopicPartitionList, epochs: &[i32]) {
    // SAFETY: the list is alive and not shared; it holds `cnt` elements.
    unsafe {
        let list = list.ptr();
        let count = usize::try_from((*list).cnt).unwrap_or(0);
        for (index, epoch) in epochs.iter().enumerate().take(count) {
            sys::rd_kafka_topic_partition_set_leader_epoch((*list).elems.add(index), *epoch);
        }
    }
}

/// The leader epoch of each of the list's partitions, in their order; -1 is none.
pub(crate) fn leader_epochs(list: &TopicPartitionList) -> Vec<i32> {
    // SAFETY: the list is alive and holds `cnt` elements, which are only read.
    unsafe {
        let list = list.ptr();
        let count = usize::try_from((*list).cnt).unwrap_or(0);
        (0..count)
            .map(|index| sys::rd_kafka_topic_partition_get_leader_epoch((*list).elems.add(index)))
            .collect()
    }
}

/// Commits as a member and waits for the coordinator's answer; an error for each partition that was
/// not committed.
///
/// Without a membership librdkafka commits as a client that is no member, which a group without
/// members takes: it may be one of another cluster.
///
/// `rdkafka`'s synchronous commit waits without end and does not report partitions.
pub(crate) fn commit(
    client: &Client,
    offsets: &TopicPartitionList,
    wait: Duration,
) -> Result<Vec<(TopicPartition, RDKafkaErrorCode)>, RDKafkaErrorCode> {
    if membership(client).is_none() {
        return Err(RDKafkaErrorCode::UnknownMemberId);
    }
    // SAFETY: the queue is destroyed below and the event before it; the event's list lives as long
    // as the event and holds `cnt` elements; `offsets` is only read.
    unsafe {
        let queue = sys::rd_kafka_queue_new(rk(client));
        let code =
            sys::rd_kafka_commit_queue(rk(client), offsets.ptr(), queue, None, ptr::null_mut());
        if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            sys::rd_kafka_queue_destroy(queue);
            return Err(code.into());
        }
        let event = sys::rd_kafka_queue_poll(queue, millis(wait));
        sys::rd_kafka_queue_destroy(queue);
        if event.is_null() {
            return Err(RDKafkaErrorCode::OperationTimedOut);
        }
        let code = sys::rd_kafka_event_error(event);
        let list = sys::rd_kafka_event_topic_partition_list(event);
        let mut failed = Vec::new();
        if !list.is_null() && (*list).cnt > 0 {
            let elements =
                slice::from_raw_parts((*list).elems, usize::try_from((*list).cnt).unwrap_or(0));
            for element in
                elements.iter().filter(|element| element.err != Code::RD_KAFKA_RESP_ERR_NO_ERROR)
            {
                let topic = CStr::from_ptr(element.topic).to_string_lossy();
                let topic_partition = TopicPartition::new(&*topic, element.partition);
                failed.push((topic_partition, element.err.into()));
            }
        }
        sys::rd_kafka_event_destroy(event);
        if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR && failed.is_empty() {
            Err(code.into())
        } else {
            Ok(failed)
        }
    }
}

/// Returns the member as which, and the generation or epoch in which, this client takes part in its
/// group, if it does. librdkafka's main thread answers at once.
pub(crate) fn membership(client: &Client) -> Option<(String, i32)> {
    // SAFETY: the client is alive; what is returned is ours to destroy, and the id a C string that
    // lives as long.
    unsafe {
        let metadata = sys::rd_kafka_consumer_group_metadata(rk(client));
        if metadata.is_null() {
            return None;
        }
        let generation = sys::rd_kafka_consumer_group_metadata_generation_id(metadata);
        let member = sys::rd_kafka_consumer_group_metadata_member_id(metadata);
        let member =
            (!member.is_null()).then(|| CStr::from_ptr(member).to_string_lossy().into_owned());
        sys::rd_kafka_consumer_group_metadata_destroy(metadata);
        member.filter(|_| generation > 0).map(|member| (member, generation))
    }
}

/// The id of the cluster, as the last metadata have it. Sends nothing.
///
/// What `rdkafka` has for it keeps the memory of each answer.
pub(crate) fn cluster_id(client: &Client) -> Option<String> {
    // SAFETY: the client is alive; the text is a C string that is ours to free.
    unsafe {
        let id = sys::rd_kafka_clusterid(rk(client), 0);
        if id.is_null() {
            return None;
        }
        let text = CStr::from_ptr(id).to_string_lossy().into_owned();
        sys::rd_kafka_mem_free(rk(client), id.cast());
        Some(text)
    }
}

/// Returns true if a record that was given up may be in the log all the same.
pub(crate) fn may_be_written(message: &BorrowedMessage<'_>) -> bool {
    // SAFETY: the message is alive while it is borrowed.
    let status = unsafe { sys::rd_kafka_message_status(message.ptr()) };
    status != sys::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED
}
