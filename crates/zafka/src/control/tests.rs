//! The control socket of a gate, asked over its file.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;
use zafka_sockets::gate::Gate;
use zafka_testkit::Issuer;

use super::*;
use crate::identity::start;
use crate::identity::tests::{
    DEADLINE, admitted, config, dash, kept_out, key, shown, wait_admitted,
};

fn subject(name: &str) -> ControlRequest {
    let what = What::Subject { issuer: None, subject: name.to_owned() };
    ControlRequest::Revoke { what, seconds: 60 }
}

#[tokio::test]
async fn leases_are_listed_and_revoked() {
    let issuer = Issuer::start();
    let identity = start(&config(&issuer)).unwrap();
    let gate = &identity.gate;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control");
    let control = Control::bind(&path, std::sync::Arc::clone(gate)).await.unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(ask(&path, &ControlRequest::Leases {}).await.unwrap(), []);

    let token = issuer.token("alice", 600, &json!({ "jti": "t-1" }));
    let alice = wait_admitted(gate, 2, &token).await;
    let bob = wait_admitted(gate, 3, &issuer.token("bob", 600, &dash())).await;
    let lines = ask(&path, &ControlRequest::Leases {}).await.unwrap();
    let [one, other] = &lines[..] else { panic!("{lines:?}") };
    let of_alice = [one, other].into_iter().find_map(|line| match line {
        Line::Lease(lease) if lease.subject == "alice" => Some(lease.clone()),
        _ => None,
    });
    let of_alice = of_alice.unwrap();
    assert_eq!(of_alice.key, key(2).public().to_string());
    assert_eq!((of_alice.issuer, of_alice.token_id), (issuer.name(), Some("t-1".to_owned())));
    assert_eq!(of_alice.connections, 1);

    let ends = gate.ends();
    let revoked = ask(&path, &subject("alice")).await.unwrap();
    let [Line::Revoked(line)] = &revoked[..] else { panic!("{revoked:?}") };
    assert_eq!((&*line.revoked, line.keys, line.connections), ("subject alice", 1, 1));
    assert_eq!(line.until, of_alice.until, "as long as the token lives");
    assert!(ends.has_changed().unwrap() && !alice.holds() && bob.holds());
    // Neither the token nor a fresh one brings her back; bob comes and goes.
    for (number, token) in [(2, token), (4, issuer.token("alice", 900, &dash()))] {
        let (may_retry, why) = kept_out(shown(gate, number, &token));
        assert!(!may_retry && why.contains("revoked"), "{why}");
    }
    admitted(shown(gate, 3, ""));
    assert_eq!(ask(&path, &ControlRequest::Leases {}).await.unwrap().len(), 1);
    // The key that signs all of an issuer's tokens; that of another issuer is another key.
    let of_all = issuer.jwks()["keys"][0]["kid"].as_str().unwrap().to_owned();
    let signed_by = |issuer: &str| {
        let (issuer, id) = (issuer.to_owned(), of_all.clone());
        ControlRequest::Revoke { what: What::SignedBy { issuer, id }, seconds: 60 }
    };
    let revoked = ask(&path, &signed_by("https://other")).await.unwrap();
    assert!(matches!(&revoked[..], [Line::Revoked(line)] if line.keys == 0), "{revoked:?}");
    assert!(bob.holds());
    let revoked = ask(&path, &signed_by(&issuer.name())).await.unwrap();
    assert!(matches!(&revoked[..], [Line::Revoked(line)] if line.keys == 1), "{revoked:?}");
    let (may_retry, why) = kept_out(shown(gate, 5, &issuer.token("dora", 600, &dash())));
    assert!(!bob.holds() && !may_retry && why.contains("revoked"), "{why}");
    // What is not there is revoked all the same.
    let revoked = ask(&path, &subject("carol")).await.unwrap();
    assert!(matches!(&revoked[..], [Line::Revoked(line)] if line.keys == 0), "{revoked:?}");

    // The file is gone with the socket.
    drop(control);
    let gone = async {
        while path.exists() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, gone).await.unwrap();
    let error = ask(&path, &ControlRequest::Leases {}).await.unwrap_err().to_string();
    assert!(error.contains("control"), "{error}");
}

#[tokio::test]
async fn requests_that_are_none() {
    let issuer = Issuer::start();
    let identity = start(&config(&issuer)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control");
    let _control = Control::bind(&path, std::sync::Arc::clone(&identity.gate)).await.unwrap();
    for (request, told) in [
        ("{\"command\":\"leases\"}\n".to_owned(), "\"end\"\n"),
        // Each is this with one thing changed.
        ("{\"command\":\"leases\"}\nmore".to_owned(), "\"end\"\n"),
        ("{\"command\":\"lease\"}\n".to_owned(), "{\"error\":\"not a request"),
        ("{\"command\":\"leases\",\"x\":1}\n".to_owned(), "{\"error\":\"not a request"),
        ("leases\n".to_owned(), "{\"error\":\"not a request"),
        ("\n".to_owned(), "{\"error\":\"not a request"),
        ("x".repeat(100_000) + "\n", "{\"error\":\"not a request"),
        (
            "{\"command\":\"revoke\",\"what\":{\"key\":\"x\"},\"seconds\":1}\n".to_owned(),
            "{\"error\":\"1 characters",
        ),
    ] {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        // It may have been answered before all of it was sent.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        // What was not read may end the connection the hard way.
        let reading =
            async { while stream.read_buf(&mut answer).await.is_ok_and(|read| read > 0) {} };
        timeout(DEADLINE, reading).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with(told), "{request:.60}: {answer}");
    }
    // Another socket, which is none of a relay's.
    let other = folder.path().join("other");
    let listener = tokio::net::UnixListener::bind(&other).unwrap();
    let stranger = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(b"hello\n").await;
    });
    let error = ask(&other, &ControlRequest::Leases {}).await.unwrap_err().to_string();
    assert!(error.contains("none of a relay's"), "{error}");
    stranger.await.unwrap();
}
