//! A cluster that several routes share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use zafka_kafka::Cluster;
use zafka_kafka::config::{FetcherKind, Start};
use zafka_kafka::produce::{
    Compression, News, OutboundRecord, Producer, ProducerConfig, ProducerKind,
};

use crate::route::{Route, broker, cluster, config, write};

const METADATA: i16 = 3;

/// Metadata requests through a proxy, without librdkafka's requests.
#[derive(Default)]
struct Asked {
    connections: AtomicUsize,
    requests: AtomicUsize,
}

/// Passes requests on, and counts.
async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, asked: Arc<Asked>) {
    let (mut is_ours, mut has_asked) = (None, false);
    while let Ok(size) = from.read_u32().await {
        let mut frame = vec![0; size as usize];
        if from.read_exact(&mut frame).await.is_err() {
            return;
        }
        // The first request, ApiVersions, names the software.
        let by_librdkafka = || frame.windows(10).any(|part| part == b"librdkafka");
        let is_ours = *is_ours.get_or_insert_with(|| !by_librdkafka());
        if is_ours && i16::from_be_bytes([frame[0], frame[1]]) == METADATA {
            asked.requests.fetch_add(1, Ordering::Relaxed);
            if !std::mem::replace(&mut has_asked, true) {
                asked.connections.fetch_add(1, Ordering::Relaxed);
            }
        }
        if to.write_u32(size).await.is_err() || to.write_all(&frame).await.is_err() {
            return;
        }
    }
}

/// The address of a proxy for a broker.
async fn counting(broker: String) -> (String, Arc<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(Asked::default());
    let counted = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(&broker).await else { continue };
            let (client_in, mut client_out) = client.into_split();
            let (mut server_in, server_out) = server.into_split();
            tokio::spawn(requests(client_in, server_out, Arc::clone(&counted)));
            tokio::spawn(async move { copy(&mut server_in, &mut client_out).await });
        }
    });
    (address, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_of_both_directions_ask_for_metadata_over_one_connection() {
    let (broker, producer) = broker(&[("a", 1), ("b", 1), ("c", 1)]);
    let (address, asked) = counting(broker.bootstrap()).await;
    let cluster = Cluster::new(&cluster(&address)).unwrap();
    let mut routes = Vec::new();
    for topic in ["a", "b"] {
        write(&producer, topic, 0, 0..3);
        let config = config(FetcherKind::Fast, &[topic], None, Start::Earliest);
        routes.push(Route::of(&cluster, config));
    }
    let config = ProducerConfig {
        route: "writes".to_owned(),
        compression: Compression::None,
        linger: std::time::Duration::ZERO,
        batch_bytes: 1_000_000,
        delivery_timeout: None,
        producer: ProducerKind::Fast,
    };
    let mut writing = Producer::start(&cluster, &config).unwrap();
    let record = OutboundRecord {
        topic: "c",
        partition: None,
        timestamp: 0,
        key: None,
        value: Some(b"v"),
        headers: &[],
    };
    writing.send(1, &record).unwrap();
    writing.flush();
    let delivery = loop {
        if let News::Deliveries(mut deliveries) = writing.next().await {
            break deliveries.next().unwrap();
        }
    };
    assert_eq!(delivery.outcome.unwrap().offset, Some(0));
    for route in &mut routes {
        route.until("3 records", |route| route.records.len() == 3).await;
    }
    assert!(asked.requests.load(Ordering::Relaxed) >= 2, "each route wants other topics");
    assert_eq!(asked.connections.load(Ordering::Relaxed), 1);
    writing.close().await;
    for route in routes {
        route.close().await;
    }
}
