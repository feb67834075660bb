//! The kernel's account of a TCP connection (`TCP_INFO`), which no safe crate hands out. The only
//! place here with `unsafe`.
#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// The kernel's account of a TCP connection at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TcpSample {
    /// Time since the peer last acknowledged anything, even a probe.
    pub(crate) since_ack: Duration,
    /// Probes of a closed window that were not answered.
    pub(crate) probes: u32,
    /// Retransmissions since the peer last acknowledged something new.
    pub(crate) retransmits: u32,
    /// Bytes that it has acknowledged since the connection was made.
    pub(crate) bytes_acked: u64,
}

/// Returns the kernel's present account of a TCP connection.
///
/// # Errors
/// The system's, such as `NotConnected`.
pub(crate) fn sample(socket: BorrowedFd<'_>) -> io::Result<TcpSample> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut size = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the descriptor is open while it is borrowed. The kernel writes at most `size` bytes
    // to `info`, which has so many, and sets `size` to how many it wrote.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut size,
        )
    };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all of its fields are integers, for which zeros and all that the kernel wrote are
    // values. What an older kernel does not know stays zero.
    let info = unsafe { info.assume_init() };
    Ok(TcpSample {
        since_ack: Duration::from_millis(info.tcpi_last_ack_recv.into()),
        probes: info.tcpi_probes.into(),
        retransmits: info.tcpi_retransmits.into(),
        bytes_acked: info.tcpi_bytes_acked,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_kernel_tells_what_was_acknowledged() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let before = sample(stream.as_fd()).unwrap();
        assert_eq!((before.probes, before.retransmits), (0, 0));
        stream.write_all(&[0; 1000]).unwrap();
        let acknowledged = || sample(stream.as_fd()).unwrap().bytes_acked - before.bytes_acked;
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while acknowledged() < 1000 {
            assert!(std::time::Instant::now() < deadline, "{} of 1000 bytes", acknowledged());
            std::thread::yield_now();
        }
        assert!(sample(stream.as_fd()).unwrap().since_ack < Duration::from_secs(30));
    }

    #[test]
    fn what_is_no_tcp_connection_is_an_error() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        sample(one.as_fd()).unwrap_err();
    }
}
