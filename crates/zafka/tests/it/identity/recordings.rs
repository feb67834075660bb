//! Handshakes of libzmq with our side of CURVE, whose random bytes and keys are fixed: the
//! recordings that `crates/zmtp` is tested with.

use std::fmt::Write as _;
use std::fs;
use std::io::{ErrorKind, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use zafka_identity::Certificate;
use zafka_testkit::wait_until;
use zafka_zmtp::curve::{ClientSide, KeyPair, Sealer, SecretKey, ServerSide};
use zafka_zmtp::frame::put_message;
use zafka_zmtp::{Config, Connection, Event, Mechanism, Role, SocketType};

use super::Curve;
use crate::DEADLINE;
use crate::common::endpoint;

/// Bytes in a line of a recording.
const LINE: usize = 45;

/// A message with a frame that has a long header.
const LONG: &[u8] = &{
    let mut bytes = [b'v'; 307];
    let (topic, _) = bytes.split_at_mut(7);
    topic.copy_from_slice(b"orders|");
    bytes
};

/// The long-term keys of libzmq's side and of ours: every byte of the secret one.
const SERVER: u8 = 9;
const CLIENT: u8 = 50;

fn keys(number: u8) -> KeyPair {
    KeyPair::new(SecretKey::from_bytes([number; 32]))
}

fn ones(bytes: &mut [u8]) {
    bytes.fill(1);
}

fn twos(bytes: &mut [u8]) {
    bytes.fill(2);
}

/// Our side: its socket, and its words once the handshake is done.
struct Ours {
    socket_type: SocketType,
    subscribes: Option<&'static [u8]>,
    /// Said at the end of the handshake.
    greets: &'static [&'static [u8]],
    /// Said when a subscription or a message comes.
    answers: &'static [&'static [u8]],
}

/// One connection, its transcript, and what it takes to make that.
struct Recorder {
    stream: TcpStream,
    connection: Connection,
    sealer: Option<Sealer>,
    ours: Ours,
    transcript: Vec<(&'static str, Vec<u8>)>,
    events: Vec<Event>,
    /// Answers of the connection itself since its handshake.
    pongs: usize,
}

impl Recorder {
    fn new(stream: TcpStream, ours: Ours, mechanism: Mechanism) -> Self {
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let config = Config {
            socket_type: ours.socket_type,
            role: Role::Server,
            mechanism,
            identity: Bytes::new(),
            max_frame: 1 << 20,
            max_message: 1 << 20,
            heartbeat: None,
        };
        let connection = Connection::new(config, Instant::now());
        let (transcript, events) = (Vec::new(), Vec::new());
        Self { stream, connection, sealer: None, ours, transcript, events, pongs: 0 }
    }

    fn note(&mut self, who: &'static str, bytes: &[u8]) {
        match self.transcript.last_mut() {
            Some((last, all)) if *last == who => all.extend_from_slice(bytes),
            _ => self.transcript.push((who, bytes.to_vec())),
        }
    }

    fn write(&mut self, frames: &[u8]) {
        let mut sealed = Vec::new();
        match &mut self.sealer {
            Some(sealer) => sealer.seal(frames, &mut sealed).unwrap(),
            None => sealed.extend_from_slice(frames),
        }
        self.note("ours", &sealed);
        self.stream.write_all(&sealed).unwrap();
    }

    /// Says messages of our own; the recording has them in the clear too.
    fn say(&mut self, messages: &[&[u8]]) {
        for message in messages {
            let (mut frames, parts) = (Vec::new(), message.split(|byte| *byte == b'|'));
            put_message(&mut frames, parts.collect::<Vec<_>>().into_iter());
            self.note("plain", &frames);
            self.write(&frames);
        }
    }

    fn flush(&mut self) {
        while let Some(output) = self.connection.poll_output() {
            self.pongs += usize::from(output.ends_with(b"\x04PONG"));
            self.write(&output);
        }
        if let Some(sealer) = self.connection.take_sealer() {
            self.sealer = Some(sealer);
            self.flush();
        }
    }

    fn handle(&mut self, event: Event) {
        match &event {
            Event::Authenticate(_) => {
                self.connection.admit(&[("X-Zafka-Subject", "alice")], Instant::now());
            }
            Event::Ready(_) => {
                self.flush();
                self.say(self.ours.greets);
            }
            Event::Subscribe(_) | Event::Message(_) => self.say(self.ours.answers),
            _ => {}
        }
        self.events.push(event);
    }

