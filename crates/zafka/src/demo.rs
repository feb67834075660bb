//! `zafka demo`: a broker in this process, a stream of orders, the relay, and what a subscriber
//! receives; among it what others send to the relay.

mod orders;

use std::io::{self, Write};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use zafka_bridge::config::RouteConfig;
use zafka_bridge::zmq_to_kafka::IngestConfig;
use zafka_bridge::{Relay, Route, StartError};
use zafka_envelope::Preset;
use zafka_kafka::Cluster;
use zafka_kafka::config::{ClusterConfig, GroupConfig, SourceConfig, Start, TopicSelector};
use zafka_kafka::embedded::{EmbeddedBroker, EmbeddedProducer, EmbeddedRecord};
use zafka_sockets::config::PubConfig;
use zafka_sockets::{Endpoint, SubEvent, SubSocket};

use crate::cli::{CommandError, DemoArgs, output_error};
use crate::config::{ConfigError, Defaults};
use crate::relay_url;
use crate::tap::{Layout, Viewer};
use orders::Order;

/// The topic of what others send.
const EDGE: &str = "edge";
/// The port for it, beside that of the subscribers.
const ACCEPT: &str = "tcp://127.0.0.1:5557";
const ANY_PORT: &str = "tcp://127.0.0.1:*";
/// Partitions of each topic.
const PARTITIONS: i32 = 2;
/// Time between two orders.
const ORDER_INTERVAL: Duration = Duration::from_millis(250);
/// Orders that are there before the relay starts.
const HISTORY: u64 = 8;
/// Time that the relay has to end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs the demo until `count` messages were shown or `stop` is done.
pub async fn run(args: DemoArgs, stop: impl Future<Output = ()>) -> Result<(), CommandError> {
    let broker = EmbeddedBroker::start()?;
    broker.create_topic(orders::TOPIC, PARTITIONS)?;
    broker.create_topic(EDGE, PARTITIONS)?;
    let routes = [Route::from(route(&args.bind)?), Route::from(way_back(&args, &broker)?)];
    let cluster = Cluster::new(&ClusterConfig::new(vec![broker.bootstrap()]))?;
    let relay = Relay::start(&cluster, routes).await.map_err(|error| match error {
        StartError::Bind { .. } => {
            format!("{error}\nTry another: zafka demo --bind {ANY_PORT}")
        }
        StartError::Kafka { .. } | StartError::NoNames { .. } | StartError::Exists { .. } => {
            error.to_string()
        }
    })?;
    let (endpoint, accepts) = bound(&relay)?;
    let text = introduction(&broker, &endpoint, &accepts);
    writeln!(io::stdout(), "{text}").map_err(output_error)?;

    let producer = broker.producer()?;
    let result = show(&producer, &endpoint, args.count, stop).await;
    relay.shutdown(SHUTDOWN_TIMEOUT).await;
    result
}

/// Writes orders and shows what comes back over ZeroMQ.
async fn show(
    producer: &EmbeddedProducer,
    endpoint: &Endpoint,
    count: Option<u64>,
    stop: impl Future<Output = ()>,
) -> Result<(), CommandError> {
    let prefixes = [orders::TOPIC, EDGE].map(|topic| topic.as_bytes().to_vec()).to_vec();
    let mut viewer = Viewer::new(Layout::Preset(Preset::Json), count, &prefixes).readable();
    let mut socket = SubSocket::new(endpoint.clone(), prefixes);
    let mut clock = interval(ORDER_INTERVAL);
    clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut written = 0;
    tokio::pin!(stop);
    while !viewer.is_done() {
        tokio::select! {
            biased;
            () = &mut stop => break,
            event = socket.next() => match event {
                SubEvent::Message(frames) => viewer.show(frames)?,
                SubEvent::Connected => {}
                SubEvent::Disconnected(reason) => viewer.note(&format!("{endpoint}: {reason}")),
            },
            _ = clock.tick() => {
                let upto = (written + 1).max(HISTORY);
                for number in written..upto {
                    write(producer, &orders::order(number))?;
                }
                written = upto;
            }
        }
    }
    viewer.finish();
    Ok(())
}

