//! Binding, connecting, and what is left behind: nothing.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Barrier;

use zafka_sockets::PubSocket;
use zafka_sockets::config::PubConfig;

use crate::support::{Server, bodies_until_end, config, endpoint, eventually, zmq_socket, zmq_sub};

#[tokio::test]
async fn a_wildcard_port_is_resolved() {
    let server = Server::start(config()).await;
    let address = server.address();
    assert!(address.starts_with("tcp://127.0.0.1:") && !address.ends_with('*'), "{address}");
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let server = Server::start(config()).await;
    let taken = server.socket.endpoints().iter().cloned().map(Into::into).collect();
    let error = PubSocket::start("test", PubConfig { bind: taken, ..config() }).await.unwrap_err();
    assert!(
        error.to_string().starts_with(&format!("cannot bind {}: ", server.address())),
        "{error}"
    );
}

#[tokio::test]
async fn a_stale_socket_file_is_replaced_and_a_live_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let at = PubConfig { bind: vec![endpoint(&format!("ipc://{}", path.display()))], ..config() };
    let mut server = Server::start(at.clone()).await;
    let error = PubSocket::start("test", at).await.unwrap_err();
    assert!(error.to_string().contains("another program listens there"), "{error}");
    let sub = zmq_sub(&server.address(), &["t"]);
    server.until_subscribed(1).await;
    server.send("t", "end").await;
    bodies_until_end(sub).await;
    server.socket.close().await;
    assert!(!path.exists(), "the socket file is taken away");

    std::fs::write(&path, "precious").unwrap();
    let at = PubConfig { bind: vec![endpoint(&format!("ipc://{}", path.display()))], ..config() };
    let error = PubSocket::start("test", at).await.unwrap_err();
    assert!(error.to_string().contains("not a socket"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

/// A socket bound to this path alone.
fn at(path: &Path) -> PubConfig {
    PubConfig { bind: vec![endpoint(&format!("ipc://{}", path.display()))], ..config() }
}

#[tokio::test]
async fn a_socket_file_is_taken_away_by_its_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let old = Server::start(at(&path)).await;
    std::fs::remove_file(&path).unwrap();
    let mut new = Server::start(at(&path)).await;
    old.socket.close().await;
    drop(old);
    assert!(path.exists(), "the file of the new one stays");
    let sub = zmq_sub(&new.address(), &["t"]);
    new.until_subscribed(1).await;
    new.send("t", "end").await;
    bodies_until_end(sub).await;
    new.socket.close().await;
    assert!(!path.exists());
}

#[test]
fn of_those_that_find_a_stale_file_together_one_has_the_path() {
    const STARTERS: usize = 4;
    const ROUNDS: usize = 200;
    let directory = tempfile::tempdir().unwrap();
    let paths: Vec<_> = (0..ROUNDS).map(|round| directory.path().join(round.to_string())).collect();
    for path in &paths {
        drop(std::os::unix::net::UnixListener::bind(path).unwrap());
    }
    let together = Barrier::new(STARTERS);
    // Nothing is asserted in a thread: the others would wait for it.
    let rounds = || -> Vec<(Result<(), String>, bool)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let round = |path: &PathBuf| {
            together.wait();
            let socket = runtime.block_on(PubSocket::start("test", at(path)));
            together.wait();
            let reachable = std::os::unix::net::UnixStream::connect(path).is_ok();
            together.wait();
            (socket.map(drop).map_err(|error| error.to_string()), reachable)
        };
        paths.iter().map(round).collect()
    };
    let starters: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..STARTERS).map(|_| scope.spawn(rounds)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for round in 0..ROUNDS {
        let outcomes: Vec<_> = starters.iter().map(|rounds| &rounds[round]).collect();
        let bound = outcomes.iter().filter(|(bound, _)| bound.is_ok()).count();
        assert!(
            bound == 1 && outcomes.iter().all(|(_, reachable)| *reachable),
            "{round}: {outcomes:?}"
        );
        let refused = outcomes.iter().filter_map(|(bound, _)| bound.as_ref().err());
        refused.for_each(|error| assert!(error.contains("another program"), "{error}"));
    }
}

