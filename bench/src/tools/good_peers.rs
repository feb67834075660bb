//! Good peers beside a flood: one that is there and takes records, and ones that come anew.

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use zafka_zmtp::Event;
use zafka_zmtp::curve::PublicKey;

use super::curve_client::{PATIENCE, Sub};
use super::stamping_sink::age;
use super::{usage, write_samples};
use crate::Outcome;

/// Time between one newcomer and the next.
const PAUSE: Duration = Duration::from_millis(50);
/// Pause before a newcomer that was closed tries again: libzmq's `ZMQ_RECONNECT_IVL`.
const RECONNECT: Duration = Duration::from_millis(100);
/// Longest wait for the relay to listen, for the word to begin, and for a record.
const START: Duration = Duration::from_secs(120);
const BUFFER: usize = 64 * 1024;

/// `good-peers ADDRESS TOPIC SERVER_KEY FILE GO SECONDS`: a SUB connects, and it says so. It waits
/// for the file GO. From then on it takes, for so long, the age of each record and the time that
/// each newcomer needs until it is let in, whatever has to be tried again for that. They are
/// written to FILE.records and FILE.newcomers, in ns.
///
/// # Errors
/// The arguments, the first connection, the files.
pub fn run(arguments: &[&str]) -> Outcome<()> {
    let [address, topic, server, file, go, seconds] = arguments else {
        return Err(usage("good-peers ADDRESS TOPIC SERVER_KEY FILE GO SECONDS"));
    };
    let (server, lasts) = (server.parse()?, Duration::from_secs(seconds.parse()?));
    let (begun, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let (records, newcomers) = thread::scope(|scope| -> Outcome<_> {
        let records = scope.spawn(|| take_records(address, topic, server, &begun, &over));
        let deadline = Instant::now() + START;
        while !fs::exists(go)? {
            if records.is_finished() || Instant::now() >= deadline {
                over.store(true, Ordering::Relaxed);
                break;
            }
            sleep(Duration::from_millis(5));
        }
        begun.store(true, Ordering::Relaxed);
        let newcomers = welcome(address, server, lasts);
        over.store(true, Ordering::Relaxed);
        let records = records.join().map_err(|_| "the SUB panicked")?;
        Ok((records?, newcomers))
    })?;
    for (name, samples) in [("records", records), ("newcomers", newcomers)] {
        write_samples(&format!("{file}.{name}"), &samples)?;
    }
    println!("D");
    // Whoever waits for it ends it.
    loop {
        sleep(START);
    }
}

/// Connects once, and subscribes.
fn connect(address: &str, prefix: &[u8], server: PublicKey) -> Outcome<Sub> {
    Sub::shake_hands(TcpStream::connect(address)?, prefix, server, None)
}

/// Ages of the records that come between `begun` and `over`, in ns.
fn take_records(
    address: &str,
    topic: &str,
    server: PublicKey,
    begun: &AtomicBool,
    over: &AtomicBool,
) -> Outcome<Vec<i64>> {
    let deadline = Instant::now() + START;
    let Sub { mut stream, mut connection } = loop {
        match connect(address, topic.as_bytes(), server) {
            Ok(sub) => break sub,
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => sleep(Duration::from_millis(10)),
        }
    };
    println!("R");
    stream.set_read_timeout(Some(Duration::from_millis(20)))?;
    let (mut samples, mut buffer) = (Vec::new(), vec![0; BUFFER]);
    while !over.load(Ordering::Relaxed) {
        let read = match stream.read(&mut buffer) {
            Ok(0) => return Err("the relay closed a good peer".into()),
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => 0,
            Err(error) => return Err(error.into()),
        };
        connection.handle_input(buffer.get(..read).unwrap_or_default(), Instant::now())?;
        while let Some(event) = connection.poll_event() {
            if let Event::Message(frames) = event
                && begun.load(Ordering::Relaxed)
            {
                samples.push(age(frames.last().ok_or("a message without frames")?)?);
            }
        }
    }
    Ok(samples)
}

/// The time that each newcomer needs until it is let in, for so long, in ns.
fn welcome(address: &str, server: PublicKey, lasts: Duration) -> Vec<i64> {
    let (end, mut samples) = (Instant::now() + lasts, Vec::new());
    while Instant::now() < end {
        let began = Instant::now();
        loop {
            if connect(address, b"nobody-publishes", server).is_ok() {
                break;
            }
            // One that is never let in counts with the time that it has tried.
            if Instant::now() >= end + PATIENCE {
                break;
            }
            sleep(RECONNECT);
        }
        samples.push(i64::try_from(began.elapsed().as_nanos()).unwrap_or(i64::MAX));
        sleep(PAUSE);
    }
    samples
}
