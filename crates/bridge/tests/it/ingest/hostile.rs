//! Senders that do what they should not. Each limit has its count, and no other peer notices.

use zafka_sockets::InboundKind;

use super::raw::Raw;
use super::{Running, assert_identity, blocking, ingest, json};
use crate::support::{Broker, SHUTDOWN, eventually};

fn closed(running: &Running, reason: &str) -> u64 {
    let closed = running.ingest().counters.senders_closed;
    closed.iter().find(|(found, _)| found == reason).map_or(0, |(_, count)| *count)
}

/// A sender that is as it should be still gets its answers.
async fn assert_served(running: &Running) {
    let dealer = running.connect(zmq::DEALER);
    blocking(move || {
        dealer.send_multipart([&b"kiln"[..], b"fine"], 0).unwrap();
        assert_eq!(dealer.recv_multipart(0).unwrap()[0], b"OK");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_odd_sizes_and_frames() {
    let broker = Broker::start(&[("edge.kiln", 1)]);
    let mut config = ingest(InboundKind::Router, &["{topic}", "{value}"]);
    config.socket.max_message = 1 << 20;
    let running = Running::start(&broker, config).await;
    let dealer = running.connect(zmq::DEALER);
    let codes = blocking(move || {
        let large = vec![0; 10 << 20];
        let many = vec![&b""[..]; 4_096];
        let messages: [&[&[u8]]; 6] =
            [&[b""], &[b"", b""], &[b"kiln", &large], &many, &[b"kiln", b""], &[b"kiln", b"v"]];
        for message in messages {
            dealer.send_multipart(message, 0).unwrap();
        }
        let told = |_| {
            let frames = dealer.recv_multipart(0).unwrap();
            let body = json(frames.last().unwrap());
            body["code"].as_str().unwrap_or("OK").to_owned()
        };
        (0..messages.len()).map(told).collect::<Vec<_>>()
    })
    .await;
    assert_eq!(codes, ["bad_message", "not_allowed", "too_large", "bad_message", "OK", "OK"]);
    assert_eq!(running.ingest().counters.senders_accepted, 1);
    let dealer = running.connect(zmq::DEALER);
    // It stays, for what it has not sent would go with it.
    let _dealer = blocking(move || {
        dealer.send_multipart(vec![&b""[..]; 4_097], 0).unwrap();
        dealer
    })
    .await;
    eventually("it is closed", || closed(&running, "frame_limit") > 0).await;
    assert_served(&running).await;
    assert_identity(&running.ingest());
    running.relay.shutdown(SHUTDOWN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_req_without_its_empty_frame() {
    let broker = Broker::start(&[("edge.kiln", 1)]);
    let running =
        Running::start(&broker, ingest(InboundKind::Router, &["{topic}", "{value}"])).await;
    let mut raw = Raw::connect(&running.endpoint(), "REQ");
    let (refused, taken) = blocking(move || {
        raw.send(&[b"kiln", b"v"]).unwrap();
        let refused = raw.receive();
        raw.send(&[b"", b"kiln", b"v"]).unwrap();
        (refused, raw.receive())
    })
    .await;
    assert_eq!((&refused[0][..], refused.len()), (&b"ERROR"[..], 2));
    assert_eq!(json(&refused[1])["code"], "bad_message");
    assert_eq!((&taken[0][..], &taken[1][..]), (&b""[..], &b"OK"[..]));
    running.relay.shutdown(SHUTDOWN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dealer_that_never_reads_is_cut_off() {
    let broker = Broker::start(&[("edge.kiln", 1)]);
    let running =
        Running::start(&broker, ingest(InboundKind::Router, &["{topic}", "{value}"])).await;
    let mut raw = Raw::connect(&running.endpoint(), "DEALER");
    // Until it is closed, which ends the writing.
    let flood = blocking(move || while raw.send(&[b"KILN", b"not allowed"]).is_ok() {});
    flood.await;
    eventually("it is closed", || closed(&running, "output_overflow") == 1).await;
    assert_served(&running).await;
    eventually("all is settled", || running.ingest().in_flight == 0).await;
    assert_identity(&running.ingest());
    running.relay.shutdown(SHUTDOWN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_senders_that_do_not_stay() {
    const SENDERS: u64 = 10_000;
    let broker = Broker::start(&[("edge.kiln", 1)]);
    let running = Running::start(&broker, ingest(InboundKind::Pull, &["{topic}", "{value}"])).await;
    let endpoint = running.endpoint();
    blocking(move || {
        for number in 0..SENDERS {
            let mut raw = Raw::connect(&endpoint, "PUSH");
            raw.send(&[b"kiln", number.to_string().as_bytes()]).unwrap();
        }
    })
    .await;
    eventually("all is written", || running.ingest().counters.acknowledged == SENDERS).await;
    eventually("none is left", || running.ingest().senders_total == 0).await;
    let status = running.ingest();
    assert_eq!((status.counters.senders_accepted, status.in_flight_bytes), (SENDERS, 0));
    assert_identity(&status);
    running.relay.shutdown(SHUTDOWN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_words_that_are_the_relays_own() {
    let broker = Broker::start(&[("edge.kiln", 1)]);
    let mut config = ingest(InboundKind::Pull, &["{topic}", "{header.zafka.route}", "{value}"]);
    config.on_error = zafka_bridge::zmq_to_kafka::OnError::Stop;
    let running = Running::start(&broker, config).await;
    let push = running.connect(zmq::PUSH);
    blocking(move || {
        push.set_linger(-1).unwrap();
        // A command to a socket without answers is left out, and stops nothing.
        push.send_multipart([&b"ZAFKA/1"[..], b"ENROL", b"{\"token\":\"secret\"}"], 0).unwrap();
        push.send_multipart([&b"kiln"[..], b"mine", b"v"], 0).unwrap();
    })
    .await;
    eventually("it stops", || running.ingest().stopped).await;
    let status = running.ingest();
    assert!(status.reason.as_ref().unwrap().contains("zafka.route"), "{status:?}");
    assert_eq!((status.counters.received, status.counters.skipped), (2, 2));
    assert_identity(&status);
    running.relay.shutdown(SHUTDOWN).await;
}