#[tokio::test]
async fn a_socket_file_has_its_mode() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    for mode in [0o600, 0o666] {
        let server = Server::start(PubConfig { ipc_mode: Some(mode), ..at(&path) }).await;
        let found = std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(found, mode, "{found:o}");
        server.socket.close().await;
    }
}

#[tokio::test]
async fn a_name_is_served_where_the_system_says() {
    let server =
        Server::start(PubConfig { bind: vec![endpoint("tcp://localhost:*")], ..config() }).await;
    let address = server.address();
    assert!(
        address.starts_with("tcp://127.0.0.1:") || address.starts_with("tcp://[::1]:"),
        "{address}"
    );
    let taken =
        vec![endpoint(&address.replace("127.0.0.1", "localhost").replace("[::1]", "localhost"))];
    let error = PubSocket::start("test", PubConfig { bind: taken, ..config() }).await.unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connects_again_when_the_sub_comes_back() {
    let first = zmq_socket(zmq::SUB);
    first.bind("tcp://127.0.0.1:*").unwrap();
    first.set_subscribe(b"t").unwrap();
    let address = first.get_last_endpoint().unwrap().unwrap();
    let mut server = Server::start(PubConfig {
        bind: Vec::new(),
        connect: vec![endpoint(&address)],
        ..config()
    })
    .await;
    // A socket that is bound sends its subscriptions only while there is a receiver.
    let receiving = tokio::spawn(bodies_until_end(first));
    server.until_subscribed(1).await;
    server.send("t", "end").await;
    receiving.await.unwrap();
    server.until_subscribed(0).await;

    let second = zmq_socket(zmq::SUB);
    second.set_subscribe(b"t").unwrap();
    eventually("the port is free", || second.bind(&address).is_ok()).await;
    let receiving = tokio::spawn(bodies_until_end(second));
    server.until_subscribed(1).await;
    server.send("t", "back").await;
    server.send("t", "end").await;
    assert_eq!(receiving.await.unwrap(), ["back"]);
}

/// Serves a SUB on `connect`, which all lead to it; whatever it gets, it gets once.
async fn served_once(bind: &str, connect: impl FnOnce(&str) -> Vec<String>) {
    let sub = zmq_socket(zmq::SUB);
    sub.bind(bind).unwrap();
    sub.set_subscribe(b"t").unwrap();
    let connect: Vec<_> = connect(&sub.get_last_endpoint().unwrap().unwrap());
    let config = PubConfig {
        bind: Vec::new(),
        connect: connect.iter().map(|at| endpoint(at)).collect(),
        ..config()
    };
    let mut server = Server::start(config).await;
    let receiving = tokio::spawn(bodies_until_end(sub));
    server.until_subscribed(1).await;
    let others = connect.len() as u64 - 1;
    eventually("the other endpoints are left out", || server.closed("same_peer") >= others).await;
    for body in ["1", "2", "end"] {
        server.send("t", body).await;
    }
    assert_eq!(receiving.await.unwrap(), ["1", "2"]);
    assert_eq!(server.socket.snapshot().accepted, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_lead_to_one_peer_serve_it_once() {
    served_once("tcp://127.0.0.1:*", |at| {
        let port = at.rsplit_once(':').unwrap().1;
        ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"]
            .map(|host| format!("tcp://{host}:{port}"))
            .into()
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    served_once(&format!("ipc://{}", path.display()), |at| {
        vec![at.into(), format!("ipc://{}", link.display())]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_ends_a_connector_that_finds_nobody() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let connect = vec![endpoint(&format!("tcp://{free}"))];
    let server = Server::start(PubConfig { bind: Vec::new(), connect, ..config() }).await;
    server.socket.close().await;
    assert!(server.socket.snapshot().peers.is_empty());
}