fn write(producer: &EmbeddedProducer, order: &Order) -> Result<(), CommandError> {
    let (name, value) = &order.header;
    Ok(producer.send(&EmbeddedRecord {
        topic: orders::TOPIC,
        key: Some(order.key.as_bytes()),
        value: Some(order.value.as_bytes()),
        headers: &[(name, Some(value.as_bytes()))],
        ..EmbeddedRecord::default()
    })?)
}

/// A route from the topics of the demo; what is not said here is as the manual has it.
fn route(bind: &Endpoint) -> Result<RouteConfig, ConfigError> {
    let defaults = Defaults::read()?.route;
    let name = "demo".to_owned();
    let source = SourceConfig {
        route: name.clone(),
        topics: [orders::TOPIC, EDGE].map(|topic| TopicSelector::Name(topic.to_owned())).into(),
        group: Some(GroupConfig::new("zafka-demo")),
        start: Start::Earliest,
        revoke_timeout: Duration::from_secs(1),
        topic_refresh: Duration::from_secs(5),
        ..defaults.source
    };
    let socket = PubConfig { bind: vec![bind.clone().into()], min_peers: 1, ..defaults.socket };
    Ok(RouteConfig { name, source, socket, ..defaults })
}

/// The route for messages of other programs, as `zafka relay` has it with these URLs.
fn way_back(args: &DemoArgs, broker: &EmbeddedBroker) -> Result<IngestConfig, CommandError> {
    // Another demo may run on the usual ports if the user names one.
    let usual = args.bind.to_string() == crate::cli::DEMO_BIND;
    let accept = match &args.accept {
        Some(accept) => accept.clone(),
        None => (if usual { ACCEPT } else { ANY_PORT }).parse()?,
    };
    let source = format!("router+{ANY_PORT}?frames={{key}}&frames={{value}}");
    let destination = format!("kafka://{}/{EDGE}", broker.bootstrap());
    let config: Result<_, ConfigError> = relay_url::relay(&source, &destination, None);
    let mut route = config?.ingest.pop().ok_or("there is no route")?;
    route.name = "demo-accept".to_owned();
    route.producer.route.clone_from(&route.name);
    route.socket.bind = vec![accept.into()];
    Ok(route)
}

/// The endpoints that the relay is bound to, as a client on this machine connects to them: for
/// subscribers, and for senders.
fn bound(relay: &Relay) -> Result<(Endpoint, Endpoint), CommandError> {
    let status = relay.status_handle().status();
    let routes = status.routes.first().and_then(|route| route.endpoints.first());
    let ingest = status.ingest.first().and_then(|route| route.endpoints.first());
    let local = |endpoint: Option<&String>| -> Result<Endpoint, CommandError> {
        let endpoint = endpoint.ok_or("the relay is not bound")?;
        Ok(endpoint.replace("//0.0.0.0:", "//127.0.0.1:").parse()?)
    };
    Ok((local(routes)?, local(ingest)?))
}

fn introduction(broker: &EmbeddedBroker, endpoint: &Endpoint, accepts: &Endpoint) -> String {
    let topic = orders::TOPIC;
    let bootstrap = broker.bootstrap();
    format!(
        r#"Kafka (embedded)  {bootstrap}  topic "{topic}", {PARTITIONS} partitions
        |  zafka
ZeroMQ PUB        {endpoint}
ZeroMQ ROUTER     {accepts}  writes to topic "{EDGE}", and says where

Subscribe from Python:

    import zmq
    socket = zmq.Context().socket(zmq.SUB)
    socket.connect("{endpoint}")
    socket.subscribe("{topic}")
    while True:
        print(socket.recv_multipart())   # topic, meta, key, value

Send from Python; the answer says where the message is, and it shows below:

    import zmq
    socket = zmq.Context().socket(zmq.REQ)
    socket.connect("{accepts}")
    socket.send_multipart([b"customer-7", b"hello"])   # key, value
    print(socket.recv_multipart())   # OK, {{"topic":"{EDGE}","partition":0,"offset":0,...}}

What a subscriber receives (topic[partition] @offset key  value  headers), Ctrl-C ends it:
"#
    )
}
