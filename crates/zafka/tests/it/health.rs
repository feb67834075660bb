//! `zafka health`, as a container's health check runs it.

use std::io::Write;
use std::net::TcpListener;

use zafka_testkit::{Zafka, ports};

use crate::common::{RouteToml, endpoint, relay_toml};
use crate::program::run;
use crate::{DEADLINE, ZAFKA};

#[test]
fn a_relay_without_a_broker_lives_and_is_not_ready() {
    let to = format!("bind = [\"{}\"]", endpoint());
    let route = RouteToml { name: "orders", from: "topics = [\"orders\"]", to: &to };
    let broker = format!("127.0.0.1:{}", ports::free_port());
    let mut relay = Zafka::run(ZAFKA, &relay_toml(&broker, &[route]));
    relay.wait_log("admin server listens", DEADLINE);
    let address = relay.admin_address();

    let (exit, out, err) = run(&["health", &address]);
    assert!(exit.success() && out.is_empty() && err.is_empty(), "{exit}: {out}{err}");
    let (exit, _, err) = run(&["health", "--ready", &address]);
    assert_eq!(exit.code(), Some(1), "{err}");
    let expected = format!("zafka: http://{address}/readyz: 503 ");
    assert!(err.starts_with(&expected) && err.contains("\"orders\""), "{err}");

    relay.kill9();
    let (exit, _, err) = run(&["health", &address]);
    assert_eq!(exit.code(), Some(1), "{err}");
    assert!(err.starts_with(&format!("zafka: http://{address}/healthz: ")), "{err}");
}

#[test]
fn what_is_no_admin_endpoint_is_not_healthy() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let zmtp = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL").unwrap();
    });
    let (exit, _, err) = run(&["health", &address]);
    zmtp.join().unwrap();
    assert_eq!(exit.code(), Some(1), "{err}");
    // The request may meet a connection that has ended.
    let reasons = ["found no HTTP answer but ", "reset", "Broken pipe"];
    assert!(reasons.iter().any(|reason| err.contains(reason)), "{err}");
}
