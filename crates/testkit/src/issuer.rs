//! An issuer of tokens that signs anything, and serves its keys well or badly.

mod exchange;
mod grants;
mod request;

use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

pub use exchange::Exchanged;
use exchange::Exchanges;
use grants::{Granted, Grants};
use request::Request;

/// The audience of its tokens.
pub const AUDIENCE: &str = "zafka-test";
/// The secret of the client "zafka", which may ask whether tokens are active, and exchange them.
pub const INTROSPECTION_SECRET: &str = "introspection-s3cret";

/// The way it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// The answer that it should have.
    Well,
    /// Not as long as it serves so, though it takes the request; then it ends the connection.
    Hanging,
    /// A redirect to where the keys are.
    Redirect,
    /// An answer with more than two megabytes.
    Huge,
    /// An answer with something that is no JSON.
    Garbage,
    /// An answer with this status.
    Status(u16),
    /// An answer with the name of another issuer.
    OtherIssuer,
    /// An answer with keys that are on another host.
    Elsewhere,
    /// An answer with keys of which none verifies signatures.
    UselessKeys,
}

/// An issuer on HTTP on the loopback. Dropping it ends it.
#[derive(Debug)]
pub struct Issuer {
    shared: Arc<IssuerShared>,
    port: u16,
}

#[derive(Debug)]
struct IssuerShared {
    state: Mutex<IssuerState>,
    is_over: AtomicBool,
    requests: AtomicU64,
    /// Requests that are taken and not answered now.
    hanging: AtomicU64,
}

#[derive(Debug)]
struct IssuerState {
    serving: Serving,
    key: EcdsaKeyPair,
    /// The number of keys before this one.
    rotations: u64,
    /// The part that a request has to show, if any.
    bearer: Option<String>,
    /// Tokens that were signed so far.
    tokens: u64,
    /// The way it answers whether tokens are active, and those that are not.
    introspection: Serving,
    inactive: Vec<String>,
    grants: Grants,
    exchanges: Exchanges,
}

impl Issuer {
    /// Starts it on a free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = IssuerState {
            serving: Serving::Well,
            key: new_key(),
            rotations: 0,
            bearer: None,
            tokens: 0,
            introspection: Serving::Well,
            inactive: Vec::new(),
            grants: Grants::default(),
            exchanges: Exchanges::default(),
        };
        let shared = Arc::new(IssuerShared {
            state: Mutex::new(state),
            is_over: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            hanging: AtomicU64::new(0),
        });
        thread::spawn({
            let shared = Arc::clone(&shared);
            move || serve(&listener, port, &shared)
        });
        Self { shared, port }
    }

    /// Its name; discovery is below it.
    pub fn name(&self) -> String {
        name(self.port)
    }

    /// Returns the address of its keys.
    pub fn jwks_url(&self) -> String {
        format!("{}/keys", self.name())
    }

    /// Its keys.
    pub fn jwks(&self) -> Value {
        self.state().jwks()
    }

    /// Answers like that from now on.
    pub fn serve(&self, serving: Serving) {
        self.state().serving = serving;
    }

    /// Answers only requests that show this token.
    pub fn require(&self, bearer: &str) {
        self.state().bearer = Some(bearer.to_owned());
    }

    /// Takes a new key, and withdraws the one before.
    pub fn rotate(&self) {
        let mut state = self.state();
        state.key = new_key();
        state.rotations += 1;
    }

    /// Returns the number of requests that came.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Returns the number of requests that hang now.
    pub fn hanging(&self) -> u64 {
        self.shared.hanging.load(Ordering::Relaxed)
    }

    /// A token of this subject that ends in so many seconds, with an id of its own and further
    /// claims, which replace others of the same name.
    pub fn token(&self, subject: &str, seconds: i64, claims: &Value) -> String {
        self.state().token(&self.name(), subject, seconds, claims)
    }

    /// Says from now on that a token is not active, as after a logout (RFC 7662).
    pub fn deactivate(&self, token: &str) {
        self.state().inactive.push(token.to_owned());
    }

    /// Answers like that from now on whether tokens are active.
    pub fn serve_introspection(&self, serving: Serving) {
        self.state().introspection = serving;
    }

    /// Its token endpoint.
    pub fn token_url(&self) -> String {
        format!("{}/token", self.name())
    }

    /// Grants such tokens from now on: to any client, to devices, and for refresh tokens.
    pub fn grant(&self, subject: &str, seconds: i64, claims: &Value) {
        let mut state = self.state();
        (state.grants.subject, state.grants.seconds) = (subject.to_owned(), seconds);
        state.grants.claims = claims.clone();
    }

    /// Gives tokens that live so many seconds in exchange from now on.
    pub fn exchange_for(&self, seconds: i64) {
        self.state().exchanges.seconds = seconds;
    }

    /// Returns the number of tokens that it gave in exchange for a subject's.
    pub fn exchanged(&self, subject: &str) -> Exchanged {
        self.state().exchanges.of(subject)
    }

    /// Answers the next polls of a device by these errors, before it is let in.
    pub fn answer_polls(&self, errors: &[&str]) {
        self.state().grants.polls = errors.iter().map(|&error| error.to_owned()).collect();
    }

    /// Withdraws the refresh token that it gave last.
    pub fn forget_refresh_token(&self) {
        self.state().grants.forget();
    }

    /// A signed token of these texts, whatever they are.
    pub fn sign(&self, header: &str, payload: &str) -> String {
        self.state().sign(header, payload)
    }

    fn state(&self) -> MutexGuard<'_, IssuerState> {
        self.shared.state.lock().unwrap()
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for a connection.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

