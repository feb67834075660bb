use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use zafka_bridge::status::{
    IngestCounters, IngestStatus, PartitionStatus, PeerStatus, RelayReadiness, RouteCounters,
    RouteReadiness, RouteStatus, WaitStatus,
};

use super::*;
use crate::identity::{IntrospectionStatus, IssuerStatus, KafkaStatus};

/// The wait below in `/readyz`.
const WAITING: &str = concat!(
    r#""waiting":[{"route":"a \"quoted\"\\\nname","partition":"orders/3","kind":"subscribers","#,
    r#""reason":"1 of 2 subscribers (min_peers)","since":5000}]"#
);

fn status(ready: bool) -> RelayStatus {
    let route = RouteStatus {
        name: "a \"quoted\"\\\nname".to_owned(),
        ready,
        reason: (!ready).then(|| "no broker is reachable".to_owned()),
        counters: RouteCounters {
            records_read: 7,
            peers_closed: vec![("handshake timeout".to_owned(), 2)],
            ..RouteCounters::default()
        },
        partitions: vec![PartitionStatus {
            topic: "orders".to_owned(),
            partition: 3,
            read: 12,
            delivered: 10,
            committed: None,
            lag: Some(5),
            high_watermark: Some(21),
            last_stable_offset: Some(15),
            open_transaction: Some(15),
        }],
        waiting: vec![WaitStatus {
            partition: Some("orders/3".to_owned()),
            kind: "subscribers",
            reason: "1 of 2 subscribers (min_peers)".to_owned(),
            peer: None,
            since: 5000,
        }],
        peers_total: 3,
        ..RouteStatus::default()
    };
    RelayStatus {
        routes: vec![route],
        ingest: vec![IngestStatus {
            name: "in".to_owned(),
            ready: true,
            ..IngestStatus::default()
        }],
    }
}

/// A relay that is ready or not.
struct Told(bool);

impl Source for Told {
    fn readiness(&self) -> RelayReadiness {
        let of_route = |route: RouteStatus| RouteReadiness {
            name: route.name,
            reason: route.reason,
            waiting: route.waiting,
            ..RouteReadiness::default()
        };
        RelayReadiness { routes: status(self.0).routes.into_iter().map(of_route).collect() }
    }

    fn counters(&self) -> RelayStatus {
        status(self.0)
    }

    fn status(&self) -> RelayStatus {
        let mut status = status(self.0);
        status.routes[0].peers = vec![PeerStatus { bytes_queued: 9, ..PeerStatus::default() }];
        status
    }
}

/// Starts a server on a free port.
async fn start(source: impl Source + 'static) -> Admin {
    let config = AdminConfig::at("127.0.0.1:0".parse().unwrap());
    Bound::new(config).await.unwrap().serve(Arc::new(source))
}

/// The same router by itself.
fn router_of(source: impl Source + 'static) -> Router {
    router(Arc::new(source), Hosts::new(std::net::Ipv4Addr::LOCALHOST.into(), Vec::new()))
}

fn text(status: &RelayStatus, now: SystemTime) -> String {
    let process = ProcessCounters { log_lines_dropped: 3, panics: 0 };
    metrics::text(status, None, process, Duration::from_millis(1500), now).unwrap()
}

async fn request(method: &str, path: &str, ready: bool) -> (u16, String, String) {
    ask(&start(Told(ready)).await, method, path).await
}

/// Code, head in lower case, and body.
async fn ask(admin: &Admin, method: &str, path: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(admin.address()).await.unwrap();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, head.to_lowercase(), body.to_owned())
}

#[tokio::test]
async fn answers_by_path_and_method() {
    for (method, path, ready, code, part) in [
        ("GET", "/healthz", false, 200, "ok"),
        ("GET", "/readyz", true, 200, "\"ready\":true"),
        ("GET", "/readyz", false, 503, "no broker is reachable"),
        ("GET", "/readyz", true, 200, WAITING),
        ("GET", "/readyz", false, 503, WAITING),
        ("GET", "/status", true, 200, "\"uptime_seconds\":0"),
        ("GET", "/status", true, 200, "\"records_read\":7"),
        ("GET", "/status", true, 200, "\"bytes_queued\":9"),
        ("GET", "/metrics", true, 200, "zafka_build_info{version="),
        ("POST", "/healthz", true, 405, ""),
        ("GET", "/", true, 404, ""),
    ] {
        let (found, _, body) = request(method, path, ready).await;
        assert_eq!(found, code, "{method} {path}");
        assert!(body.contains(part), "{method} {path}: {body}");
    }
}

#[tokio::test]
async fn status_is_json() {
    let (_, head, body) = request("GET", "/status", true).await;
    assert!(head.contains("content-type: application/json"), "{head}");
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(json["version"], VERSION);
    assert_eq!(json["routes"][0]["partitions"][0]["lag"], 5);
}

