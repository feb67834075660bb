//! That the tests find mistakes about who may do what.

#[test]
fn each_mistake_about_access_is_found() {
    zafka_planted::assert_found(&[
        ("a-removed-key-stays", "directory::tests::what_is_known_of_a_key_changes"),
        ("alternatives-are-open", "pattern::tests::topics_of_a_peer"),
    ]);
}
