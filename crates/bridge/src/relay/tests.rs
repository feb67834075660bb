use tokio::net::TcpStream;
use zafka_envelope::{FramePlan, Preset};
use zafka_kafka::config::{
    FetcherKind, Isolation, OnCorrupt, OnOutOfRange, Security, SourceConfig, Start, TopicSelector,
};
use zafka_sockets::config::{Limits, PubConfig, SlowPeer};

use super::*;

/// Of a route that reads from a broker which is not there.
fn route() -> RouteConfig {
    RouteConfig {
        name: "test".to_owned(),
        source: SourceConfig {
            route: "test".to_owned(),
            topics: vec![TopicSelector::Name("orders".to_owned())],
            group: None,
            start: Start::Latest,
            isolation: Isolation::ReadCommitted,
            on_out_of_range: OnOutOfRange::Earliest,
            on_corrupt: OnCorrupt::Stop,
            revoke_timeout: Duration::from_secs(5),
            topic_refresh: Duration::from_secs(30),
            fetcher: FetcherKind::Fast,
            stall_timeout: Duration::from_secs(30),
        },
        frames: FramePlan::preset(Preset::Json),
        rename: Vec::new(),
        socket: PubConfig {
            bind: vec!["tcp://127.0.0.1:*".parse().unwrap()],
            ipc_mode: None,
            connect: Vec::new(),
            slow_peer: SlowPeer::Block,
            min_peers: 0,
            ring_bytes: 4 * 1024 * 1024,
            peer_timeout: None,
            heartbeat: None,
            limits: Limits::default(),
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_whose_task_broke_off_says_so_and_closes_its_socket() {
    let cluster = ClusterConfig {
        bootstrap_servers: vec!["127.0.0.1:1".to_owned()],
        security: Security::default(),
        client_rack: None,
    };
    let mut relay = Relay::start(&cluster, vec![route()]).await.unwrap();
    let endpoint = relay.status_handle().status().routes[0].endpoints[0].clone();
    let address = endpoint.trim_start_matches("tcp://");
    TcpStream::connect(address).await.unwrap();
    relay.tasks.abort_all();
    let stopped = relay.stopped().await;
    assert!(stopped[0].reason.starts_with("internal error: "), "{stopped:?}");
    assert!(TcpStream::connect(address).await.is_err(), "nobody speaks there any more");
}
