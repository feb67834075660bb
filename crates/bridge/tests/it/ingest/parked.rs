//! Messages that wait for a partition that cannot be written: what they keep, and who goes before
//! whom.

use zafka_bridge::status::{SenderStatus, WaitStatus};
use zafka_envelope::Preset;

use super::raw::Raw;
use super::shares::{VALUE, broker, logged, message, route_by_partition, send};
use super::*;

fn is_for_dead(wait: &WaitStatus) -> bool {
    wait.partition.as_deref() == Some("edge.kiln/0")
}

async fn acknowledged(running: &Running, count: usize) {
    eventually("all are acknowledged", || running.ingest().counters.acknowledged as usize == count)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_more_may_be_set_aside_keeps_its_memory_and_goes_on() {
    const SENDERS: usize = 8;
    const MESSAGES: usize = 50;
    let broker = broker();
    let mut config = route_by_partition(InboundKind::Pull);
    // Less than what is read of the senders before they are held.
    config.socket.peer_memory = 96 << 10;
    // Of the partition alone, if all others were set aside.
    let most = config.socket.in_flight_bytes / 4 + VALUE + 512;
    let running = Running::start(&broker, config).await;
    let sending: Vec<_> =
        (0..SENDERS).map(|sender| send(&running, "0", format!("s{sender}"), MESSAGES)).collect();
    eventually("some keep their memory", || {
        let status = running.ingest();
        status.senders_held == SENDERS && status.in_flight_bytes > most
    })
    .await;
    assert_identity(&running.ingest());
    broker.embedded.set_broker_reachable(2, true).unwrap();
    acknowledged(&running, SENDERS * MESSAGES).await;
    for sending in sending {
        sending.await.unwrap();
    }
    nothing_left(&running).await;
    running.relay.shutdown(SHUTDOWN).await;
    let found = logged(&broker, 0, SENDERS * MESSAGES).await;
    assert_eq!(found.len(), SENDERS);
    for (sender, numbers) in found {
        assert_eq!(numbers, (0..MESSAGES).collect::<Vec<_>>(), "{sender}");
    }
}

/// A record as the `batch` envelope has it (docs/envelope.md), for a partition.
fn packed(partition: &str, size: usize) -> Vec<u8> {
    let mut body = vec![1, 0, 0, 0];
    body.extend_from_slice(&0_i32.to_le_bytes());
    // The offset, the timestamp and the one before: a sender has none.
    for number in [0_i64, -1, -1] {
        body.extend_from_slice(&number.to_le_bytes());
    }
    body.extend_from_slice(&(-1_i32).to_le_bytes());
    body.extend_from_slice(&1_u32.to_le_bytes());
    let value = vec![b'v'; size];
    for field in [&b"partition"[..], partition.as_bytes(), b"", &value] {
        body.extend_from_slice(&u32::try_from(field.len()).unwrap().to_le_bytes());
        body.extend_from_slice(field);
    }
    [u32::try_from(body.len()).unwrap().to_le_bytes().to_vec(), body].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_which_a_part_is_stuck_stop_no_other_ones() {
    const RECORDS: usize = 10;
    const BATCHES: usize = 200;
    let broker = broker();
    let mut config = route_by_partition(InboundKind::Pull);
    config.frames = InboundPlan::preset(Preset::Batch);
    let memory = config.socket.in_flight_bytes;
    let running = Running::start(&broker, config).await;
    // One record of each batch is for `first`, the others for partition 1.
    let batches = |first: &'static str| {
        let push = running.connect(zmq::PUSH);
        push.set_sndhwm(5).unwrap();
        push.set_sndbuf(32 << 10).unwrap();
        push.set_sndtimeo(2 * PATIENCE.as_millis() as i32).unwrap();
        let mut records = packed(first, VALUE / RECORDS);
        (1..RECORDS).for_each(|_| records.extend_from_slice(&packed("1", VALUE / RECORDS)));
        tokio::task::spawn_blocking(move || {
            for _ in 0..BATCHES {
                push.send_multipart([&b"kiln"[..], &records], 0).unwrap();
            }
            push
        })
    };
    let stuck = batches("0");
    let is_held = || {
        let status = running.ingest();
        status.senders_held == 1 && status.waiting.iter().any(is_for_dead)
    };
    eventually("it is held", is_held).await;
    // What was written of its batches counts where the rest waits.
    eventually("others have most of the memory", || running.ingest().in_flight_bytes < memory / 2)
        .await;
    let (one, other) = (batches("2"), batches("1"));
    acknowledged(&running, 2 * BATCHES).await;
    eventually("the first is still held", is_held).await;
    assert_identity(&running.ingest());
    broker.embedded.set_broker_reachable(2, true).unwrap();
    acknowledged(&running, 3 * BATCHES).await;
    for sending in [stuck, one, other] {
        sending.await.unwrap();
    }
    nothing_left(&running).await;
    running.relay.shutdown(SHUTDOWN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_names_itself_keeps_its_order_when_it_comes_again() {
    const FILLING: usize = 100;
    let broker = broker();
    let running = Running::start(&broker, route_by_partition(InboundKind::Router)).await;
    let filler = running.connect(zmq::DEALER);
    let filling = tokio::task::spawn_blocking(move || {
        for number in 0..FILLING {
            filler.send_multipart(message("0", "filler", number), 0).unwrap();
        }
        filler
    });
    let held = |count: usize| {
        let running = &running;
        move || {
            let status = running.ingest();
            status.senders_held == count && status.waiting.iter().any(is_for_dead)
        }
    };
    eventually("the partition has its part", held(1)).await;
    let send = |id: &'static [u8], sender: &'static str, numbers: &'static [(usize, &str)]| {
        let endpoint = running.endpoint();
        blocking(move || {
            let mut raw = Raw::connect_as(&endpoint, "DEALER", id);
            let texts: Vec<_> = numbers.iter().map(|(number, _)| number.to_string()).collect();
            let messages: Vec<_> = (numbers.iter().zip(&texts))
                .map(|((_, partition), text)| {
                    [&b"kiln"[..], partition.as_bytes(), sender.as_bytes(), text.as_bytes()]
                })
                .collect();
            let messages: Vec<_> = messages.iter().map(|frames| &frames[..]).collect();
            raw.send_together(&messages).unwrap();
            raw
        })
    };
    let of = |count: usize| {
        let senders = running.ingest().senders;
        let is_one =
            |sender: &&SenderStatus| sender.under_way == count && sender.held_since.is_some();
        senders.iter().filter(is_one).count()
    };
    // What is behind its first message may be written, and waits.
    let first = send(b"named", "named", &[(0, "0"), (1, "1"), (2, "1")]).await;
    eventually("its messages wait", || held(2)() && of(3) == 1).await;
    // It is kept for its answers, which nobody takes.
    drop(first);
    let _again = send(b"named", "named", &[(3, "1"), (4, "1")]).await;
    eventually("the others of it wait too", || of(2) == 1).await;
    // One of another name does not wait for it.
    let mut other = send(b"other", "other", &[(0, "1")]).await;
    let answer = blocking(move || other.receive()).await;
    assert_eq!(answer[0], b"OK");
    assert_eq!(of(2), 1);
    broker.embedded.set_broker_reachable(2, true).unwrap();
    acknowledged(&running, FILLING + 6).await;
    filling.await.unwrap();
    nothing_left(&running).await;
    running.relay.shutdown(SHUTDOWN).await;
    let found = logged(&broker, 1, 5).await;
    assert_eq!(found["other"], [0]);
    assert_eq!(found["named"], [1, 2, 3, 4]);
}
