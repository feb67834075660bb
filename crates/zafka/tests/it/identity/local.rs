//! A peer on a path of this machine is who the kernel says (libzmq's SUB).

use std::fs;
use std::os::unix::fs::MetadataExt;

use zafka_kafka::embedded::{EmbeddedBroker, EmbeddedRecord};
use zafka_testkit::{LibzmqSub, Zafka};

use super::{Keys, peers};
use crate::{DEADLINE, ZAFKA};

#[test]
fn a_process_gets_what_the_rules_say_of_its_user() {
    let (broker, keys) = (EmbeddedBroker::start().unwrap(), Keys::make(&["relay"], &[]));
    let user = fs::metadata(keys.path("keys.d")).unwrap().uid();
    let endpoint = format!("ipc://{}", keys.path("pub").display());
    let rule = |uid: u32, topic: &str| {
        let who = format!("{{ iss = \"peercred\", uid = {uid} }}");
        format!("[[identity.access]]\nwho = {who}\nread = [\"{topic}\"]\n")
    };
    let toml = format!(
        "[kafka]\nbootstrap_servers = [{:?}]\n{}[[route]]\nname = \"r\"\n\
         from.kafka = {{ topics = [\"ours\", \"theirs\"], start = \"earliest\" }}\n\
         to.zmq = {{ socket = \"pub\", bind = [{endpoint:?}], slow_peer = \"block\", \
         min_peers = 1 }}\n",
        broker.bootstrap(),
        keys.toml(&[rule(user, "ours"), rule(user + 1, "theirs")].concat()),
    );
    ["ours", "theirs"].into_iter().for_each(|topic| broker.create_topic(topic, 1).unwrap());
    let producer = broker.producer().unwrap();
    for (topic, value) in [("theirs", b"no"), ("ours", b"ab"), ("theirs", b"no"), ("ours", b"cd")] {
        let (partition, value) = (Some(0), Some(&value[..]));
        let record = EmbeddedRecord { topic, partition, value, ..EmbeddedRecord::default() };
        producer.send(&record).unwrap();
        producer.flush(DEADLINE).unwrap();
    }
    let mut relay = Zafka::run(ZAFKA, &toml);
    let sub = LibzmqSub::connect(&endpoint, &[""]);
    let values: Vec<_> = sub
        .wait_messages(2, DEADLINE)
        .into_iter()
        .map(|mut frames| frames.pop().unwrap())
        .collect();
    assert_eq!(values, [b"ab", b"cd"]);
    relay.wait_status("it is known by its user", DEADLINE, |status| {
        peers(status) == [user.to_string()]
    });
    assert_eq!(sub.count(), 2);
}
