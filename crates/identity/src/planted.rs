//! Planted mistakes about rights, each of which a test must find.

#[test]
fn each_mistake_about_access_is_found() {
    zafka_planted::assert_found(&[
        ("a-removed-key-stays", "directory::tests::what_is_known_of_a_key_changes"),
        ("a-revocation-closes-nobody", "directory::tests::what_is_revoked_comes_not_back"),
        ("a-token-comes-back", "revocations::tests::a_revocation_lasts_as_long_as_what_it_means"),
        ("the-door-is-never-busy", "doorkeeper::tests::one_command_a_second_for_each_visitor"),
        ("alternatives-are-open", "pattern::tests::topics_of_a_peer"),
    ]);
}
