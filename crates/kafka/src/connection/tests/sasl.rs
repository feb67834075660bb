//! Authentication at a broker that answers by a script.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::Ordering::SeqCst;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use kafka_protocol::messages::SaslAuthenticateResponse;
use sha2::{Digest, Sha256};
use zafka_oidc::{ClientAuthentication, EndpointConfig, Grant, SecretSource, TokenConfig};

use super::fake::{Count, broker, sasl};
use super::*;
use crate::config::{Credentials, OAuthBearer, Sasl, Secret};

fn credentials() -> Credentials {
    Credentials { username: "zafka".to_owned(), password: Secret::new("s3cret") }
}

fn secured(sasl: Sasl, tokens: Option<Arc<Bearer>>) -> Arc<Connector> {
    let security = Security { tls: None, sasl: Some(sasl) };
    Connector::new(&ClusterConfig { security, ..plain() }, tokens).unwrap()
}

fn accepted(bytes: impl Into<Bytes>) -> SaslAuthenticateResponse {
    SaslAuthenticateResponse::default().with_auth_bytes(bytes.into())
}

fn refused(message: &'static str) -> SaslAuthenticateResponse {
    let message = StrBytes::from_static_str(message);
    SaslAuthenticateResponse::default()
        .with_error_code(ResponseError::SaslAuthenticationFailed.code())
        .with_error_message(Some(message))
}

#[tokio::test]
async fn a_password_is_sent_and_a_refusal_is_told_in_the_broker_s_words() {
    let address = broker(sasl("PLAIN", |message| {
        assert_eq!(message, "\0zafka\0s3cret");
        accepted("")
    }))
    .await;
    secured(Sasl::Plain(credentials()), None).connect(&address).await.unwrap();

    let address =
        broker(sasl("PLAIN", |_| refused("Authentication failed: Invalid\nusername"))).await;
    let connector = secured(Sasl::Plain(credentials()), None);
    for _ in 0..2 {
        let error = connector.connect(&address).await.err().unwrap();
        assert!(error.is_refusal());
        assert_eq!(
            error.to_string(),
            format!("{address}: SASL PLAIN: Authentication failed: Invalid username")
        );
    }
}

#[tokio::test]
async fn a_mechanism_that_the_broker_does_not_have() {
    let address = broker(sasl("PLAIN", |_| unreachable!())).await;
    let connector = secured(Sasl::ScramSha256(credentials()), None);
    let error = connector.connect(&address).await.err().unwrap().to_string();
    assert!(error.starts_with(&format!("{address}: SASL SCRAM-SHA-256: ")), "{error}");
    assert!(error.ends_with("the broker has PLAIN"), "{error}");
}

fn hmac_sha256(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

/// The server's side of SCRAM-SHA-256 (RFC 5802 section 3). It knows `password`, and proves that
/// with `proof` of it.
fn scram_server(
    password: &'static str,
    proof: fn(Vec<u8>) -> Vec<u8>,
) -> impl FnMut(Bytes) -> SaslAuthenticateResponse {
    let mut begun: Option<(String, String)> = None;
    move |message| {
        let message = String::from_utf8(message.to_vec()).unwrap();
        let Some((first, challenge)) = begun.take() else {
            let first = message.strip_prefix("n,,").unwrap().to_owned();
            let nonce = first.strip_prefix("n=zafka,r=").unwrap();
            let challenge = format!("r={nonce}-and-more,s={},i=4096", STANDARD.encode("salt"));
            begun = Some((first, challenge.clone()));
            return accepted(challenge);
        };
        let (without_proof, sent) = message.rsplit_once(",p=").unwrap();
        let salted = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), b"salt", 4096);
        let signed = format!("{first},{challenge},{without_proof}");
        let stored = Sha256::digest(hmac_sha256(&salted, b"Client Key"));
        let signature = hmac_sha256(&stored, signed.as_bytes());
        let sent = STANDARD.decode(sent).unwrap();
        let key: Vec<u8> = sent.iter().zip(&signature).map(|(sent, byte)| sent ^ byte).collect();
        if Sha256::digest(key) != stored {
            return refused("invalid credentials");
        }
        let signature = hmac_sha256(&hmac_sha256(&salted, b"Server Key"), signed.as_bytes());
        accepted(format!("v={}", STANDARD.encode(proof(signature))))
    }
}

#[tokio::test]
async fn both_sides_of_scram_prove_that_they_know_the_password() {
    let connector = secured(Sasl::ScramSha256(credentials()), None);
    let honest = broker(sasl("SCRAM-SHA-256", scram_server("s3cret", |proof| proof))).await;
    connector.connect(&honest).await.unwrap();

    let other = broker(sasl("SCRAM-SHA-256", scram_server("other", |proof| proof))).await;
    let error = connector.connect(&other).await.err().unwrap().to_string();
    assert_eq!(error, format!("{other}: SASL SCRAM-SHA-256: invalid credentials"));

    let false_one = |mut proof: Vec<u8>| {
        proof[31] ^= 1;
        proof
    };
    let false_one = broker(sasl("SCRAM-SHA-256", scram_server("s3cret", false_one))).await;
    let error = connector.connect(&false_one).await.err().unwrap().to_string();
    assert!(error.ends_with("the server does not prove that it knows the password"), "{error}");
}

