//! Our CURVE client at a server of libzmq (pyzmq): who is let in, and what is told otherwise.

use zafka_testkit::child::{Running, command};
use zafka_testkit::paths::RunDir;
use zafka_testkit::wait_until;

use super::{Curve, Keys};
use crate::common::endpoint;
use crate::{DEADLINE, ZAFKA};

#[test]
#[ignore = "needs Python"]
fn tap_at_a_server_of_libzmq() {
    let keys = Keys::make(&["server", "other", "me", "stranger"], &["me"]);
    let (endpoint, logs) = (endpoint(), RunDir::new("tap"));
    let (ours, known) = (keys.secret("server"), keys.path("keys.d"));
    let (ours, known) = (ours.to_str().unwrap(), known.to_str().unwrap());
    let server = Curve::start("XPUB", &endpoint, &["--ours", ours, "--known", known, "t|a value"]);
    server.wait_event("LISTENING");
    for (number, (server, ours, told)) in [
        ("server", "me", "a value"),
        // libzmq closes whoever takes it for another one, and says nothing.
        ("other", "me", "the other side closed the connection"),
        ("server", "stranger", "the peer reports an error: \"400\""),
    ]
    .into_iter()
    .enumerate()
    {
        let (server, ours) = (keys.public(server), keys.secret(ours));
        let mut tap = command(ZAFKA);
        tap.args(["tap", &endpoint, "--frames", "value", "--server-key"]).arg(server);
        tap.arg("--curve-key").arg(ours);
        let tap = Running::start(tap, &logs.join(&number.to_string()));
        wait_until(told, DEADLINE, || tap.log().contains(told));
        assert_eq!(tap.log().contains("a value"), told == "a value", "{}", tap.log());
    }
    assert!(server.has_event("HANDSHAKE_SUCCEEDED"));
}
