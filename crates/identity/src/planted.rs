//! Planted mistakes about rights, each of which a test must find.

#[test]
fn each_mistake_about_tokens_is_found() {
    let directory = |test: &str| format!("directory::tests::{test}");
    let confirmed = directory("a_token_that_is_to_be_confirmed_gives_no_lease_before");
    let inactive = directory("an_inactive_token_lets_in_nobody_any_more");
    zafka_planted::assert_found(&[
        ("any-audience-will-do", "token::tests::claims"),
        ("an-hour-of-leeway", "token::tests::claims"),
        ("the-header-chooses-the-algorithm", "token::tests::headers"),
        ("a-token-lets-in-any-key", &directory("leases_that_are_not_given")),
        ("a-renewal-keeps-old-rights", &directory("a_later_token_renews")),
        ("a-lease-begins-unconfirmed", &confirmed),
        ("an-inactive-token-ends-nothing", &inactive),
        ("an-inactive-token-comes-back", &inactive),
    ]);
}

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
