//! Brokers that are old, speak something else, or break off.

use kafka_protocol::messages::ApiVersionsResponse;

use super::fake::{self, api_versions};
use super::*;
use crate::config::Tls;

/// KIP-511: error 35 comes in version 0, whatever version was asked for.
#[tokio::test]
async fn a_broker_that_does_not_know_our_version_of_api_versions_is_asked_in_its_own() {
    let mut first = true;
    let address = fake::broker(move |asked| {
        if std::mem::take(&mut first) {
            let request: ApiVersionsRequest = asked.read();
            assert_eq!((asked.version, &*request.client_software_name), (3, "zafka"));
            assert_eq!(&*request.client_software_version, env!("CARGO_PKG_VERSION"));
            let code = ResponseError::UnsupportedVersion.code();
            let response = ApiVersionsResponse::default().with_error_code(code);
            return asked.answer_in::<ApiVersionsRequest>(0, &response);
        }
        assert_eq!(asked.version, 0);
        asked.answer::<ApiVersionsRequest>(&api_versions())
    })
    .await;
    let connection = connector().connect(&address).await.unwrap();
    assert_eq!(connection.version(ApiKey::Metadata, 9..=13), Some(12));
    assert_eq!(connection.version(ApiKey::Metadata, 13..=13), None);
}

#[tokio::test]
async fn an_error_in_the_answer_is_told() {
    let address = fake::broker(|asked| {
        let response =
            ApiVersionsResponse::default().with_error_code(ResponseError::InvalidRequest.code());
        asked.answer::<ApiVersionsRequest>(&response)
    })
    .await;
    let error = connector().connect(&address).await.err().unwrap().to_string();
    assert!(error.starts_with(&format!("{address}: ApiVersions: ")), "{error}");
}

/// Answers of a peer to the first request that are none, and the errors they give.
#[tokio::test]
async fn answers_that_are_none() {
    // An alert as Java's TLS sends it: fatal, unexpected message.
    let alert = [0x15, 3, 3, 0, 2, 2, 10];
    for (sent, told) in [
        (Vec::new(), "the connection was closed"),
        (alert.to_vec(), "the answer is TLS: the listener wants it (kafka.security.tls)"),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            "an answer of 1213486160 bytes, where at most 1048576 are taken",
        ),
        // The correlation id is cut off.
        (framed(&[0, 0, 0]), "an answer that cannot be read: it ends too early"),
        (framed(&[0, 0, 0, 1]), "an answer that cannot be read: it ends too early"),
        (
            framed(&[0, 0, 0, 1, 0, 35, 0x7f, 0xff, 0xff, 0xff]),
            // Asked again, it gives the same answer, to request 1.
            "an answer to request 1 instead of 2",
        ),
        (
            framed(&[0, 0, 0, 1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]),
            "an answer that cannot be read: 4294967294 entries said to be in 0 bytes",
        ),
    ] {
        let address = fake::broker(move |_| sent.clone()).await;
        let error = connector().connect(&address).await.err().unwrap().to_string();
        assert!(error.starts_with(&format!("{address}: {told}")), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[tokio::test]
async fn a_listener_that_closes_at_the_first_real_request_may_want_sasl() {
    let address = fake::broker(|asked| match asked.key {
        ApiKey::ApiVersions => asked.answer::<ApiVersionsRequest>(&api_versions()),
        _ => Vec::new(),
    })
    .await;
    let mut connection = connector().connect(&address).await.unwrap();
    connection.send(&MetadataRequest::default(), 12).await.unwrap();
    let error = connection.receive(1000).await.unwrap_err().to_string();
    let told = "the connection was closed before the first answer: the listener may want SASL \
                (kafka.security.sasl)";
    assert_eq!(error, format!("{address}: {told}"));
}

#[tokio::test]
async fn a_listener_without_tls_is_told_as_such() {
    let tls = Security { tls: Some(Tls::default()), sasl: None };
    let connector = Connector::new(&ClusterConfig { security: tls, ..plain() }, None).unwrap();
    // A broker takes the handshake for a request that is far too large, and closes; others answer
    // in their own way.
    for sent in
        [&b""[..], b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\0\x0a\0\0\0\x01\0\x23\0\0\0\0"]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 5]).await;
            stream.write_all(sent).await.unwrap();
        });
        let error = connector.connect(&address).await.err().unwrap().to_string();
        let told = "the TLS handshake was not answered by TLS: the listener may be one without it \
                    (kafka.security.tls)";
        assert_eq!(error, format!("{address}: {told}"));
    }
}

#[tokio::test]
async fn nobody_there() {
    let address = "127.0.0.1:1";
    let error = connector().connect(address).await.err().unwrap().to_string();
    assert_eq!(error, "127.0.0.1:1: Connection refused (os error 111)");
}

/// The wait for an answer can be given up at any byte of it, and taken up again.
#[tokio::test]
async fn waiting_for_an_answer_can_be_given_up_at_any_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // ApiVersions with one entry, then an answer to Metadata whose body is ours.
        let versions = [0, 0, 0, 1, 0, 0, 2, 0, 3, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0];
        let metadata = [0, 0, 0, 2, 0, b'm', b'i', b'n', b'e'];
        for answer in [&versions[..], &metadata] {
            let size = stream.read_u32().await.unwrap();
            stream.read_exact(&mut vec![0; size as usize]).await.unwrap();
            for byte in framed(answer) {
                stream.write_all(&[byte]).await.unwrap();
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        std::future::pending::<()>().await;
    });
    let mut connection = connector().connect(&address).await.unwrap();
    connection.send(&MetadataRequest::default(), 12).await.unwrap();
    let mut given_up = 0;
    let body = loop {
        match timeout(Duration::from_millis(1), connection.receive(1000)).await {
            Ok(body) => break body.unwrap(),
            Err(_) => given_up += 1,
        }
    };
    assert_eq!(body, "mine");
    assert!(given_up > 0);
    let error = Connection::receive(&mut connection, 1000);
    assert!(timeout(Duration::from_millis(5), error).await.is_err(), "nothing more is there");
}
