//! `zafka demo`: what a newcomer runs first.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use zafka_testkit::child::{Running, command, spawn};
use zafka_testkit::peers::python;
use zafka_testkit::{Zafka, ports, wait_until};

use crate::ZAFKA;
use crate::common::endpoint;

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
    for line in lines_of_the_readme() {
        assert!(shown.lines().any(|found| found == line), "{line}\n{shown}");
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let summary: Vec<&str> = said.trim().split(", ").collect();
    assert!(matches!(summary[..], ["10 messages", _, "0 gaps"]), "nothing but the summary: {said}");
}

#[test]
fn what_is_sent_to_it_is_shown_where_the_answer_says() {
    let endpoint = endpoint();
    let mut demo =
        Zafka::spawn(ZAFKA, &["demo", "--bind", "tcp://127.0.0.1:*", "--accept", &endpoint]);
    demo.wait_log("orders[", DEADLINE);
    let socket = zmq::Context::new().socket(zmq::REQ).unwrap();
    socket.set_rcvtimeo(DEADLINE.as_millis() as i32).unwrap();
    socket.connect(&endpoint).unwrap();
    for value in ["hello", "again"] {
        socket.send_multipart(["customer-7", value], 0).unwrap();
        let answer = socket.recv_multipart(0).unwrap();
        assert_eq!(answer[0], b"OK");
        let place: Value = serde_json::from_slice(&answer[1]).unwrap();
        let (partition, offset) = (&place["partition"], &place["offset"]);
        demo.wait_log(&format!("edge[{partition}] @{offset} customer-7  {value}\n"), DEADLINE);
    }
}

#[test]
#[ignore = "needs Python"]
fn the_lines_that_send_do_as_they_stand() {
    let mut demo = Zafka::spawn(ZAFKA, &["demo", "--bind", "tcp://127.0.0.1:*"]);
    demo.wait_log("orders[", DEADLINE);
    let log = demo.log();
    let (_, lines) = log.split_once("Send from Python").unwrap();
    let lines: Vec<_> = lines.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    let output = std::process::Command::new(python()).args(["-c", &lines.join("\n")]).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.starts_with(r#"[b'OK', b'{"topic":"edge","#), "{output:?}");
    demo.wait_log("customer-7  hello\n", DEADLINE);
}

/// The records that README.md shows.
fn lines_of_the_readme() -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let text = std::fs::read_to_string(path).expect("README.md");
    let lines: Vec<_> =
        text.lines().filter(|line| line.starts_with("orders[")).map(str::to_owned).collect();
    assert!(!lines.is_empty(), "{path} shows no records");
    lines
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
fn either_signal_ends_it_cleanly() {
    for signal in [Running::terminate, Running::interrupt] {
        let endpoint = format!("tcp://127.0.0.1:{}", ports::free_port());
        let mut demo = Zafka::spawn(ZAFKA, &["demo", "--bind", &endpoint]);
        demo.wait_log("orders[", DEADLINE);
        signal(demo.process());
        assert!(demo.wait_exit(DEADLINE).success(), "{}", demo.log());
        assert!(demo.log().trim_end().ends_with(" gaps"), "the summary comes last: {}", demo.log());
    }
}

/// A demo on this port that writes to `stdout`, and the file that holds what it says on standard
/// error.
fn demo_into(stdout: Stdio, port: u16) -> (Running, tempfile::NamedTempFile) {
    let log = tempfile::NamedTempFile::new().expect("a file");
    let mut demo = command(ZAFKA);
    demo.args(["demo", "--bind", &format!("tcp://127.0.0.1:{port}")]);
    demo.stdout(stdout).stderr(log.reopen().expect("the file again"));
    (Running::adopt(spawn(demo), log.path()), log)
}

#[test]
fn a_reader_that_leaves_ends_it_cleanly() {
    for lines in [0, 20] {
        let (mut demo, _log) = demo_into(Stdio::piped(), ports::free_port());
        let stdout = demo.child().stdout.take().expect("a pipe");
        let read = BufReader::new(stdout).lines().take(lines).count();
        let exit = demo.wait_exit(DEADLINE);
        assert_eq!((exit.and_then(|exit| exit.code()), read), (Some(0), lines), "{}", demo.log());
        assert_eq!(demo.log(), "");
    }
}

/// Something to write to that takes no more, and what keeps it open.
pub fn full() -> io::Result<(Stdio, UnixStream)> {
    let (reader, mut writer) = UnixStream::pair()?;
    writer.set_nonblocking(true)?;
    while writer.write(&[b'x'; 4096]).is_ok() {}
    writer.set_nonblocking(false)?;
    Ok((OwnedFd::from(writer).into(), reader))
}

#[test]
fn signals_end_it_while_nobody_reads() {
    for (signals, code) in [("one", 0), ("many", 1)] {
        let (stdout, _reader) = full().expect("a pair of sockets");
        let port = ports::free_port();
        let (mut demo, _log) = demo_into(stdout, port);
        // It is bound before it writes, and hears signals before it is bound.
        wait_until("the demo", DEADLINE, || TcpStream::connect(("127.0.0.1", port)).is_ok());
        demo.interrupt();
        wait_until("its end", DEADLINE, || {
            if signals == "many" {
                demo.terminate();
            }
            !demo.is_running()
        });
        let exit = demo.wait_exit(DEADLINE);
        assert_eq!(exit.and_then(|exit| exit.code()), Some(code), "{signals}: {}", demo.log());
    }
}
