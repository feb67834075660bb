use std::fs::OpenOptions;

use rustix::fs::{CWD, Mode as FileMode, mkfifoat};
use zafka_sockets::Endpoint;
use zafka_testkit::Issuer;
use zafka_testkit::ports::free_port;
use zafka_zmtp::curve::ServerSide;

use super::*;
use crate::identity::start;
use crate::identity::tests::{DEADLINE, config, key};

/// An endpoint on a free port, with this mechanism.
fn at(endpoint: &Endpoint, mechanism: Mechanism) -> EndpointConfig {
    EndpointConfig { endpoint: endpoint.clone(), mechanism }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stops_while_it_waits_for_a_token() {
    let (issuer, folder) = (Issuer::start(), tempfile::tempdir().unwrap());
    let mut identity = start(&config(&issuer)).unwrap();
    let endpoint: Endpoint = format!("tcp://127.0.0.1:{}", free_port()).parse().unwrap();
    let server = ServerSide { keys: vec![key(1)], random };
    let door = at(&endpoint, Mechanism::CurveServer(Arc::new(server)));
    identity.open_door(&[door]).await.unwrap();
    let client = ClientSide { keys: key(2), server: key(1).public(), token: None, random };
    // It is read until somebody has written into it, which nobody does.
    let path = folder.path().join("token");
    mkfifoat(CWD, &path, FileMode::RUSR | FileMode::WUSR).unwrap();
    let enrolment = Enrolment {
        endpoint: at(&endpoint, Mechanism::CurveClient(Arc::new(client))),
        tokens: Tokens::File(path.clone()),
        mode: Mode::Keep,
        patience: None,
    };
    let mut writer = None;
    let is_read = async {
        let opened = spawn_blocking(move || OpenOptions::new().write(true).open(path));
        writer = Some(opened.await.unwrap().unwrap());
    };
    timeout(DEADLINE, run(enrolment, is_read)).await.unwrap().unwrap();
    assert!(writer.is_some(), "it was about to read");
}
