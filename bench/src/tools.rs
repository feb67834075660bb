//! The programs of ours that a measurement needs beside the relay, each a subcommand in a process
//! of its own.

mod ack_latency;
pub mod counting_sink;
mod crowd;
mod curve;
mod curve_client;
pub mod floor;
mod good_peers;
pub mod hostile_peers;
pub mod idle_peers;
mod peer;
mod scan;
mod source;
pub mod stamping_sink;
mod sub;
pub mod tcp_sink;

use std::fs;

use crate::{Failure, Outcome};

/// Runs the tool called `name`; `None` if there is none.
pub fn run(name: &str, arguments: &[String]) -> Option<Outcome<()>> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Some(match name {
        "counting-sink" => counting_sink::run(&arguments),
        "curve-sink" => curve::sink(&arguments),
        "curve-idle" => curve::idle(&arguments),
        "curve-stalled" => curve::stalled(&arguments),
        "curve-handshakes" => curve::handshakes(&arguments),
        "crowd" => crowd::run(&arguments),
        "good-peers" => good_peers::run(&arguments),
        "floor" => floor::run(&arguments),
        "stamping-sink" => stamping_sink::run(&arguments),
        "idle-peers" => idle_peers::run(&arguments),
        "hostile-peers" => hostile_peers::run(&arguments),
        "source" => source::run(&arguments),
        "ack-latency" => ack_latency::run(&arguments),
        "tcp-sink" => tcp_sink::run(&arguments),
        _ => return None,
    })
}

/// Writes samples as `baseline/common.h` does.
fn write_samples(file: &str, samples: &[i64]) -> Outcome<()> {
    let raw: Vec<u8> = samples.iter().flat_map(|sample| sample.to_ne_bytes()).collect();
    Ok(fs::write(file, raw)?)
}

fn usage(text: &str) -> Failure {
    format!("usage: zafka-bench {text}").into()
}
