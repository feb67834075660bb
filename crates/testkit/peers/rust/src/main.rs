//! A SUB on zmq.rs: endpoint, connect|bind, count (0: no end), seconds, then prefixes.
//! Each message is a line of JSON on stdout: an array of its frames in base64.

use std::error::Error;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use zeromq::{Socket, SocketRecv, SubSocket};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [endpoint, way, count, seconds, prefixes @ ..] = args.as_slice() else {
        return Err("endpoint, connect|bind, count, seconds, prefixes".into());
    };
    let seconds = Duration::from_secs(seconds.parse()?);
    let receive = receive(endpoint, way, count.parse()?, prefixes);
    tokio::time::timeout(seconds, receive).await.unwrap_or(Ok(()))
}

async fn receive(
    endpoint: &str,
    way: &str,
    count: usize,
    prefixes: &[String],
) -> Result<(), Box<dyn Error>> {
    let mut socket = SubSocket::new();
    for prefix in prefixes {
        socket.subscribe(prefix).await?;
    }
    match way {
        "bind" => drop(socket.bind(endpoint).await?),
        _ => socket.connect(endpoint).await?,
    }
    let mut received = 0;
    while count == 0 || received < count {
        let message = socket.recv().await?;
        let frames = message.iter().map(|frame| BASE64_STANDARD.encode(frame));
        let frames: Vec<String> = frames.collect();
        println!("{}", serde_json::to_string(&frames)?);
        received += 1;
    }
    Ok(())
}
