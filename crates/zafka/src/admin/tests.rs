use std::io::Write;
use std::process::{Command, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zafka_bridge::status::{PartitionStatus, PeerStatus, RouteCounters, RouteStatus, WaitStatus};

use super::*;

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
        }],
        waiting: vec![WaitStatus {
            partition: Some("orders/3".to_owned()),
            kind: "subscribers",
            reason: "1 of 2 subscribers (min_peers)".to_owned(),
            peer: None,
            since: 5000,
        }],
        peers: vec![PeerStatus { bytes_queued: 9, ..PeerStatus::default() }],
        ..RouteStatus::default()
    };
    RelayStatus { routes: vec![route] }
}

fn text(status: &RelayStatus, now: SystemTime) -> String {
    let process = ProcessCounters { log_lines_dropped: 3, panics: 0 };
    metrics::text(status, process, std::time::Duration::from_millis(1500), now).unwrap()
}

async fn request(method: &str, path: &str, ready: bool) -> (u16, String, String) {
    let bind = "127.0.0.1:0".parse().unwrap();
    let admin = Bound::new(bind).await.unwrap().serve(Arc::new(move || status(ready)));
    let mut stream = TcpStream::connect(admin.address()).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: zafka\r\nConnection: close\r\n\r\n");
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
        r#"zafka_peer_queued_max_bytes{route="a \"quoted\"\\\nname"} 9"#,
    ] {
        assert!(body.lines().any(|found| found == line), "{line}\n{body}");
    }
    assert!(!body.contains("zafka_partition_committed_offset"), "a family without samples");
}

#[tokio::test]
async fn a_request_without_end_is_refused() {
    let bind = "127.0.0.1:0".parse().unwrap();
    let admin = Bound::new(bind).await.unwrap().serve(Arc::new(|| status(true)));
    let mut stream = TcpStream::connect(admin.address()).await.unwrap();
    let endless = format!("GET /healthz HTTP/1.1\r\nX: {}", "x".repeat(64 * 1024));
    stream.write_all(endless.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response).await;
    let response = String::from_utf8_lossy(&response);
    assert!(response.is_empty() || response.starts_with("HTTP/1.1 431"), "{response}");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // More than the buffers of both sockets hold.
    let large = get(async || vec![b'x'; 64 << 20]);
    let router = router(Arc::new(|| status(true))).route("/large", large);
    let timeout = std::time::Duration::from_secs(1);
    let limits = Limits { connections: 1, head_timeout: timeout, connection_timeout: timeout };
    let serving = tokio::spawn(serve::serve(listener, router, limits));
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /large HTTP/1.1\r\nHost: zafka\r\n\r\n").await.unwrap();
    let mut other = TcpStream::connect(address).await.unwrap();
    other.write_all(b"GET /healthz HTTP/1.1\r\nHost: zafka\r\n\r\n").await.unwrap();
    // It has the only slot once the first is cut off, and is closed though it does not ask for that.
    let mut response = String::new();
    other.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 200") && response.ends_with("ok\n"), "{response}");
    serving.abort();
}

#[test]
fn metrics_tell_the_longest_wait_of_each_kind() {
    let mut status = status(true);
    let first = status.routes[0].waiting[0].clone();
    status.routes[0].waiting.push(WaitStatus { since: 3000, ..first });
    let now = std::time::UNIX_EPOCH + std::time::Duration::from_millis(7500);
    let text = text(&status, now);
    for (kind, seconds) in [("subscribers", "4.5"), ("peer", "0"), ("record", "0"), ("quota", "0")] {
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
