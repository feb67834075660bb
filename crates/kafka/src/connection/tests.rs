mod certificates;
pub(crate) mod fake;
mod peer;
mod sasl;
mod tls;

use std::time::{Duration, Instant};

use kafka_protocol::messages::{ApiKey, MetadataRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::TcpListener;

use super::frames::{FrameError, Frames};
use super::tls::host;
use super::*;
use crate::config::{ClusterConfig, Security};
use crate::embedded::EmbeddedBroker;
use crate::security::Bearer;

fn plain() -> ClusterConfig {
    ClusterConfig::new(Vec::new())
}

pub(crate) fn connector() -> Arc<Connector> {
    Connector::new(&plain(), None).unwrap()
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

#[tokio::test]
async fn a_frame_comes_in_any_pieces_and_waiting_for_it_can_be_given_up() {
    let (mut there, mut here) = duplex(64);
    let mut frames = Frames::default();
    let body: Vec<u8> = (0..200).collect();
    let sent = framed(&body);
    for (piece, is_last) in
        [(&sent[..3], false), (&sent[3..50], false), (&sent[50..60], false), (&sent[60..], true)]
    {
        let writing = piece.to_vec();
        let writer = tokio::spawn(async move {
            there.write_all(&writing).await.unwrap();
            there
        });
        let got = timeout(Duration::from_millis(50), frames.frame(&mut here, 1000)).await;
        there = writer.await.unwrap();
        match got {
            Ok(frame) => assert!(is_last && frame.unwrap() == body),
            Err(_) => assert!(!is_last),
        }
    }
}

#[tokio::test]
async fn frames_that_cannot_be() {
    for (sent, told) in [
        (vec![0xff; 4], "an answer of -1 bytes"),
        (framed(&[0; 11]), "an answer of 11 bytes, where at most 10 are taken"),
        (vec![0, 0, 0, 9, 1, 2], "the connection was closed"),
        ([framed(b"a"), vec![0]].concat(), "an answer of 1 bytes with 2 in it"),
        (vec![0, 0], "the connection was closed"),
        (vec![], "the connection was closed"),
    ] {
        let error: FrameError = Frames::default().frame(&mut &*sent, 10).await.unwrap_err();
        assert_eq!(error.to_string(), told);
    }
}

#[tokio::test]
async fn a_size_alone_takes_little_memory() {
    let mut frames = Frames::default();
    assert_eq!(
        frames.size(&mut &[0x1f, 0xff, 0xff, 0xff][..], usize::MAX).await.unwrap(),
        0x1fff_ffff
    );
    assert!(frames.memory() <= 16 << 10, "{}", frames.memory());
}

#[tokio::test]
async fn a_buffer_is_used_again_once_nobody_holds_it() {
    let sent: Vec<u8> = (0..4).flat_map(|_| framed(&[7; 50_000])).collect();
    let mut stream = &*sent;
    let mut frames = Frames::default();
    let first = frames.frame(&mut stream, 90_000).await.unwrap();
    let held = first.as_ptr();
    let second = frames.frame(&mut stream, 90_000).await.unwrap();
    assert_ne!(second.as_ptr(), held);
    drop(first);
    let third = frames.frame(&mut stream, 90_000).await.unwrap();
    assert_eq!((third.as_ptr(), third.len()), (held, 50_000));
    assert_eq!(second, third);
}

#[tokio::test]
async fn an_answer_to_another_request_is_not_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let size = stream.read_u32().await.unwrap();
        let mut request = vec![0; size as usize];
        stream.read_exact(&mut request).await.unwrap();
        stream.write_all(&framed(&[0, 0, 0, 9, 0, 0, 0, 0, 0, 0])).await.unwrap();
    });
    let error = connector().connect(&address).await.err().unwrap();
    assert_eq!(error.to_string(), format!("{address}: an answer to request 9 instead of 1"));
}

/// The embedded broker does not know version 3 of ApiVersions, and says so in version 0.
#[tokio::test]
async fn versions_are_agreed_upon() {
    let broker = EmbeddedBroker::start().unwrap();
    broker.create_topic("t", 1).unwrap();
    let mut connection = connector().connect(&broker.bootstrap()).await.unwrap();
    assert_eq!(connection.version(ApiKey::Metadata, 0..=2), Some(2));
    assert_eq!(connection.version(ApiKey::Metadata, 100..=101), None);
    assert_eq!(connection.version(ApiKey::DescribeQuorum, 0..=2), None);
    let version = connection.version(ApiKey::Metadata, 9..=13).unwrap();
    let metadata =
        connection.call(&MetadataRequest::default().with_topics(None), version).await.unwrap();
    assert_eq!(metadata.topics.len(), 1);
    connection.renew().await.unwrap();
}

/// Behind a proxy near by, who takes connections at once.
#[tokio::test]
async fn a_broker_that_answers_late_counts_as_far_away() {
    let address = fake::broker(|asked| {
        std::thread::sleep(2 * FAR);
        asked.answer::<ApiVersionsRequest>(&fake::api_versions())
    })
    .await;
    let connection = connector().connect(&address).await.unwrap();
    assert!(connection.round_trip() >= 2 * FAR, "{:?}", connection.round_trip());
}

#[test]
fn hosts_are_taken_out_of_addresses() {
    for (address, expected) in [
        ("kafka.example:9093", "kafka.example"),
        ("kafka.example.:9093", "kafka.example"),
        ("[::1]:9093", "::1"),
        ("10.0.0.1:1", "10.0.0.1"),
    ] {
        assert_eq!(host(address), expected);
    }
}
