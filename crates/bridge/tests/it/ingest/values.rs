//! Messages of which nothing but the value is needed, between others.

use zafka_sockets::InboundKind;

use super::{Running, assert_identity, blocking, eventually, ingest, json, read_log, template};
use crate::support::{Broker, SHUTDOWN};

const MESSAGES: usize = 3_000;

/// The kinds of messages, in turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Enveloped,
    Misfit,
    Command,
}

impl Kind {
    fn of(number: usize) -> Self {
        match number % 11 {
            3 => Self::Enveloped,
            6 => Self::Misfit,
            9 => Self::Command,
            _ => Self::Plain,
        }
    }

    /// True if it becomes a record.
    fn is_written(self) -> bool {
        matches!(self, Self::Plain | Self::Enveloped)
    }
}

fn value(number: usize) -> Vec<u8> {
    format!("{number}").into_bytes()
}

fn send(socket: &zmq::Socket, number: usize) {
    let value = value(number);
    let frames: &[&[u8]] = match Kind::of(number) {
        Kind::Plain => &[b"anything", &value],
        Kind::Enveloped => &[b"", b"anything", &value],
        Kind::Misfit => &[&value],
        Kind::Command => &[b"ZAFKA/1", &value, b"{}"],
    };
    socket.send_multipart(frames, 0).unwrap();
}

fn numbers(is_wanted: impl Fn(Kind) -> bool) -> Vec<usize> {
    (0..MESSAGES).filter(|number| is_wanted(Kind::of(*number))).collect()
}

/// The values in the log, in its order.
async fn logged(broker: &Broker, count: usize) -> Vec<Vec<u8>> {
    read_log(broker, "edge.kiln", move |sub| {
        (0..count).map(|_| sub.recv_multipart(0).unwrap().remove(3)).collect()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dealer_is_told_of_values_and_others_in_order() {
    let broker = Broker::start(&[("edge.kiln", 1)]);
    let mut config = ingest(InboundKind::Router, &["{_}", "{value}"]);
    config.mapping.topic = template("edge.kiln");
    let running = Running::start(&broker, config).await;
    let dealer = running.connect(zmq::DEALER);
    let (told, commands) = blocking(move || {
        (0..MESSAGES).for_each(|number| send(&dealer, number));
        let (mut told, mut commands) = (Vec::new(), 0);
        for _ in 0..MESSAGES {
            let frames = dealer.recv_multipart(0).unwrap();
            let [envelope @ .., word, body] = &frames[..] else { panic!("{frames:?}") };
            // Commands are answered at once.
            if envelope == [b"ZAFKA/1"] {
                commands += 1;
                continue;
            }
            let offset = (word == b"OK").then(|| json(body)["offset"].as_u64().unwrap());
            told.push((envelope.len(), offset));
        }
        (told, commands)
    })
    .await;
    let (mut expected, mut next) = (Vec::new(), 0);
    for number in numbers(|kind| kind != Kind::Command) {
        let kind = Kind::of(number);
        expected.push((usize::from(kind == Kind::Enveloped), kind.is_written().then_some(next)));
        next += u64::from(kind.is_written());
    }
    assert_eq!(told, expected);
    assert_eq!(commands, numbers(|kind| kind == Kind::Command).len());
    assert_identity(&running.ingest());
    running.relay.shutdown(SHUTDOWN).await;
    let written = numbers(Kind::is_written);
    let values: Vec<_> = written.iter().map(|number| value(*number)).collect();
    assert_eq!(logged(&broker, written.len()).await, values);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_a_push_are_written_in_order_and_others_skipped() {
    are_written_in_order(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_wait_in_order_where_their_partition_is_full() {
    // For about sixty of them in one partition.
    are_written_in_order(Some(64 * 1024)).await;
}

async fn are_written_in_order(in_flight_bytes: Option<usize>) {
    let broker = Broker::start(&[("edge.kiln", 1)]);
    let mut config = ingest(InboundKind::Pull, &["{_}", "{value}"]);
    config.mapping.topic = template("edge.kiln");
    let all = config.socket.in_flight_bytes;
    config.socket.in_flight_bytes = in_flight_bytes.unwrap_or(all);
    let running = Running::start(&broker, config).await;
    let push = running.connect(zmq::PUSH);
    let push = blocking(move || {
        (0..MESSAGES).for_each(|number| send(&push, number));
        push
    })
    .await;
    let written = numbers(|kind| kind == Kind::Plain);
    eventually("all are settled", || {
        let counters = running.ingest().counters;
        counters.acknowledged + counters.skipped == MESSAGES as u64
    })
    .await;
    let status = running.ingest();
    assert_eq!(status.counters.acknowledged, written.len() as u64);
    assert_identity(&status);
    drop(push);
    running.relay.shutdown(SHUTDOWN).await;
    let values: Vec<_> = written.iter().map(|number| value(*number)).collect();
    assert_eq!(logged(&broker, written.len()).await, values);
}
