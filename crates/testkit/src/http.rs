//! HTTP without a client library.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A request.
pub(crate) struct HttpRequest<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    /// Further header lines, each with its end.
    pub(crate) headers: &'a str,
    pub(crate) body: &'a str,
}

impl HttpRequest<'_> {
    /// Sends it by HTTP/1.0, so that the body of the answer comes as it is. Returns its status code
    /// and body.
    pub(crate) fn send(&self, address: &str, patience: Duration) -> io::Result<(u16, String)> {
        let Self { method, path, headers, body } = self;
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(patience))?;
        let length = body.len();
        // One write: `write!` on a socket sends each piece of the format by itself.
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n{headers}\
             Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let code = code.ok_or_else(|| io::Error::other(format!("not HTTP: {head:?}")))?;
        Ok((code, body.to_owned()))
    }
}

/// One GET: status code and body.
pub fn get(address: &str, path: &str) -> io::Result<(u16, String)> {
    let request = HttpRequest { method: "GET", path, headers: "", body: "" };
    request.send(address, Duration::from_secs(5))
}
