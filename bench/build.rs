//! Compiles the C programs of `baseline/` against the librdkafka that zafka uses and the libzmq of
//! the tests.

use std::env;

const SOURCES: [&str; 6] = ["ack.c", "c_ingest.c", "c_relay.c", "consumer.c", "produce.c", "sub.c"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rdkafka =
        env::var("DEP_RDKAFKA_ROOT").map_err(|_| "rdkafka-sys did not say where librdkafka is")?;
    let zmq = env::var("DEP_ZMQ_INCLUDE").map_err(|_| "zmq-sys did not say where zmq.h is")?;
    let mut build = cc::Build::new();
    // As system headers: their warnings are not ours.
    build.flag(format!("-isystem{rdkafka}/src")).flag(format!("-isystem{zmq}"));
    build.opt_level(3).warnings(true).std("gnu11");
    for source in SOURCES {
        build.file(format!("baseline/{source}"));
    }
    println!("cargo:rerun-if-changed=baseline");
    build.try_compile("zafka_baseline")?;
    Ok(())
}