impl IssuerState {
    fn id(&self) -> String {
        format!("key-{}", self.rotations)
    }

    fn sign(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", b64(header), b64(payload));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", b64(signature))
    }

    fn token(&mut self, issuer: &str, subject: &str, seconds: i64, claims: &Value) -> String {
        let number = self.tokens;
        self.tokens += 1;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
        let mut payload = json!({
            "iss": issuer, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + seconds,
            "jti": format!("token-{number}"),
        });
        for (name, value) in claims.as_object().unwrap() {
            payload[name] = value.clone();
        }
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": self.id() });
        self.sign(&header.to_string(), &payload.to_string())
    }

    /// Status and body of the answer of the token endpoint.
    fn granted(&mut self, request: &Request, port: u16) -> (u16, Value) {
        let form = grants::form(&request.body);
        if let Some(wanted) = exchange::request(&form) {
            return self.exchanged(request, &wanted, port);
        }
        let refresh = match self.grants.decide(&form) {
            Granted::Error(code) => return (400, json!({ "error": code })),
            Granted::Token(refresh) => refresh,
        };
        let (subject, claims) = (self.grants.subject.clone(), self.grants.claims.clone());
        let seconds = self.grants.seconds;
        let token = self.token(&name(port), &subject, seconds, &claims);
        let mut answer =
            json!({ "access_token": token, "token_type": "Bearer", "expires_in": seconds });
        if let Some(refresh) = refresh {
            answer["refresh_token"] = refresh.into();
        }
        (200, answer)
    }

    /// The way in which a request is answered.
    fn serving_of(&self, request: &Request) -> Serving {
        match request.path.ends_with("/introspect") {
            true => self.introspection,
            false => self.serving,
        }
    }

    /// Status and body of the answer whether a token is active.
    fn introspected(&self, request: &Request) -> (u16, Value) {
        if !request.is_of_client() {
            return (401, json!({ "error": "invalid_client" }));
        }
        let form = grants::form(&request.body);
        let token = form.iter().find(|(name, _)| name == "token").map(|(_, token)| token);
        let is_token = token.is_some_and(|token| token.split('.').count() == 3);
        let is_active = is_token && token.is_some_and(|token| !self.inactive.contains(token));
        (200, json!({ "active": is_active }))
    }

    fn jwks(&self) -> Value {
        let point = &self.key.public_key().as_ref()[1..];
        let (x, y) = point.split_at(32);
        let (x, y, id) = (b64(x), b64(y), self.id());
        let key = json!({ "kty": "EC", "crv": "P-256", "use": "sig", "kid": id, "x": x, "y": y });
        json!({ "keys": [key] })
    }

    /// Status, further headers and body of the answer to a request.
    fn answer(&mut self, request: &Request, port: u16) -> (u16, String, String) {
        let fine = |body: String| (200, String::new(), body);
        if self.bearer.as_ref().is_some_and(|wanted| request.bearer.as_ref() != Some(wanted)) {
            return (401, String::new(), String::new());
        }
        let is_keys = request.path.ends_with("/keys");
        let is_introspection = request.path.ends_with("/introspect");
        match self.serving_of(request) {
            Serving::Redirect => (302, format!("location: {}/keys\r\n", name(port)), String::new()),
            Serving::Status(status) => (status, String::new(), String::new()),
            Serving::Huge => fine(format!("{{\"keys\":[{}]}}", "null,".repeat(500_000))),
            Serving::Garbage => fine("<html>".to_owned()),
            Serving::UselessKeys if is_keys => fine("{\"keys\":[{\"kty\":\"oct\"}]}".to_owned()),
            _ if is_keys => fine(self.jwks().to_string()),
            Serving::Well if is_introspection => {
                let (status, answer) = self.introspected(request);
                (status, String::new(), answer.to_string())
            }
            _ if is_introspection => fine(json!({ "active": "true" }).to_string()),
            Serving::Well if request.path.ends_with("/token") => {
                let (status, answer) = self.granted(request, port);
                (status, String::new(), answer.to_string())
            }
            Serving::Well if request.path.ends_with("/device") => {
                fine(self.grants.device(&name(port)).to_string())
            }
            serving => {
                let (mut issuer, mut keys) = (name(port), format!("{}/keys", name(port)));
                match serving {
                    Serving::OtherIssuer => issuer.push('/'),
                    Serving::Elsewhere => keys = "https://127.0.0.2/keys".to_owned(),
                    _ => {}
                }
                let document = json!({
                    "issuer": issuer, "jwks_uri": keys,
                    "token_endpoint": format!("{}/token", name(port)),
                    "device_authorization_endpoint": format!("{}/device", name(port)),
                    "introspection_endpoint": format!("{}/introspect", name(port)),
                });
                fine(document.to_string())
            }
        }
    }
}

