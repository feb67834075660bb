//! The tools that break things, and the life of child processes.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use zafka_testkit::child::{Running, command};
use zafka_testkit::http;
use zafka_testkit::paths::RunDir;
use zafka_testkit::{Proxy, Zafka, wait_until};

const SOON: Duration = Duration::from_secs(20);

/// A server that sends back what it gets.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
            });
        }
    });
    address
}

fn open(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

fn echoes(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    stream.write_all(b"x").is_ok() && stream.read_exact(&mut byte).is_ok()
}

#[test]
fn a_proxy_passes_cuts_stalls_and_refuses() {
    let proxy = Proxy::start(&echo());
    let mut stream = open(&proxy);
    assert!(echoes(&mut stream));
    proxy.cut();
    assert!(!echoes(&mut stream));

    let mut stream = open(&proxy);
    assert!(echoes(&mut stream));
    proxy.stall();
    stream.write_all(b"y").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let error = stream.read(&mut [0]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    proxy.resume();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut byte = [0];
    stream.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"y");

    proxy.refuse();
    assert!(!echoes(&mut stream));
    assert!(!echoes(&mut open(&proxy)));
    proxy.resume();
    assert!(echoes(&mut open(&proxy)));
    assert_eq!(proxy.accepted(), 4);
}

#[test]
fn a_proxy_swallows_a_connection_from_a_request_on() {
    let proxy = Proxy::start(&echo());
    let request = |key: u8| [0, 0, 0, 4, 0, key, 7, 7];
    let arrives_in = |stream: &mut TcpStream, request: &[u8], time: Duration| {
        // In two parts, so that a request's beginning is not in one piece.
        stream.write_all(&request[..5]).unwrap();
        std::thread::sleep(Duration::from_millis(10));
        stream.write_all(&request[5..]).unwrap();
        let mut answer = vec![0; request.len()];
        stream.set_read_timeout(Some(time)).unwrap();
        stream.read_exact(&mut answer).is_ok()
    };
    let arrives = |stream: &mut TcpStream, request: &[u8]| arrives_in(stream, request, SOON);
    let stays_away = |stream: &mut TcpStream, request: &[u8]| {
        !arrives_in(stream, request, Duration::from_millis(500))
    };
    let [mut one, mut other] = [open(&proxy), open(&proxy)];
    assert!(
        arrives(&mut one, &request(1)) && arrives(&mut other, &[request(3), request(18)].concat())
    );
    proxy.swallow(1);
    assert!(arrives(&mut other, &request(3)));
    assert!(arrives(&mut one, &request(3)));
    assert_eq!(proxy.swallowed(), 0);
    assert!(stays_away(&mut one, &request(1)));
    wait_until("the proxy to tell", SOON, || proxy.swallowed() == 1);
    assert!(stays_away(&mut one, &request(3)), "the connection is swallowed from there on");
    assert!(arrives(&mut other, &request(18)));
    proxy.resume();
    assert!(arrives(&mut other, &request(1)));
    one.set_read_timeout(Some(SOON)).unwrap();
    assert!(!matches!(one.read(&mut [0]), Ok(1..)), "it is cut");
    assert!(arrives(&mut open(&proxy), &request(1)));
}

#[test]
fn a_child_outlives_the_thread_that_asked_for_it_and_dies_when_dropped() {
    let directory = RunDir::new("child");
    let log = directory.join("log");
    let start = move || {
        let mut shell = command("sh");
        shell.args(["-c", "echo up; sleep 600 & wait"]);
        Running::start(shell, &log)
    };
    let mut child = std::thread::spawn(start).join().unwrap();
    wait_until("the shell to be up", SOON, || child.log() == "up\n");
    assert!(child.is_running());
    let group = child.pid();
    drop(child);
    // The shell's own child is in its process group.
    wait_until("the group to be gone", SOON, || !group_exists(group));
}

/// Returns true if a process that is not a zombie is in the process group (proc(5), stat).
fn group_exists(group: u32) -> bool {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok()).any(
        |stat| {
            let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
            let fields: Vec<&str> = after_name.split(' ').collect();
            fields.first() != Some(&"Z") && fields.get(2) == Some(&group.to_string().as_str())
        },
    )
}

#[test]
fn a_program_is_run_with_its_log_and_exit_status() {
    let mut shell = Zafka::spawn("/bin/sh", &["-c", "echo ready; exit 3"]);
    shell.wait_exit(SOON);
    assert_eq!((shell.wait_exit(SOON).code(), shell.log().as_str()), (Some(3), "ready\n"));
}

#[test]
fn an_answer_over_http_is_read() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        assert!(request.starts_with(b"GET /readyz HTTP/1.0\r\n"));
        stream.write_all(b"HTTP/1.0 503 Service Unavailable\r\nA: b\r\n\r\nno\r\n\r\nyet").unwrap();
    });
    assert_eq!(http::get(&address, "/readyz").unwrap(), (503, "no\r\n\r\nyet".to_owned()));
}
