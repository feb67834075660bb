//! Tests that mistakes of CURVE and of messages are found. In a build with the feature `planted`
//! alone.

#[test]
fn each_mistake_of_curve_is_found() {
    let handshakes = "forged::each_forged_handshake_is_refused_and_the_honest_one_is_not";
    zafka_planted::assert_found(&[
        ("nonce-may-fall", "forged::traffic_that_no_client_may_send"),
        ("any-cookie-is-taken", handshakes),
        ("initiate-repeats-a-nonce", handshakes),
        ("vouch-of-any-connection", handshakes),
        ("vouch-for-any-server", handshakes),
        ("a-key-has-two-forms", handshakes),
    ]);
}

#[test]
fn a_token_that_shows_is_found() {
    zafka_planted::assert_found(&[(
        "a-token-shows",
        "curve::a_handshake_shows_the_key_and_the_token_and_answers_with_properties",
    )]);
}

#[test]
fn a_frame_that_is_lost_is_found() {
    zafka_planted::assert_found(&[(
        "a-frame-is-lost",
        "traffic::messages_that_come_together_are_the_same_as_one_by_one",
    )]);
}
