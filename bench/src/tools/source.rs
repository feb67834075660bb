//! Our own senders: raw ZMTP connections that send prepared bytes as fast as they are taken, so
//! that the sender is not what is measured. A DEALER's answers are counted.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use zafka_zmtp::frame::{Position, put_header};

use super::scan::{Kind, Scanner};
use super::{peer, usage};
use crate::{Failure, Outcome};

/// Bytes that are written at a time, about.
const BLOCK: usize = 64 * 1024;
/// Messages of all DEALERs together that are without an answer at the most: somewhat fewer than a
/// route takes under way by default if they are small, so that neither side waits for the other.
const WINDOW: u64 = 65_536;
/// Bytes that one read takes.
const BUFFER: usize = 64 * 1024;

/// `source ADDRESS PUSH|DEALER TOPIC VALUE_SIZE SENDERS`: sends topic and value until the relay
/// ends.
///
/// # Errors
/// The arguments, the connections, or an answer that is no OK.
pub fn run(arguments: &[&str]) -> Outcome<()> {
    let [address, socket, topic, size, senders] = arguments else {
        return Err(usage("source ADDRESS PUSH|DEALER TOPIC VALUE_SIZE SENDERS"));
    };
    let (block, messages) = block(topic.as_bytes(), size.parse()?);
    let senders: u64 = senders.parse()?;
    let window = WINDOW / senders.max(1);
    let threads: Vec<_> = (0..senders)
        .map(|_| {
            let stream = peer::connect(address, socket.as_bytes())?;
            let (block, window) = (block.clone(), (*socket == "DEALER").then_some(window));
            Ok(thread::spawn(move || send(stream, &block, messages, window)))
        })
        .collect::<Outcome<_>>()?;
    println!("R");
    for thread in threads {
        thread.join().map_err(|_| "a sender panicked")??;
    }
    Ok(())
}

/// Whole messages of two frames, and how many they are.
fn block(topic: &[u8], value_size: usize) -> (Vec<u8>, u64) {
    let value: Vec<u8> = (0..value_size).map(|i| b'a' + ((i * 7 + i / 13) % 26) as u8).collect();
    let (mut block, mut messages) = (Vec::new(), 0);
    while block.len() < BLOCK {
        put_header(&mut block, Position::More, topic.len());
        block.extend_from_slice(topic);
        put_header(&mut block, Position::Last, value.len());
        block.extend_from_slice(&value);
        messages += 1;
    }
    (block, messages)
}

/// `window`: messages without an answer at the most, if there are answers.
fn send(mut stream: TcpStream, block: &[u8], messages: u64, window: Option<u64>) -> Outcome<()> {
    stream.set_read_timeout(None)?;
    let answers = Arc::new((Mutex::new(0_u64), Condvar::new()));
    if window.is_some() {
        let (reader, answers) = (stream.try_clone()?, Arc::clone(&answers));
        thread::spawn(move || count(reader, &answers));
    }
    let mut sent = 0;
    loop {
        if let Some(window) = window {
            let (count, changed) = &*answers;
            let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
            while sent + messages > *count + window {
                count = changed.wait(count).unwrap_or_else(PoisonError::into_inner);
            }
        }
        stream.write_all(block)?;
        sent += messages;
    }
}

/// Returns true if one of the answers is an ERROR. An OK has no byte 5, which is looked for first:
/// this is to cost next to nothing.
fn is_refusal(answers: &[u8]) -> bool {
    const ERROR: &[u8] = b"\x01\x05ERROR";
    answers.contains(&ERROR[1]) && answers.windows(ERROR.len()).any(|window| window == ERROR)
}

/// Counts answers until the relay ends, which ends this process.
fn count(mut stream: TcpStream, (answers, changed): &(Mutex<u64>, Condvar)) {
    let mut scanner = Scanner::new(Kind::Message);
    let (mut buffer, mut filled) = (vec![0; BUFFER], 0);
    let mut read = || -> Result<(), Failure> {
        loop {
            let size = stream.read(buffer.get_mut(filled..).unwrap_or_default())?;
            if size == 0 {
                return Err("the relay closed the connection".into());
            }
            filled += size;
            let input = buffer.get(..filled).unwrap_or_default();
            // An answer that is no OK would be counted like one, and nothing be measured.
            if is_refusal(input) {
                return Err("the relay refuses messages".into());
            }
            let taken = scanner.feed(input);
            buffer.copy_within(taken..filled, 0);
            filled -= taken;
            *answers.lock().unwrap_or_else(PoisonError::into_inner) = scanner.records;
            changed.notify_one();
        }
    };
    if let Err(error) = read() {
        eprintln!("source: {error}");
        std::process::exit(1);
    }
}
