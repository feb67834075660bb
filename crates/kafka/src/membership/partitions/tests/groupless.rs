//! Tests that listings assign and take away if there is no group.

use super::*;

#[test]
fn listings_assign_and_take_away() {
    // The listed partitions, and the actions, by our own fetcher and by librdkafka.
    let rows: [(i32, &[&str], &[&str]); 7] = [
        (2, &["look up 0 1"], &["look up 0 1"]),
        (2, &[], &["ids t"]),
        (3, &["look up 2"], &["look up 2", "ids t"]),
        // A broker that has just started lists nothing.
        (0, &[], &["remove 0 1 2", "lost 0 1 2"]),
        (3, &[], &["look up 0 1 2"]),
        (0, &[], &["remove 0 1 2", "lost 0 1 2"]),
        (0, &["remove 0 1 2", "lost 0 1 2"], &[]),
    ];
    for fetcher in [FetcherKind::Fast, FetcherKind::Librdkafka] {
        let mut memory = Memory::new(listing(2));
        let settings = MembershipSettings { in_group: false, fetcher, ..settings() };
        let mut stage = Stage::new(settings, &mut memory);
        for (at, (count, fast, librdkafka)) in rows.iter().enumerate() {
            stage.partitions.handle_listing(listing(*count), stage.now);
            let expected = if fetcher == FetcherKind::Fast { fast } else { librdkafka };
            let actions = stage.actions();
            assert_eq!(actions, *expected, "{fetcher:?}, row {at}");
            if actions.iter().any(|action| action.starts_with("look up")) {
                stage.step(Found(&[0, 1, 2]));
            }
            assert!(stage.partitions.is_assigned());
        }
    }
}

#[test]
fn what_is_being_looked_up_is_not_assigned_twice() {
    let mut memory = Memory::new(listing(2));
    let mut stage = Stage::new(MembershipSettings { in_group: false, ..settings() }, &mut memory);
    for expected in [&["look up 0 1"][..], &[]] {
        stage.partitions.handle_listing(listing(2), stage.now);
        assert_eq!(stage.actions(), expected);
    }
    // Nothing is committed.
    let none = RouteRequest::Commit(Vec::new());
    stage.partitions.handle_request(none, stage.now);
    assert_eq!(stage.actions(), [""; 0]);
}
