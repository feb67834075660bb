//! A relay whose wall clock is set while it runs (libfaketime): nobody is let in who was not.

use std::fs;
use std::path::Path;

use serde_json::json;
use zafka_testkit::issuer::AUDIENCE;
use zafka_testkit::{Issuer, Zafka, wait_until};

use super::{Curve, Keys};
use crate::common::endpoint;
use crate::{DEADLINE, ZAFKA};

/// The library that is preloaded, by the name that Debian gives it on each architecture.
fn library() -> String {
    let folders = fs::read_dir("/usr/lib").unwrap().flatten();
    let paths = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    let found = paths.into_iter().find(|path| path.exists()).expect("libfaketime is not installed");
    found.to_str().unwrap().to_owned()
}

/// Sets the relay's clock; the file is never half written.
fn set(clock: &Path, offset: &str) {
    let new = clock.with_extension("new");
    fs::write(&new, offset).unwrap();
    fs::rename(new, clock).unwrap();
}

#[test]
#[ignore = "needs Python and libfaketime"]
fn a_clock_that_is_set_lets_nobody_in() {
    let (issuer, names) =
        (Issuer::start(), ["relay", "alice", "bob-0", "bob-1", "bob-2", "carol", "eve"]);
    let (keys, endpoint) = (Keys::make(&names, &[]), endpoint());
    let rules = format!(
        "clock_skew = \"1s\"\n[[identity.issuer]]\nissuer = {0:?}\naudience = [{AUDIENCE:?}]\n\
         [[identity.access]]\nwho = {{ iss = {0:?} }}\nread = [\"t\"]",
        issuer.name()
    );
    // No broker is needed to be let in.
    let toml = format!(
        "[kafka]\nbootstrap_servers = [\"127.0.0.1:1\"]\n{}[[route]]\nname = \"r\"\n\
         from.kafka = {{ topics = [\"t\"] }}\nto.zmq = {{ socket = \"pub\", \
         bind = [\"{endpoint}\"] }}\n",
        keys.toml(&rules)
    );
    let clock = keys.path("clock");
    set(&clock, "+0");
    let environment = [
        ("LD_PRELOAD", &*library()),
        ("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        // The other clock goes on as it is, as it does if the wall clock is set.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    let relay = Zafka::run_with(ZAFKA, &toml, &environment);
    let peer = |name: &str, seconds| {
        let (server, ours) = (keys.public("relay"), keys.secret(name));
        let token = issuer.token(name, seconds, &json!({}));
        Curve::with_token("SUB", &endpoint, &server, ours.to_str().unwrap(), &[""], &token)
    };
    let has_expired = |name: &str| {
        let certificate = fs::read_to_string(keys.public(name)).unwrap();
        let key = certificate.split('"').nth(1).unwrap().to_owned();
        let log = relay.log();
        log.lines().any(|line| line.contains(&key) && line.contains("it has expired"))
    };
    let wait_expired = |name: &str| {
        wait_until(&format!("{name}'s token has expired"), DEADLINE, || has_expired(name));
    };
    let alice = peer("alice", 600);
    alice.wait_event("HANDSHAKE_SUCCEEDED");
    // As short as the machine is fast enough for.
    let bobs = [("bob-0", 15), ("bob-1", 25), ("bob-2", 40)];
    let mut bobs = bobs.into_iter().filter_map(|(name, seconds)| {
        let bob = peer(name, seconds);
        wait_until("bob is in, or late", DEADLINE, || bob.times_in() > 0 || has_expired(name));
        (bob.times_in() > 0).then_some((name, bob))
    });
    let (bobs_name, bob) = bobs.next().expect("forty seconds are too few to connect");

    // Set back: who had some seconds has no more than that, and what has ended is not good
    // again.
    set(&clock, "-1h");
    let eve = peer("eve", -100);
    wait_expired("eve");
    bob.wait_event("DISCONNECTED");
    // Clocks are compared in whole seconds: he may have been back for the last one.
    wait_expired(bobs_name);
    let bobs = bob.times_in();
    assert_eq!((alice.times_in(), eve.times_in()), (1, 0));
    assert!(!alice.has_event("DISCONNECTED"), "her token holds");

    // Set forward: it is believed, and keeps out.
    set(&clock, "+1h");
    alice.wait_event("DISCONNECTED");
    let carol = peer("carol", 600);
    wait_expired("carol");
    wait_expired("alice");
    assert_eq!((alice.times_in(), carol.times_in()), (1, 0));

    // Set right: whose tokens hold are back by themselves, and nobody else is.
    set(&clock, "+0");
    wait_until("alice and carol are in", DEADLINE, || {
        alice.times_in() == 2 && carol.times_in() == 1
    });
    assert_eq!((bob.times_in(), eve.times_in()), (bobs, 0));
}
