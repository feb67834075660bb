//! Partitions that cannot be written, and the others.

use zafka_bridge::status::SenderStatus;

use super::raw::Raw;
use super::*;

/// Two brokers; the second one leads partition 0, and is away.
pub fn broker() -> Broker {
    let broker = Broker::start_several(2, &[("edge.kiln", 3)]);
    for (partition, leader) in [(0, 2), (1, 1), (2, 1)] {
        broker.embedded.move_leader("edge.kiln", partition, leader).unwrap();
    }
    broker.embedded.set_broker_reachable(2, false).unwrap();
    broker
}

/// A route whose messages name their partition and sender; in `{value}` they are numbered.
pub fn route_by_partition(kind: InboundKind) -> IngestConfig {
    let mut config = ingest(kind, &["{topic}", "{header.partition}", "{header.sender}", "{value}"]);
    let partition = Template::parse("{header.partition}", Fields::OfMessage).unwrap();
    config.mapping.partition = Some(partition);
    config.mapping.key = None;
    config.socket.in_flight_bytes = 512 << 10;
    config
}

pub const VALUE: usize = 5_000;

pub fn message(partition: &str, sender: &str, number: usize) -> [Vec<u8>; 4] {
    let value = format!("{number:<VALUE$}");
    [b"kiln".to_vec(), partition.into(), sender.into(), value.into()]
}

/// Sends numbered messages, blocking, for as long as the relay does not take them.
pub fn send(
    running: &Running,
    partition: &'static str,
    sender: String,
    count: usize,
) -> tokio::task::JoinHandle<zmq::Socket> {
    let push = zmq::Context::new().socket(zmq::PUSH).unwrap();
    push.set_sndhwm(5).unwrap();
    push.set_sndbuf(32 << 10).unwrap();
    push.set_linger(0).unwrap();
    push.set_sndtimeo(2 * PATIENCE.as_millis() as i32).unwrap();
    push.connect(&running.endpoint()).unwrap();
    tokio::task::spawn_blocking(move || {
        for number in 0..count {
            push.send_multipart(message(partition, &sender, number), 0).unwrap();
        }
        push
    })
}

