use tokio::net::TcpStream;
use tokio::time::timeout;
use zafka_envelope::{FramePlan, Preset};
use zafka_kafka::config::{ClusterConfig, SourceConfig, TopicSelector};
use zafka_sockets::config::{PubConfig, SlowPeer};

use super::*;

/// A route that reads from a broker which is not there.
fn route() -> RouteConfig {
    RouteConfig {
        name: "test".to_owned(),
        source: SourceConfig::new("test", vec![TopicSelector::Name("orders".to_owned())]),
        frames: FramePlan::preset(Preset::Json),
        rename: Vec::new(),
        socket: PubConfig {
            bind: vec!["tcp://127.0.0.1:*".parse().unwrap()],
            slow_peer: SlowPeer::Block,
            ring_bytes: 4 * 1024 * 1024,
            peer_timeout: None,
            ..PubConfig::default()
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_whose_task_broke_off_says_so_and_closes_its_socket() {
    let cluster = Cluster::new(&ClusterConfig::new(vec!["127.0.0.1:1".to_owned()]));
    let cluster = cluster.unwrap();
    let mut relay = Relay::start(&cluster, vec![route()]).await.unwrap();
    let endpoint = relay.status_handle().status().routes[0].endpoints[0].clone();
    let address = endpoint.trim_start_matches("tcp://");
    TcpStream::connect(address).await.unwrap();
    relay.tasks.abort_all();
    let stopped = relay.stopped().await;
    assert!(stopped[0].reason.starts_with("internal error: "), "{stopped:?}");
    // Its tasks end when they are next looked at.
    let closed = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(60), closed).await.expect("nobody speaks there any more");
}
