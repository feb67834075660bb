//! A token endpoint in this process: it keeps what it was asked, and answers as a test says.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use ring::signature::{UnparsedPublicKey, VerificationAlgorithm};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

/// A request that came.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub authorization: Option<String>,
    pub form: BTreeMap<String, String>,
    /// The client's certificate, DER.
    pub certificate: Option<Vec<u8>>,
}

impl Asked {
    /// A field of the form, empty if it is not there.
    pub fn field(&self, name: &str) -> &str {
        self.form.get(name).map_or("", String::as_str)
    }
}

/// Status, further headers, body.
pub type Reply = (u16, String, String);

/// A token of this text, of the type that an exchange gives.
pub fn granted(token: &str) -> Reply {
    let body = serde_json::json!({
        "access_token": token, "token_type": "Bearer", "expires_in": 300,
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
    });
    (200, String::new(), body.to_string())
}

/// A refusal (RFC 6749 section 5.2).
pub fn refused(error: &str, description: &str) -> Reply {
    let body = serde_json::json!({ "error": error, "error_description": description });
    (400, String::new(), body.to_string())
}

/// The endpoint. Its thread ends with the process.
pub struct Provider {
    address: SocketAddr,
    scheme: &'static str,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Provider {
    pub fn start(answer: impl FnMut(&Asked) -> Reply + Send + 'static) -> Self {
        Self::serve(None, answer)
    }

    pub fn with_tls(
        tls: ServerConfig,
        answer: impl FnMut(&Asked) -> Reply + Send + 'static,
    ) -> Self {
        Self::serve(Some(Arc::new(tls)), answer)
    }

    fn serve(
        tls: Option<Arc<ServerConfig>>,
        mut answer: impl FnMut(&Asked) -> Reply + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let kept = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that does not get through the handshake is the test's to notice.
                let _ = serve(stream.unwrap(), tls.as_ref(), &kept, &mut answer);
            }
        });
        Self { address, scheme, asked }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("{}://{}/token", self.scheme, self.address)
    }

    /// The requests that came.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }
}

fn serve(
    stream: TcpStream,
    tls: Option<&Arc<ServerConfig>>,
    kept: &Mutex<Vec<Asked>>,
    answer: &mut impl FnMut(&Asked) -> Reply,
) -> std::io::Result<()> {
    let Some(tls) = tls else { return exchange(stream, |_| None, kept, answer) };
    let session = ServerConnection::new(Arc::clone(tls)).unwrap();
    let certificate = |stream: &StreamOwned<ServerConnection, TcpStream>| {
        Some(stream.conn.peer_certificates()?.first()?.to_vec())
    };
    exchange(StreamOwned::new(session, stream), certificate, kept, answer)
}

fn exchange<S: Read + Write>(
    stream: S,
    certificate: impl Fn(&S) -> Option<Vec<u8>>,
    kept: &Mutex<Vec<Asked>>,
    answer: &mut impl FnMut(&Asked) -> Reply,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut asked, mut length) = (Asked::default(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            if line.trim_end().is_empty() {
                break;
            }
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "authorization" => asked.authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    asked.form = form_urlencoded::parse(&body).into_owned().collect();
    let mut stream = stream.into_inner();
    asked.certificate = certificate(&stream);
    let (status, headers, body) = answer(&asked);
    kept.lock().push(asked);
    write!(
        stream,
        "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\n{headers}Connection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    stream.flush()
}

/// The checks that a provider makes of an assertion (RFC 7523 section 3).
pub struct Judge {
    pub algorithm: &'static dyn VerificationAlgorithm,
    pub name: &'static str,
    pub key: Vec<u8>,
    pub key_id: Option<&'static str>,
    pub issuer: &'static str,
    pub audience: Option<String>,
    /// Its clock's advance, in seconds.
    pub ahead: u64,
    pub seen: BTreeSet<String>,
}

impl Judge {
    /// Checks the assertion; returns its claims.
    ///
    /// # Errors
    /// The fault in it.
    pub fn verify(&mut self, assertion: &str) -> Result<Value, String> {
        let (signed, signature) = assertion.rsplit_once('.').ok_or("no signature")?;
        let (header, payload) = signed.split_once('.').ok_or("no payload")?;
        let decode = |part| URL_SAFE_NO_PAD.decode(part).map_err(|_| "not base64url".to_owned());
        let json = |part| -> Result<Value, String> {
            serde_json::from_slice(&decode(part)?).map_err(|error| error.to_string())
        };
        let (header, claims) = (json(header)?, json(payload)?);
        if header["alg"] != self.name || header["kid"].as_str() != self.key_id {
            return Err(format!("header {header}"));
        }
        let key = UnparsedPublicKey::new(self.algorithm, &self.key);
        key.verify(signed.as_bytes(), &decode(signature)?).map_err(|_| "bad signature")?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + self.ahead;
        let number = |name: &str| claims[name].as_u64().ok_or(format!("no {name}"));
        if claims["iss"] != self.issuer {
            return Err("another issuer".to_owned());
        }
        if self.audience.as_ref().is_some_and(|audience| claims["aud"] != **audience) {
            return Err("another audience".to_owned());
        }
        if number("exp")? <= now {
            return Err("expired".to_owned());
        }
        if number("iat")? > now || number("exp")? - number("iat")? > 300 {
            return Err("from the future, or too long".to_owned());
        }
        match claims["jti"].as_str() {
            Some(id) if self.seen.insert(id.to_owned()) => Ok(claims),
            Some(_) => Err("replayed".to_owned()),
            None => Err("no jti".to_owned()),
        }
    }
}
