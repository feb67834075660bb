//! Tests that the mistakes of the way to Kafka are found.

#[test]
fn each_mistake_of_the_identities_is_found() {
    let identities = |test: &str| format!("zmq_to_kafka::identities::tests::{test}");
    let sent = identities("what_was_sent_before_the_end_is_waited_for");
    let refused = identities("one_that_nobody_takes_is_not_tried_again_at_once");
    zafka_planted::assert_found(&[
        ("sent-records-are-forgotten", &sent),
        ("an-ended-identity-writes-on", &refused),
    ]);
}

#[test]
fn each_mistake_of_the_ledger_is_found() {
    let ledger = |test: &str| format!("zmq_to_kafka::ledger::tests::{test}");
    let batch = ledger("a_batch_is_told_after_its_last_record");
    let order = ledger("answers_without_ids_keep_the_order_of_each_sender");
    let ticket = ledger("a_ticket_of_before_says_nothing_of_who_is_there_now");
    zafka_planted::assert_found(&[
        ("told-before-its-last-record", &batch),
        ("unknown-is-told-failed", &batch),
        ("answers-overtake", &order),
        ("a-ticket-is-anybodys", &ticket),
    ]);
}
