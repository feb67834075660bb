//! What a record is on the other side.

use zafka_testkit::{Checker, KafkaNode, LibzmqSub, Sequence, Session, Zafka, ports, unique};

use crate::{DEADLINE, ZAFKA, decoded};

#[test]
#[ignore = "needs Java and Maven"]
fn every_record_of_every_partition_arrives_in_order() {
    let kafka = KafkaNode::shared();
    let topic = unique("orders");
    kafka.admin().create_topic(&topic, 3, &[]);
    let sequence = Sequence { partitions: vec![0, 1, 2], ..Sequence::new(&topic, 30_000) };
    let produced = kafka.admin().produce_sequence(&sequence);
    let port = ports::free_port();
    let bootstrap = kafka.bootstrap();
    let mut relay = Zafka::run(
        ZAFKA,
        &format!(
            r#"
            [kafka]
            bootstrap_servers = ["{bootstrap}"]
            [[route]]
            name = "orders"
            from.kafka = {{ topics = ["{topic}"], group = "{topic}", start = "earliest" }}
            to.zmq = {{ socket = "pub", bind = ["tcp://127.0.0.1:{port}"], slow_peer = "block", min_peers = 1 }}
            "#
        ),
    );
    let subscriber = LibzmqSub::connect(&format!("tcp://127.0.0.1:{port}"), &[topic.as_str()]);
    let messages = decoded(&subscriber.wait_messages(30_000, DEADLINE));
    let mut checker = Checker::new();
    checker.expect_sequence(&sequence, &produced);
    checker.assert(&[Session::new(messages)]);
    relay.terminate();
    assert!(relay.wait_exit(DEADLINE).success(), "{}", relay.log());
    let committed = kafka.admin().committed(&topic);
    assert_eq!(committed.values().sum::<i64>(), 30_000, "all that was delivered is committed: {committed:?}");
}