fn name(port: u16) -> String {
    format!("http://127.0.0.1:{port}/realm")
}

fn new_key() -> EcdsaKeyPair {
    let (kind, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(kind, pkcs8.as_ref(), &random).unwrap()
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn serve(listener: &TcpListener, port: u16, shared: &Arc<IssuerShared>) {
    for stream in listener.incoming() {
        if shared.is_over.load(Ordering::Relaxed) {
            return;
        }
        let (Ok(stream), shared) = (stream, Arc::clone(shared)) else { continue };
        // A client may go away at any time.
        thread::spawn(move || drop(answer(stream, port, &shared)));
    }
}

fn answer(mut stream: TcpStream, port: u16, shared: &IssuerShared) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let request = Request::read(&mut reader)?;
    shared.requests.fetch_add(1, Ordering::Relaxed);
    let (serving, (status, headers, body)) = {
        let mut state = shared.state.lock().unwrap();
        (state.serving_of(&request), state.answer(&request, port))
    };
    if serving == Serving::Hanging {
        let hangs = || shared.state.lock().unwrap().serving_of(&request) == Serving::Hanging;
        shared.hanging.fetch_add(1, Ordering::Relaxed);
        while hangs() && !shared.is_over.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(10));
        }
        shared.hanging.fetch_sub(1, Ordering::Relaxed);
        return Ok(());
    }
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} .\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n\
         {body}"
    )
}
