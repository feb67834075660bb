//! A user's login that several commands use at once.

use std::fs::OpenOptions;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::fs::{FlockOperation, flock};
use serde_json::json;
use zafka_testkit::child::{Running, command, spawn};
use zafka_testkit::{Issuer, wait_until};

use crate::program::{run, run_with};
use crate::{DEADLINE, ZAFKA};

/// A `zafka tap` with the login that is kept below a folder.
fn tap(endpoint: &str, server_key: &Path, state: &Path, log: &Path) -> Running {
    let mut zafka = command(ZAFKA);
    zafka.args(["tap", endpoint, "--login", "--server-key"]).arg(server_key);
    zafka.env("XDG_STATE_HOME", state).stdin(Stdio::null()).stdout(Stdio::null());
    zafka.stderr(std::fs::File::create(log).unwrap());
    Running::adopt(spawn(zafka), log)
}

#[test]
fn two_commands_renew_one_login_once() {
    let (issuer, folder) = (Issuer::start(), tempfile::tempdir().unwrap());
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    let (exit, _, err) = run(&["keygen", path("relay").to_str().unwrap()]);
    assert!(exit.success(), "{err}");
    // So short that no command shows it.
    issuer.grant("alice", 5, &json!({}));
    let state = path("state");
    let environment = [("XDG_STATE_HOME", state.to_str().unwrap())];
    let login = ["login", "--issuer", &issuer.name(), "--client-id", "cli"];
    let (exit, _, err) = run_with(&login, &environment);
    assert!(exit.success(), "{err}");
    issuer.grant("alice", 600, &json!({}));

    // As a third command that is at it.
    let lock = OpenOptions::new().write(true).open(state.join("zafka/login.lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let relay = TcpListener::bind("127.0.0.1:0").unwrap();
    relay.set_nonblocking(true).unwrap();
    let endpoint = format!("tcp://{}", relay.local_addr().unwrap());
    let before = issuer.requests();
    let mut taps = ["first", "second"].map(|name| {
        let log = path(name);
        (tap(&endpoint, &path("relay.key"), &state, &log), log)
    });
    // Nothing tells that they wait for it: that they do not, would be seen by this now and then.
    assert_eq!(issuer.requests(), before);
    drop(lock);
    // Who connects has a token.
    let mut connected = Vec::new();
    wait_until("both to connect", DEADLINE, || {
        for (tap, log) in &mut taps {
            let log = || std::fs::read_to_string(&*log).unwrap();
            assert!(tap.is_running(), "{}", log());
        }
        connected.extend(relay.accept().ok());
        connected.len() == 2
    });
    assert_eq!(issuer.requests() - before, 2, "one discovery, and one refresh token");
}
