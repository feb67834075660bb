//! Tests that mistakes about rights are found. In a build with the feature `planted` alone.

#[test]
fn each_mistake_about_rights_is_found() {
    zafka_planted::assert_found(&[
        ("all-labels-are-one", "curve::peers_are_owed_what_they_may_have"),
        (
            "who-may-not-have-it-counts",
            "curve::who_may_not_have_something_does_not_count_for_min_peers",
        ),
        ("ended-access-goes-on", "curve::a_peer_whose_access_ends_is_closed_and_the_others_stay"),
    ]);
}