/// A token endpoint, and how often it was asked. After `answers` it closes connections.
fn token_endpoint(answers: usize, life_seconds: u64) -> (Arc<Bearer>, OAuthBearer, Count) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let secret = SecretSource::Text(Secret::new("s3cret"));
    let tokens = TokenConfig::Endpoint(Box::new(EndpointConfig {
        token_url: format!("http://{}/token", listener.local_addr().unwrap()),
        client_id: Some("zafka".to_owned()),
        authentication: ClientAuthentication::Secret(secret),
        grant: Grant::ClientCredentials,
        scope: Vec::new(),
        audience: None,
        resource: None,
        ca: None,
    }));
    let extensions = vec![("logicalCluster".to_owned(), "c".to_owned())];
    let client = OAuthBearer { tokens, extensions };
    let asked = Count::default();
    let counted = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let number = counted.fetch_add(1, SeqCst);
            if number >= answers {
                continue;
            }
            // All of the request: a close with something unread would be a reset.
            let mut request = Vec::new();
            while !String::from_utf8_lossy(&request).contains("grant_type=client_credentials") {
                let mut part = [0; 4096];
                match stream.read(&mut part) {
                    Ok(read @ 1..) => request.extend_from_slice(&part[..read]),
                    _ => break,
                }
            }
            let token = format!(
                r#"{{"access_token":"t{number}","token_type":"bearer","expires_in":{life_seconds}}}"#
            );
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\
                        Content-Length";
            let _ = write!(stream, "{head}: {}\r\n\r\n{token}", token.len());
        }
    });
    (Bearer::new(&client).unwrap(), client, asked)
}

#[tokio::test]
async fn a_token_is_sent_and_a_refused_one_is_told_with_its_reason() {
    let (tokens, client, _) = token_endpoint(1, 3600);
    let connector = secured(Sasl::OAuthBearer(client), Some(tokens));
    let address = broker(sasl("OAUTHBEARER", |message| {
        assert_eq!(message, "n,,\x01auth=Bearer t0\x01logicalCluster=c\x01\x01");
        accepted("")
    }))
    .await;
    connector.connect(&address).await.unwrap();

    let mut first = true;
    let address = broker(sasl("OAUTHBEARER", move |message| {
        if std::mem::take(&mut first) {
            return accepted(r#"{"status":"invalid_token"}"#);
        }
        assert_eq!(message, "\x01", "RFC 7628 section 3.2.3");
        refused("failed")
    }))
    .await;
    let error = connector.connect(&address).await.err().unwrap().to_string();
    assert!(error.starts_with(&format!("{address}: invalid_token: ")), "{error}");
    assert!(error.contains("audience") && !error.contains("t0"), "{error}");
}

/// A broker whose sessions last so long, and how often somebody authenticated.
async fn with_sessions(mechanism: &'static str, life: Duration) -> (String, Count) {
    let life_ms = i64::try_from(life.as_millis()).unwrap();
    let count = Count::default();
    let counted = Arc::clone(&count);
    let address = broker(sasl(mechanism, move |_| {
        counted.fetch_add(1, SeqCst);
        accepted("").with_session_lifetime_ms(life_ms)
    }))
    .await;
    (address, count)
}

#[tokio::test]
async fn a_session_is_renewed_when_its_time_has_come_and_not_before() {
    for (life_ms, renewed) in [(0, false), (3_600_000, false), (1, true)] {
        let (address, count) = with_sessions("PLAIN", Duration::from_millis(life_ms)).await;
        let mut connection =
            secured(Sasl::Plain(credentials()), None).connect(&address).await.unwrap();
        connection.renew().await.unwrap();
        assert_eq!(count.load(SeqCst), 1, "brokers refuse it within a second");
        if renewed {
            while count.load(SeqCst) == 1 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                connection.renew().await.unwrap();
            }
        }
    }
}

#[test]
fn the_last_token_is_good_while_it_lives_and_the_provider_is_away() {
    let (tokens, _, asked) = token_endpoint(1, 10);
    let secret = |token: Token| token.secret.expose().to_owned();
    assert_eq!(secret(tokens.token().unwrap()), "t0");
    while asked.load(SeqCst) == 1 {
        assert_eq!(secret(tokens.token().unwrap()), "t0");
        std::thread::sleep(Duration::from_millis(20));
    }
    let before = asked.load(SeqCst);
    assert_eq!(secret(tokens.living().unwrap()), "t0");
    assert_eq!(secret(tokens.token().unwrap()), "t0");
    assert_eq!(asked.load(SeqCst), before, "it is not asked again at once");
    while tokens.living().is_ok() {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(tokens.token().is_err());
}

#[test]
fn a_token_may_say_that_it_never_ends() {
    let (tokens, _, _) = token_endpoint(1, u64::MAX);
    assert!(tokens.token().is_ok());
}

#[tokio::test]
async fn a_provider_that_is_away_is_no_error_before_the_session_ends() {
    // The token is to be renewed before the session is.
    let (tokens, client, asked) = token_endpoint(1, 1);
    let session = Duration::from_secs(3);
    let (address, count) = with_sessions("OAUTHBEARER", session).await;
    let connector = secured(Sasl::OAuthBearer(client), Some(tokens));
    let began = Instant::now();
    let mut connection = connector.connect(&address).await.unwrap();
    let error = loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        match connection.renew().await {
            Ok(_) => {}
            Err(error) => break error.to_string(),
        }
    };
    assert!(asked.load(SeqCst) > 1, "it was asked for another token");
    assert!(began.elapsed() >= session, "the session had not ended: {error}");
    assert!(error.starts_with(&format!("{address}: no token from http://127.0.0.1:")), "{error}");
    assert_eq!(count.load(SeqCst), 1);
}
