//! Tests that mistakes of the producer are found. `produce::partition::sim` plants others of its
//! own.

#[test]
fn a_wrong_partition_is_found() {
    zafka_planted::assert_found(&[(
        "keys-go-one-partition-further",
        "produce::partitioner::tests::keys_go_where_the_java_client_sends_them",
    )]);
}