#[tokio::test]
async fn metrics_escape_their_labels() {
    let (_, head, body) = request("GET", "/metrics", true).await;
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    for line in [
        r#"zafka_records_read_total{route="a \"quoted\"\\\nname"} 7"#,
        r#"zafka_peers_closed_total{reason="handshake timeout",route="a \"quoted\"\\\nname"} 2"#,
        r#"zafka_partition_lag{partition="3",route="a \"quoted\"\\\nname",topic="orders"} 5"#,
        "zafka_panics_total 0",
        r#"zafka_peers{route="a \"quoted\"\\\nname"} 3"#,
    ] {
        assert!(body.lines().any(|found| found == line), "{line}\n{body}");
    }
    assert!(!body.contains("zafka_partition_committed_offset"), "a family without samples");
}

#[tokio::test]
async fn a_request_without_end_is_refused() {
    let admin = start(Told(true)).await;
    let mut stream = TcpStream::connect(admin.address()).await.unwrap();
    let endless = format!("GET /healthz HTTP/1.1\r\nX: {}", "x".repeat(64 * 1024));
    stream.write_all(endless.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response).await;
    let response = String::from_utf8_lossy(&response);
    assert!(response.is_empty() || response.starts_with("HTTP/1.1 431"), "{response}");
}

/// Serves `router` for so many connections at a time.
async fn serve(
    router: Router,
    connections: usize,
    patience: Duration,
) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = Limits { connections, head_timeout: patience, connection_timeout: patience };
    (address, tokio::spawn(serve::serve(listener, router, limits)))
}

async fn is_healthy(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut response = String::new();
    // It is closed though it does not ask for that.
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 200") && response.ends_with("ok\n"), "{response}");
}

#[tokio::test]
async fn clients_that_take_their_time_leave_a_place_to_others() {
    const HOUR: Duration = Duration::from_secs(3600);
    // More than the buffers of both sockets hold.
    let large = get(async || vec![b'x'; 16 << 20]);
    for request in
        ["", "GET /healthz HTTP/1.1\r\nHo", "GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"]
    {
        let (address, serving) =
            serve(router_of(Told(true)).route("/large", large.clone()), 4, HOUR).await;
        let mut clients = Vec::new();
        for _ in 0..20 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            clients.push(stream);
        }
        tokio::time::timeout(Duration::from_secs(60), is_healthy(address)).await.expect(request);
        serving.abort();
    }
}

#[tokio::test]
async fn idle_clients_are_cut_off_before_those_that_ask() {
    const HOUR: Duration = Duration::from_secs(3600);
    let (go_on, asked) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (go, told) = (Arc::clone(&go_on), Arc::clone(&asked));
    let slow = get(async move || {
        told.notify_one();
        go.notified().await;
        "done"
    });
    let (address, serving) = serve(router_of(Told(true)).route("/slow", slow), 3, HOUR).await;
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    asked.notified().await;
    let mut idle = Vec::new();
    for _ in 0..5 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    is_healthy(address).await;
    // One of them has a place beside the two that asked.
    for mut stream in idle.into_iter().take(4) {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
    }
    go_on.notify_one();
    let mut response = String::new();
    first.read_to_string(&mut response).await.unwrap();
    assert!(response.ends_with("done"), "{response}");
    serving.abort();
}

#[tokio::test]
async fn a_connection_does_not_last() {
    let never = get(async || std::future::pending::<&str>().await);
    let router = router_of(Told(true)).route("/never", never);
    let (address, serving) = serve(router, 8, Duration::from_millis(200)).await;
    for request in ["", "GET /never", "GET /never HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = Vec::new();
        let _ = stream.read_to_end(&mut response).await;
        let response = String::from_utf8_lossy(&response);
        assert!(!response.contains(" 200 "), "{response}");
    }
    serving.abort();
}

