//! A raw DEALER that sends at an even pace and takes the time from each message to its answer.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use zafka_zmtp::frame::{MORE, Position, put_header, read_header};

use super::{peer, usage, write_samples};
use crate::Outcome;

/// `ack-latency ADDRESS VALUE_SIZE PER_SECOND FILE SKIP SAMPLES`: writes "D" when the file is
/// there.
///
/// # Errors
/// The arguments, the connection, the file, or an answer that is no OK.
pub fn run(arguments: &[&str]) -> Outcome<()> {
    let [address, size, rate, file, skip, wanted] = arguments else {
        return Err(usage("ack-latency ADDRESS VALUE_SIZE PER_SECOND FILE SKIP SAMPLES"));
    };
    let (rate, skip, wanted) = (rate.parse::<u32>()?, skip.parse::<usize>()?, wanted.parse()?);
    let mut message = Vec::new();
    let size = size.parse()?;
    put_header(&mut message, Position::Last, size);
    message.resize(message.len() + size, b'x');
    let mut stream = peer::connect(address, b"DEALER")?;
    stream.set_read_timeout(None)?;
    let (sent, times) = channel();
    let reader = stream.try_clone()?;
    let file = (*file).to_owned();
    thread::spawn(move || {
        if let Err(error) = receive(reader, &times, &file, skip, wanted) {
            eprintln!("ack-latency: {error}");
            std::process::exit(1);
        }
    });
    let start = Instant::now();
    for number in 0_u32.. {
        let due = start + Duration::from_secs(1) / rate * number;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        sent.send(Instant::now())?;
        stream.write_all(&message)?;
    }
    Ok(())
}

/// Takes the answers, which come in the order of the messages.
fn receive(
    mut stream: TcpStream,
    times: &Receiver<Instant>,
    file: &str,
    skip: usize,
    wanted: usize,
) -> Outcome<()> {
    let mut samples = Vec::with_capacity(wanted);
    for number in 0.. {
        let word = frame(&mut stream)?;
        frame(&mut stream)?;
        let taken = times.recv()?.elapsed();
        if word != b"OK" {
            return Err("the relay refuses a message".into());
        }
        if number < skip || samples.len() == wanted {
            continue;
        }
        samples.push(i64::try_from(taken.as_nanos())?);
        if samples.len() == wanted {
            write_samples(file, &samples)?;
            println!("D");
        }
    }
    Ok(())
}

fn frame(stream: &mut TcpStream) -> Outcome<Vec<u8>> {
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    let header = read_header(&head).filter(|header| header.flags & !MORE == 0);
    let header = header.ok_or("an answer with a long frame or a command")?;
    let mut body = vec![0; usize::try_from(header.body_size)?];
    stream.read_exact(&mut body)?;
    Ok(body)
}
