//! `zafka demo`: what a newcomer runs first.

use std::time::Duration;

use zafka_testkit::{Zafka, ports};

use crate::ZAFKA;

const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn shows_as_many_messages_as_asked_for_and_ends() {
    let endpoint = format!("tcp://127.0.0.1:{}", ports::free_port());
    let output = std::process::Command::new(ZAFKA)
        .args(["demo", "--count", "10", "--bind", &endpoint])
        .output()
        .expect("the program runs");
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(shown.contains(&format!("socket.connect(\"{endpoint}\")")), "{shown}");
    assert_eq!(shown.lines().filter(|line| line.starts_with("orders[")).count(), 10, "{shown}");
    let said = String::from_utf8_lossy(&output.stderr);
    let summary: Vec<&str> = said.trim().split(", ").collect();
    assert!(matches!(summary[..], ["10 messages", _, "0 gaps"]), "nothing but the summary: {said}");
}

#[test]
fn a_taken_port_gets_a_clear_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endpoint = format!("tcp://{}", taken.local_addr().expect("its address"));
    let output = std::process::Command::new(ZAFKA)
        .args(["demo", "--bind", &endpoint])
        .output()
        .expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&endpoint) && said.contains("--bind"), "{said}");
}

#[test]
fn an_interrupt_ends_it_cleanly() {
    let endpoint = format!("tcp://127.0.0.1:{}", ports::free_port());
    let mut demo = Zafka::spawn(ZAFKA, &["demo", "--bind", &endpoint]);
    demo.wait_log("orders[", DEADLINE);
    demo.terminate();
    assert!(demo.wait_exit(DEADLINE).success(), "{}", demo.log());
}
