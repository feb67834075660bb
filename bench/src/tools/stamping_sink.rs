//! A raw SUB that takes latency samples: what a subscriber sees that reads its socket itself. One
//! on libzmq is woken twice for a message, first its I/O thread, then the application's.

use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use zafka_zmtp::frame::{COMMAND, MORE, read_header};

use super::{sub, usage, write_samples};
use crate::Outcome;

/// The largest frame that may come.
const BUFFER: usize = 256 * 1024;
/// Time between two lines.
const TICK: Duration = Duration::from_millis(20);

/// `stamping-sink ADDRESS PREFIX FILE SKIP SAMPLES`: writes the lines and the file of
/// `baseline/common.h`.
///
/// # Errors
/// The arguments, the connection, the file.
pub fn run(arguments: &[&str]) -> Outcome<()> {
    let [address, prefix, file, skip, wanted] = arguments else {
        return Err(usage("stamping-sink ADDRESS PREFIX FILE SKIP SAMPLES"));
    };
    let (mut skip, wanted) = (skip.parse::<usize>()?, wanted.parse::<usize>()?);
    let mut stream = sub::connect(address, prefix.as_bytes())?;
    // So that a line also comes when nothing else does: the last record is not kept secret.
    stream.set_read_timeout(Some(TICK))?;
    let mut samples = Vec::with_capacity(wanted);
    let (mut buffer, mut filled, mut records, mut bytes) = (vec![0; BUFFER], 0, 0_u64, 0_u64);
    let mut next_line = Instant::now();
    loop {
        let size = match stream.read(buffer.get_mut(filled..).unwrap_or_default()) {
            Ok(0) => {
                return Err("the relay closed the connection, or sent a frame too large".into());
            }
            Ok(size) => size,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => 0,
            Err(error) => return Err(error.into()),
        };
        bytes += size as u64;
        filled += size;
        let mut at = 0;
        while let Some((body, last, end)) = frame(buffer.get(at..filled).unwrap_or_default()) {
            at += end;
            if !last {
                continue;
            }
            records += 1;
            if skip > 0 {
                skip -= 1;
            } else if samples.len() < wanted {
                samples.push(age(body)?);
                if samples.len() == wanted {
                    write_samples(file, &samples)?;
                    println!("D");
                }
            }
        }
        buffer.copy_within(at..filled, 0);
        filled -= at;
        if Instant::now() >= next_line {
            next_line = Instant::now() + TICK;
            println!("S {records} {bytes}");
        }
    }
}

/// The first frame of `input` if it is whole: its body, whether it ends a message, and where it
/// ends.
fn frame(input: &[u8]) -> Option<(&[u8], bool, usize)> {
    let header = read_header(input)?;
    let end = header.header_size + usize::try_from(header.body_size).ok()?;
    let body = input.get(header.header_size..end)?;
    Some((body, header.flags & (MORE | COMMAND) == 0, end))
}

/// Returns the time since the producer stamped a value, in ns.
///
/// # Errors
/// A value without a stamp.
pub fn age(value: &[u8]) -> Outcome<i64> {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?;
    let stamp = value.first_chunk().ok_or("a value without a stamp")?;
    Ok(now - i64::from_ne_bytes(*stamp))
}