/// The numbers that a partition has of each sender, in the order of the log, once there are `count`
/// in all.
pub async fn logged(broker: &Broker, partition: i32, count: usize) -> BTreeMap<String, Vec<usize>> {
    read_log(broker, "edge.kiln", move |sub| {
        let mut found = BTreeMap::<_, Vec<usize>>::new();
        let mut left = count;
        while left > 0 {
            let frames = sub.recv_multipart(0).unwrap();
            let meta = json(&frames[1]);
            if meta["partition"] == partition {
                let number = std::str::from_utf8(&frames[3]).unwrap().trim().parse().unwrap();
                let headers = meta["headers"].as_array().unwrap();
                let sender = headers.iter().find(|header| header[0] == "sender").unwrap();
                found.entry(sender[1].as_str().unwrap().to_owned()).or_default().push(number);
                left -= 1;
            }
        }
        found
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_leader_stops_no_other_partition() {
    stops_no_other(ProducerKind::Fast).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_leader_stops_no_other_partition_of_librdkafka() {
    stops_no_other(ProducerKind::Librdkafka).await;
}

async fn stops_no_other(producer: ProducerKind) {
    const SENDERS: usize = 5;
    const MESSAGES: usize = 100;
    const SHORT: usize = 10;
    let broker = broker();
    let mut config = route_by_partition(InboundKind::Pull);
    config.producer.producer = producer;
    // What is more than a part of it is one message.
    let most = config.socket.in_flight_bytes / 4 + VALUE + 512;
    let running = Running::start(&broker, config).await;
    let dead: Vec<_> =
        (0..SENDERS).map(|sender| send(&running, "0", format!("s{sender}"), MESSAGES)).collect();
    let is_held = |running: &Running| {
        let status = running.ingest();
        status.senders_held >= SENDERS && status.in_flight_bytes <= most
    };
    eventually("its senders are held", || {
        let waiting = running.ingest().waiting;
        let [wait] = &waiting[..] else { return false };
        let place = (wait.kind, wait.partition.as_deref());
        let is_told = wait.reason.contains("5 senders not read");
        is_told && place == ("memory", Some("edge.kiln/0")) && is_held(&running)
    })
    .await;

    // A sender that has sent and gone is not forgotten, nor overtaken by what it sends when it has
    // come again.
    for connection in 0..2 {
        let endpoint = running.endpoint();
        blocking(move || {
            let numbers = connection * SHORT / 2..(connection + 1) * SHORT / 2;
            let texts: Vec<_> = numbers.map(|number| number.to_string()).collect();
            let messages: Vec<_> =
                texts.iter().map(|text| [&b"kiln"[..], b"0", b"short", text.as_bytes()]).collect();
            let messages: Vec<_> = messages.iter().map(|frames| &frames[..]).collect();
            Raw::connect(&endpoint, "PUSH").send_together(&messages).unwrap();
        })
        .await;
        eventually("its messages wait", || {
            let status = running.ingest();
            let accepted = status.counters.senders_accepted as usize;
            let is_it = |sender: &&SenderStatus| {
                sender.under_way == SHORT / 2 && sender.bytes_under_way < VALUE
            };
            // One that has gone is not shown.
            let gone = accepted.saturating_sub(status.senders_total);
            let there = status.senders.iter().filter(is_it).count();
            accepted == SENDERS + connection + 1 && there + gone == connection + 1
        })
        .await;
    }
    // Others write more than all the memory, by partition and without.
    let alive: Vec<_> = [("1", "one"), ("2", "two"), ("", "any")]
        .map(|(partition, sender)| send(&running, partition, sender.to_owned(), 2 * MESSAGES))
        .into();
    let count = 6 * MESSAGES;
    eventually("those of the others are written", || {
        running.ingest().counters.acknowledged as usize == count
    })
    .await;
    assert!(count * VALUE > 4 * (512 << 10));
    eventually("the others are still held", || is_held(&running)).await;
    assert_identity(&running.ingest());

    broker.embedded.set_broker_reachable(2, true).unwrap();
    let all = count + SENDERS * MESSAGES + SHORT;
    eventually("all are written", || running.ingest().counters.acknowledged as usize == all).await;
    for sending in dead.into_iter().chain(alive) {
        sending.await.unwrap();
    }
    nothing_left(&running).await;
    running.relay.shutdown(SHUTDOWN).await;
    let found = logged(&broker, 0, SENDERS * MESSAGES + SHORT).await;
    assert_eq!(found.len(), SENDERS + 1);
    for (sender, numbers) in found {
        let count = if sender == "short" { SHORT } else { MESSAGES };
        assert_eq!(numbers, (0..count).collect::<Vec<_>>(), "{sender}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_wait_for_a_dead_partition_stop_no_other_sender() {
    const MESSAGES: usize = 200;
    let broker = broker();
    // Without an id answers come in the order of the messages.
    let config = route_by_partition(InboundKind::Router);
    // One read more may be taken, of which all is written at once.
    let most = config.socket.in_flight_bytes / 4 + (64 << 10) + VALUE + 512;
    let running = Running::start(&broker, config).await;
    let dealer = |running: &Running, partitions: Vec<&'static str>| {
        let dealer = running.connect(zmq::DEALER);
        dealer.set_sndtimeo(2 * PATIENCE.as_millis() as i32).unwrap();
        dealer.set_rcvtimeo(2 * PATIENCE.as_millis() as i32).unwrap();
        tokio::task::spawn_blocking(move || {
            for (number, partition) in partitions.iter().enumerate() {
                dealer.send_multipart(message(partition, "d", number), 0).unwrap();
            }
            let place = |_| {
                let frames = dealer.recv_multipart(0).unwrap();
                assert_eq!(frames[0], b"OK");
                let place = json(&frames[1]);
                (place["partition"].as_i64().unwrap(), place["offset"].as_i64().unwrap())
            };
            partitions.iter().map(place).collect::<Vec<_>>()
        })
    };
    // Its first message keeps the answers of the others back.
    let mut partitions = vec!["1"; MESSAGES];
    partitions[0] = "0";
    let stuck = dealer(&running, partitions);
    let is_held = |running: &Running| {
        let status = running.ingest();
        status.senders_held == 1 && (1..=most).contains(&status.in_flight_bytes)
    };
    eventually("it is held", || is_held(&running)).await;
    let other = dealer(&running, vec!["1"; MESSAGES]);
    let places = other.await.unwrap();
    assert!(places.is_sorted() && places.iter().all(|(partition, _)| *partition == 1));
    eventually("the first is still held", || is_held(&running)).await;
    assert_identity(&running.ingest());
    broker.embedded.set_broker_reachable(2, true).unwrap();
    let places = stuck.await.unwrap();
    assert_eq!(places[0], (0, 0));
    assert!(places[1..].is_sorted() && places[1..].iter().all(|(partition, _)| *partition == 1));
    nothing_left(&running).await;
    running.relay.shutdown(SHUTDOWN).await;
}