    /// Goes on until the transcript is whole.
    fn run(&mut self, is_whole: impl Fn(&Self) -> bool) {
        let end = Instant::now() + DEADLINE;
        if let Some(prefix) = self.ours.subscribes {
            self.connection.subscribe(prefix);
        }
        let mut buffer = [0; 4096];
        loop {
            self.flush();
            if is_whole(self) {
                return;
            }
            assert!(Instant::now() < end, "{:?}", self.events);
            match self.stream.read(&mut buffer) {
                Ok(read) => {
                    assert!(read > 0, "libzmq closed: {:?}", self.events);
                    self.note("libzmq", &buffer[..read]);
                    self.connection.handle_input(&buffer[..read], Instant::now()).unwrap();
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
            while let Some(event) = self.connection.poll_event() {
                self.handle(event);
            }
        }
    }

    fn messages(&self) -> Vec<Vec<&[u8]>> {
        let messages = self.events.iter().filter_map(|event| match event {
            Event::Message(frames) => Some(frames.iter().map(|frame| &frame[..]).collect()),
            _ => None,
        });
        messages.collect()
    }

    /// Writes the transcript, if it is asked for.
    fn keep(&self, name: &str) {
        let mut text = String::new();
        for (who, bytes) in &self.transcript {
            writeln!(text, "{who}").unwrap();
            for line in bytes.chunks(LINE) {
                let hex: String = line.iter().map(|byte| format!("{byte:02x}")).collect();
                writeln!(text, "  {hex}").unwrap();
            }
        }
        let file = Path::new(env!("CARGO_MANIFEST_DIR"));
        let file = file.join(format!("../zmtp/tests/it/recorded/curve/{name}.txt"));
        if std::env::var_os("UPDATE_RECORDINGS").is_some() {
            fs::write(file, text).unwrap();
        }
    }
}

/// Certificates of both sides, in a folder.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let files = Self(tempfile::tempdir().unwrap());
        for (name, number) in [("server", SERVER), ("client", CLIENT)] {
            fs::write(files.path(name, "key"), Certificate::public_text(&keys(number))).unwrap();
            let secret = files.path(name, "key_secret");
            fs::write(&secret, Certificate::secret_text(&keys(number))).unwrap();
            fs::set_permissions(secret, fs::Permissions::from_mode(0o600)).unwrap();
        }
        files
    }

    fn path(&self, name: &str, ending: &str) -> PathBuf {
        self.0.path().join(format!("{name}.{ending}"))
    }
}

/// libzmq connects to our server.
fn accept(files: &Files, kind: &str, options: &[&str], ours: Ours) -> (Recorder, Curve) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    let (theirs, server) = (files.path("client", "key_secret"), files.path("server", "key"));
    let secured = ["--ours", theirs.to_str().unwrap(), "--server", server.to_str().unwrap()];
    let peer = Curve::start(kind, &endpoint, &[&secured[..], options].concat());
    let side = ServerSide { keys: vec![keys(SERVER)], random: ones };
    listener.set_nonblocking(true).unwrap();
    let mut stream = None;
    wait_until("libzmq connects", DEADLINE, || {
        stream = listener.accept().ok().map(|(stream, _)| stream);
        stream.is_some()
    });
    let stream = stream.unwrap();
    stream.set_nonblocking(false).unwrap();
    (Recorder::new(stream, ours, Mechanism::CurveServer(Arc::new(side))), peer)
}

/// Our client connects to libzmq.
fn connect(files: &Files, kind: &str, words: &[&str], ours: Ours) -> (Recorder, Curve) {
    let endpoint = endpoint();
    let theirs = files.path("server", "key_secret");
    let secured = ["--ours", theirs.to_str().unwrap(), "--known", files.0.path().to_str().unwrap()];
    let peer = Curve::start(kind, &endpoint, &[&secured[..], words].concat());
    peer.wait_event("LISTENING");
    let stream = TcpStream::connect(endpoint.trim_start_matches("tcp://")).unwrap();
    let side =
        ClientSide { keys: keys(CLIENT), server: keys(SERVER).public(), token: None, random: twos };
    (Recorder::new(stream, ours, Mechanism::CurveClient(Arc::new(side))), peer)
}

#[test]
#[ignore = "needs Python"]
fn libzmq_speaks_as_it_was_recorded() {
    let files = Files::new();
    let ours = |socket_type| Ours { socket_type, subscribes: None, greets: &[], answers: &[] };

    let answers: &[&[u8]] = &[b"orders|1", LONG];
    let publishes = Ours { answers, ..ours(SocketType::Pub) };
    let (mut sub, peer) = accept(&files, "SUB", &["--heartbeat", "100", "orders"], publishes);
    sub.run(|sub| sub.pongs > 0 && peer.messages().len() == 2);
    assert!(matches!(sub.events[2], Event::Subscribe(_)), "{:?}", sub.events);
    assert_eq!(peer.messages()[1], ["orders", "v".repeat(300).as_str()]);
    assert_eq!(peer.lines().last().unwrap()["properties"]["X-Zafka-Subject"], "alice");
    sub.keep("sub");

    let router = Ours { answers: &[b"OK"], ..ours(SocketType::Router) };
    let (mut dealer, peer) = accept(&files, "DEALER", &["--identity", "me", "a|b"], router);
    dealer.run(|_| peer.messages() == [["OK"]]);
    assert_eq!(dealer.messages(), [[b"a", b"b"]]);
    dealer.keep("dealer");

    let subscribes = Ours { subscribes: Some(b"orders"), ..ours(SocketType::Sub) };
    let long = std::str::from_utf8(LONG).unwrap();
    let (mut xpub, _peer) = connect(&files, "XPUB", &["orders|1", long], subscribes);
    xpub.run(|xpub| xpub.messages().len() == 2);
    assert_eq!(xpub.messages()[1], [b"orders" as &[u8], &[b'v'; 300]]);
    xpub.keep("xpub");

    let sends = Ours { greets: &[b"a|b"], ..ours(SocketType::Dealer) };
    let (mut router, _peer) = connect(&files, "ROUTER", &["OK"], sends);
    router.run(|router| router.messages() == [[b"OK"]]);
    router.keep("router");
}