#[tokio::test]
async fn foreign_hosts_are_refused_on_every_path() {
    let admin = start(Told(true)).await;
    for (path, host, code) in [
        ("/status", "evil.example", "421"),
        ("/nothing", "evil.example", "421"),
        ("/status", "localhost:9644", "200"),
    ] {
        let mut stream = TcpStream::connect(admin.address()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        assert!(response.starts_with(&format!("HTTP/1.1 {code} ")), "{path} {host}: {response}");
    }
}

/// A relay whose status takes until it is told, or panics.
struct Slow {
    status: std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Source for Slow {
    fn readiness(&self) -> RelayReadiness {
        Told(true).readiness()
    }

    fn counters(&self) -> RelayStatus {
        panic!("as a mistake of ours would")
    }

    fn status(&self) -> RelayStatus {
        self.status.lock().unwrap().recv().unwrap();
        Told(true).status()
    }
}

#[tokio::test]
async fn a_status_that_takes_time_holds_no_probe_up() {
    let (go_on, status) = std::sync::mpsc::channel();
    let admin = start(Slow { status: std::sync::Mutex::new(status) }).await;
    let mut stream = TcpStream::connect(admin.address()).await.unwrap();
    stream.write_all(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    // On the one thread of this test, so that a handler that waited would hang here.
    let (code, _, _) = ask(&admin, "GET", "/readyz").await;
    assert_eq!(code, 200);
    go_on.send(()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    let (code, _, _) = ask(&admin, "GET", "/metrics").await;
    assert_eq!(code, 500, "a panic is an answer");
    go_on.send(()).unwrap();
    assert_eq!(ask(&admin, "GET", "/status").await.0, 200, "and holds nobody's turn");
}

#[test]
fn metrics_tell_the_longest_wait_of_each_kind() {
    let mut status = status(true);
    let first = status.routes[0].waiting[0].clone();
    status.routes[0].waiting.push(WaitStatus { since: 3000, ..first });
    let now = std::time::UNIX_EPOCH + Duration::from_millis(7500);
    let text = text(&status, now);
    for (kind, seconds) in [("subscribers", "4.5"), ("peer", "0"), ("record", "0"), ("quota", "0")]
    {
        let route = r#"route="a \"quoted\"\\\nname""#;
        let line = format!("zafka_waiting_seconds{{kind=\"{kind}\",{route}}} {seconds}");
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
#[ignore = "needs promtool"]
fn promtool_finds_nothing_to_say() {
    let text = text(&status(true), SystemTime::now());
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
}

#[test]
fn metrics_of_a_route_to_kafka_add_up() {
    let mut status = status(true);
    status.ingest = vec![IngestStatus {
        name: "in".to_owned(),
        in_flight: 4,
        waiting: vec![WaitStatus { kind: "memory", since: 500, ..WaitStatus::default() }],
        counters: IngestCounters {
            received: 90,
            acknowledged: 50,
            refused: 20,
            skipped: 10,
            dead_lettered: 5,
            unknown: 1,
            ..IngestCounters::default()
        },
        ..IngestStatus::default()
    }];
    let text = text(&status, std::time::UNIX_EPOCH + Duration::from_millis(2_500));
    let value = |name: &str| {
        let start = format!("{name}{{");
        let line = text.lines().find(|line| line.starts_with(&start)).expect(name);
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let settled = ["acknowledged", "refused", "skipped", "dead_lettered", "unknown"]
        .map(|name| value(&format!("zafka_ingest_{name}_total")));
    let sum = settled.iter().sum::<u64>() + value("zafka_ingest_in_flight");
    assert_eq!(value("zafka_ingest_received_total"), sum);
    assert_eq!(value("zafka_ingest_unaccounted"), 0);
    let wait = "zafka_waiting_seconds{kind=\"memory\",route=\"in\"} 2";
    assert!(text.contains(wait), "{text}");
}

#[test]
fn metrics_of_identity() {
    let status = RelayStatus { routes: Vec::new(), ingest: Vec::new() };
    let mut identity = IdentityStatus { leases: 3, ..IdentityStatus::default() };
    identity.counters.revoked = 2;
    identity.counters.refused.insert("token_used", 5);
    identity.kafka = Some(KafkaStatus {
        waiting: 6,
        asked: 12,
        answered: 9,
        refused: 2,
        exchanges_refused: 1,
        ..KafkaStatus::default()
    });
    identity.issuers = vec![
        IssuerStatus {
            issuer: "https://id".to_owned(),
            keys: 2,
            fetched: Some(1_000),
            introspection: Some(IntrospectionStatus {
                active: 7,
                inactive: 1,
                ..IntrospectionStatus::default()
            }),
            ..IssuerStatus::default()
        },
        IssuerStatus { issuer: "b".to_owned(), failures: 4, ..IssuerStatus::default() },
    ];
    let process = ProcessCounters { log_lines_dropped: 0, panics: 0 };
    let now = std::time::UNIX_EPOCH + Duration::from_secs(61);
    let text = |identity| metrics::text(&status, identity, process, Duration::ZERO, now).unwrap();
    let told = text(Some(&identity));
    for line in [
        "zafka_identity_leases 3",
        "zafka_identity_kafka_waiting 6",
        "zafka_identity_kafka_asked_total 12",
        "zafka_identity_kafka_outcomes_total{outcome=\"answered\"} 9",
        "zafka_identity_kafka_outcomes_total{outcome=\"failed\"} 0",
        "zafka_identity_kafka_exchanges_failed_total{outcome=\"refused\"} 1",
        "zafka_identity_revoked_total 2",
        "zafka_identity_refused_total{reason=\"token_used\"} 5",
        "zafka_identity_issuer_keys{issuer=\"https://id\"} 2",
        "zafka_identity_issuer_keys_age_seconds{issuer=\"https://id\"} 60",
        "zafka_identity_issuer_failures{issuer=\"b\"} 4",
        "zafka_identity_introspections_total{issuer=\"https://id\",answer=\"active\"} 7",
        "zafka_identity_introspections_total{issuer=\"https://id\",answer=\"inactive\"} 1",
        "zafka_identity_introspections_total{issuer=\"https://id\",answer=\"failed\"} 0",
    ] {
        assert!(told.lines().any(|found| found == line), "{line}:\n{told}");
    }
    assert!(!told.contains("keys_age_seconds{issuer=\"b\"}"), "{told}");
    assert!(!text(None).contains("zafka_identity"));
}
