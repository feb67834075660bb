//! The C programs of `baseline/`, compiled into this one: `zafka-bench c-relay ...` is such a
//! program in a process of its own. So all of them are linked with the librdkafka that zafka uses.
#![allow(unsafe_code, reason = "a C program's main is called with its arguments")]

use std::ffi::{CString, NulError, c_char, c_int};
use std::ptr;

// Named so that both libraries are linked.
use rdkafka_sys as _;
use zmq_sys as _;

unsafe extern "C" {
    fn zafka_bench_c_relay(argc: c_int, argv: *mut *mut c_char) -> c_int;
    fn zafka_bench_consumer(argc: c_int, argv: *mut *mut c_char) -> c_int;
    fn zafka_bench_produce(argc: c_int, argv: *mut *mut c_char) -> c_int;
    fn zafka_bench_c_ingest(argc: c_int, argv: *mut *mut c_char) -> c_int;
    fn zafka_bench_ack_producer(argc: c_int, argv: *mut *mut c_char) -> c_int;
    fn zafka_bench_sub(argc: c_int, argv: *mut *mut c_char) -> c_int;
    fn zmq_version(major: *mut c_int, minor: *mut c_int, patch: *mut c_int);
}

/// A C program of `baseline/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// librdkafka to libzmq.
    CRelay,
    /// librdkafka alone.
    Consumer,
    /// Fills a topic, or sends at a pace.
    Produce,
    /// A SUB on libzmq.
    LibzmqSub,
    /// libzmq to librdkafka.
    CIngest,
    /// librdkafka alone, with the time of each record.
    AckProducer,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::CRelay,
        Self::Consumer,
        Self::Produce,
        Self::LibzmqSub,
        Self::CIngest,
        Self::AckProducer,
    ];

    /// The subcommand that runs it.
    pub fn name(self) -> &'static str {
        match self {
            Self::CRelay => "c-relay",
            Self::Consumer => "consumer",
            Self::Produce => "produce",
            Self::LibzmqSub => "libzmq-sub",
            Self::CIngest => "c-ingest",
            Self::AckProducer => "ack-producer",
        }
    }

    /// Runs it in this process and gives its exit code.
    ///
    /// # Errors
    /// An argument with a zero byte in it.
    pub fn run(self, arguments: &[String]) -> Result<i32, NulError> {
        let texts = std::iter::once(self.name())
            .chain(arguments.iter().map(String::as_str))
            .map(CString::new)
            .collect::<Result<Vec<_>, _>>()?;
        let count = c_int::try_from(texts.len()).unwrap_or(0);
        let mut argv: Vec<*mut c_char> = texts.into_iter().map(CString::into_raw).collect();
        argv.push(ptr::null_mut());
        let main = match self {
            Self::CRelay => zafka_bench_c_relay,
            Self::Consumer => zafka_bench_consumer,
            Self::Produce => zafka_bench_produce,
            Self::LibzmqSub => zafka_bench_sub,
            Self::CIngest => zafka_bench_c_ingest,
            Self::AckProducer => zafka_bench_ack_producer,
        };
        // SAFETY: argv holds `count` strings that end with a zero byte, then a null pointer, and
        // none of them is ever freed. Each program is a C main: it may change what argv
        // points to, and knows nothing else of us.
        Ok(unsafe { main(count, argv.as_mut_ptr()) })
    }
}

/// The version of libzmq, `4.3.4`.
pub fn libzmq_version() -> String {
    let (mut major, mut minor, mut patch) = (0, 0, 0);
    // SAFETY: the function writes three ints to the three places it is given.
    unsafe { zmq_version(&mut major, &mut minor, &mut patch) };
    format!("{major}.{minor}.{patch}")
}
