//! Senders that wait, one step after the other.

use super::*;

fn wait(partition: Option<usize>, is_for_any: bool) -> Wait {
    Wait::Partition { index: index(partition), topic: Arc::from("t"), is_for_any }
}

fn origin(sender: u64) -> Origin {
    Origin { sender, name: None }
}

fn index(partition: Option<usize>) -> PartitionIndex {
    PartitionIndex { topic: 3, partition }
}

/// Takes all that is ready, as if all of it could be taken.
fn taken(parked: &mut Parked<&'static str>) -> Vec<&'static str> {
    let mut all = Vec::new();
    while parked.next(|_| false, 0).is_some() {
        all.push(parked.take().unwrap());
        parked.go_on();
    }
    all
}

#[test]
fn what_a_sender_sent_stays_in_its_order() {
    let mut parked = Parked::new();
    assert!(!parked.holds(&origin(1)));
    parked.park(&origin(1), "a1", Some(wait(Some(0), false)), 5);
    assert!(parked.holds(&origin(1)) && !parked.holds(&origin(2)), "another sender goes on");
    parked.put_behind(&origin(1), "a2");
    assert_eq!(parked.next(|_| false, 5), None);
    parked.open(index(Some(0)));
    assert_eq!(parked.next(|_| false, 5), Some(&"a1"));
    assert_eq!(parked.take(), Some("a1"));
    // It is taken in part.
    parked.park(&origin(1), "rest of a1", Some(wait(Some(0), false)), 6);
    parked.put_behind(&origin(1), "a3");
    parked.open(index(Some(0)));
    assert_eq!(taken(&mut parked), ["rest of a1", "a2", "a3"]);
    assert!(parked.is_empty() && !parked.holds(&origin(1)));
}

#[test]
fn a_sender_has_all_of_its_turn() {
    let mut parked = Parked::new();
    parked.park(&origin(1), "a1", Some(wait(Some(0), false)), 0);
    parked.put_behind(&origin(1), "a2");
    parked.put_behind(&origin(1), "a3");
    parked.park(&origin(2), "b1", Some(wait(Some(0), false)), 0);
    parked.open(index(Some(0)));
    assert_eq!(parked.next(|_| false, 0), Some(&"a1"));
    assert_eq!(parked.take(), Some("a1"));
    assert!(!parked.go_on(), "more of it waits");
    assert_eq!(parked.next(|_| false, 0), Some(&"a2"));
    assert_eq!(parked.take(), Some("a2"));
    parked.park(&origin(1), "rest of a2", Some(wait(Some(0), false)), 1);
    assert_eq!(parked.next(|_| true, 1), None, "b1 found it full");
    parked.open(index(Some(0)));
    assert_eq!(taken(&mut parked), ["rest of a2", "a3", "b1"]);
}

#[test]
fn each_waits_for_what_it_needs() {
    for (waits, opened, goes_on) in [
        (wait(Some(0), false), Some(0), true),
        (wait(Some(0), false), Some(1), false),
        (wait(Some(0), true), Some(1), true),
        (wait(Some(0), true), None, false),
        (wait(None, false), None, true),
        (wait(None, true), Some(1), false),
    ] {
        let place = format!("{waits:?} {opened:?}");
        let mut parked = Parked::new();
        parked.park(&origin(1), "a", Some(waits), 0);
        let other_topic = PartitionIndex { topic: 4, partition: opened };
        if opened.is_some() {
            parked.open(other_topic);
            assert_eq!(parked.next(|_| false, 0), None, "{place}");
        }
        parked.open(index(opened));
        assert_eq!(parked.next(|_| false, 0).is_some(), goes_on, "{place}");
    }
    // Topics that are not known are as one.
    let mut parked = Parked::new();
    parked.park(&origin(1), "a", Some(wait(None, false)), 0);
    parked.open(PartitionIndex { topic: 9, partition: None });
    assert_eq!(taken(&mut parked), ["a"]);
}

#[test]
fn senders_go_on_in_turn_and_those_that_find_it_full_keep_theirs() {
    let mut parked = Parked::new();
    for (sender, item) in [(1, "a"), (2, "b"), (3, "c")] {
        parked.park(&origin(sender), item, Some(wait(Some(0), false)), 7);
    }
    parked.park(&origin(4), "any", Some(wait(Some(0), true)), 8);
    assert_eq!(parked.poll_waits().unwrap().len(), 1);
    let waiting = Waiting { senders: 4, since: 7 };
    parked.has_changed = true;
    assert_eq!(
        parked.poll_waits().unwrap().get(&WaitName::Partition(Arc::from("t"), 0)).copied(),
        Some(waiting)
    );
    assert_eq!(parked.poll_waits(), None);
    parked.open(index(Some(0)));
    assert!(parked.next(|_| false, 9).is_some());
    assert_eq!(parked.take(), Some("a"));
    assert!(parked.go_on());
    // It is full again; who may go elsewhere is asked.
    assert_eq!(parked.next(|_| true, 10), Some(&"any"));
    assert_eq!(parked.take(), Some("any"));
    parked.go_on();
    assert_eq!(parked.next(|_| true, 10), None);
    let waits = parked.poll_waits().unwrap();
    assert_eq!(waits.values().collect::<Vec<_>>(), [&Waiting { senders: 2, since: 10 }]);
    parked.open(index(Some(0)));
    assert_eq!(taken(&mut parked), ["b", "c"]);
    assert!(parked.poll_waits().unwrap().is_empty());
}

#[test]
fn one_whose_topic_is_known_now_is_asked_again() {
    let mut parked = Parked::new();
    parked.park(&origin(1), "a", Some(wait(None, false)), 0);
    parked.park(&origin(2), "b", Some(wait(Some(0), false)), 0);
    parked.topics_known();
    // There may be no room for those that are not known.
    assert_eq!(parked.next(|_| true, 0), Some(&"a"));
    assert!(parked.is_due(index(Some(0))), "it may be for that one");
    assert_eq!(parked.take(), Some("a"));
    assert!(parked.go_on() && !parked.is_due(index(Some(0))));
    assert_eq!(parked.next(|_| true, 0), None);
    parked.open(index(Some(0)));
    assert_eq!(taken(&mut parked), ["b"]);
}

#[test]
fn one_that_waits_longer_goes_first() {
    let mut parked = Parked::new();
    parked.park(&origin(1), "a", Some(wait(Some(0), false)), 0);
    parked.open(index(Some(0)));
    // It is full before the first has had its turn, and another sender comes.
    parked.park(&origin(2), "b", Some(wait(Some(0), false)), 0);
    assert_eq!(parked.next(|_| true, 0), None);
    parked.park(&origin(3), "c", Some(wait(Some(0), false)), 0);
    parked.open(index(Some(0)));
    assert_eq!(taken(&mut parked), ["a", "b", "c"]);
}

#[test]
fn what_was_shown_is_taken_whoever_is_ready_meanwhile() {
    let mut parked = Parked::new();
    parked.park(&origin(1), "a", Some(wait(Some(0), false)), 0);
    parked.park(&origin(2), "b", Some(wait(Some(1), false)), 0);
    parked.open(index(Some(1)));
    assert_eq!(parked.next(|_| false, 0), Some(&"b"));
    parked.open(index(Some(0)));
    assert_eq!(parked.take(), Some("b"));
    assert!(parked.go_on());
    assert_eq!(taken(&mut parked), ["a"]);
}

#[test]
fn those_that_go_on_for_a_partition_are_not_overtaken() {
    let mut parked = Parked::new();
    let (first, other) = (index(Some(0)), index(Some(1)));
    parked.park(&origin(1), "a1", Some(wait(Some(0), false)), 0);
    parked.put_behind(&origin(1), "a2");
    parked.park(&origin(2), "b", Some(wait(Some(0), false)), 0);
    assert!(!parked.is_due(first), "it is full");
    parked.open(first);
    assert!(parked.is_due(first) && !parked.is_due(other));
    assert_eq!(parked.next(|_| false, 0), Some(&"a1"));
    assert_eq!(parked.take(), Some("a1"));
    assert!(!parked.is_due(first), "it goes before the others");
    parked.go_on();
    assert!(parked.is_due(first));
    assert_eq!(taken(&mut parked), ["a2", "b"]);
    assert!(!parked.is_due(first));
    // Also not if more than one step is needed.
    parked.park(&origin(4), "d1", Some(wait(Some(0), false)), 0);
    parked.put_behind(&origin(4), "d2");
    parked.open(first);
    assert_eq!(parked.next(|_| false, 0), Some(&"d1"));
    assert_eq!(parked.take(), Some("d1"));
    parked.go_on();
    assert!(parked.is_due(first), "more of it may be for that partition");
    assert_eq!(taken(&mut parked), ["d2"]);
    // One for which another partition would do has no place among them.
    parked.park(&origin(3), "c", Some(wait(Some(0), true)), 0);
    parked.open(first);
    assert!(!parked.is_due(first));
}

#[test]
fn one_waits_for_a_full_partition_and_behind_those_that_go_on() {
    let mut parked = Parked::new();
    let mut shares = Shares::new(1600);
    let place = index(Some(0));
    let waits = |parked: &Parked<_>, shares: &Shares| {
        [false, true].map(|is_for_any| parked.wait_for(place, "t", is_for_any, shares))
    };
    let [one, any] = [false, true].map(|is_for_any| Some(wait(Some(0), is_for_any)));
    assert_eq!(waits(&parked, &shares), [None, None]);
    shares.add(place, 400);
    assert_eq!(waits(&parked, &shares), [one.clone(), any], "it is full");
    parked.park_for(&origin(1), "a", wait(Some(0), false), &shares, 0);
    assert!(!parked.is_due(place));
    shares.remove(place, 400);
    parked.open(place);
    assert_eq!(waits(&parked, &shares), [one, None], "others go on for it");
    // Nobody opens what is open.
    parked.park_for(&origin(2), "b", wait(Some(0), false), &shares, 0);
    assert_eq!(taken(&mut parked), ["a", "b"]);
    assert_eq!(waits(&parked, &shares), [None, None]);
}

#[test]
fn connections_of_one_name_have_one_line() {
    let mut parked = Parked::new();
    let named = |sender, name: &[u8]| Origin { sender, name: Some(Arc::from(name)) };
    parked.park(&named(1, b"n"), "a1", Some(wait(Some(0), false)), 0);
    parked.put_behind(&named(1, b"n"), "a2");
    // It has come again.
    assert!(parked.holds(&named(2, b"n")) && !parked.holds(&named(3, b"m")));
    parked.put_behind(&named(2, b"n"), "b1");
    parked.park(&named(3, b"m"), "c1", Some(wait(Some(1), false)), 0);
    parked.open(index(Some(0)));
    for (item, is_last) in [("a1", false), ("a2", true), ("b1", true)] {
        assert!(parked.holds(&named(4, b"n")), "{item}");
        assert_eq!(parked.next(|_| false, 0), Some(&item));
        assert_eq!(parked.take(), Some(item));
        assert_eq!(parked.go_on(), is_last, "{item}");
    }
    assert!(!parked.holds(&named(4, b"n")) && !parked.holds(&origin(1)));
    assert!(parked.holds(&named(4, b"m")));
}

#[test]
fn one_that_waits_for_answers_goes_on_with_its_own() {
    let mut parked = Parked::new();
    parked.park(&origin(1), "a", Some(Wait::Answers), 0);
    parked.park(&origin(2), "b", Some(Wait::Answers), 0);
    parked.open(index(Some(0)));
    parked.open(index(None));
    assert_eq!(parked.next(|_| false, 0), None);
    parked.answered(2);
    assert_eq!(taken(&mut parked), ["b"]);
    assert!(parked.holds(&origin(1)));
}

#[test]
fn all_go_on_if_no_partition_is_known_any_more() {
    let mut parked = Parked::new();
    parked.park(&origin(1), "a", Some(wait(Some(0), false)), 0);
    parked.park(&origin(2), "b", Some(wait(None, false)), 0);
    parked.open_all();
    assert_eq!(taken(&mut parked), ["a", "b"]);
}

#[test]
fn nothing_is_left_of_what_is_taken_at_the_end() {
    let mut parked = Parked::new();
    parked.park(&origin(1), "a1", Some(wait(Some(0), false)), 0);
    parked.put_behind(&origin(1), "a2");
    parked.park(&origin(2), "b1", None, 0);
    let mut all = parked.take_all();
    all.sort_unstable();
    assert_eq!(all, ["a1", "a2", "b1"]);
    assert!(parked.is_empty() && parked.next(|_| false, 0).is_none());
    assert!(parked.poll_waits().unwrap().is_empty());
}
