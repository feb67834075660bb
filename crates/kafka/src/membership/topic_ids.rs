//! The topic ids that partitions are read of, if librdkafka fetches.
//!
//! Our own fetcher names a topic by its id. librdkafka goes by the name, and reads on at the old
//! offset in a topic that was deleted and recreated: what the new one has before that offset would
//! never come. So the ids are asked for when partitions are assigned, and again with each listing.

use std::collections::BTreeMap;

use crate::native::TopicId;

/// The last reported ids of topics that are read.
#[derive(Debug, Default)]
pub(super) struct TopicIdChanges(BTreeMap<String, TopicId>);

impl TopicIdChanges {
    /// Takes the reported ids; returns those that are another topic than before.
    pub(super) fn update(&mut self, ids: Vec<(String, TopicId)>) -> Vec<String> {
        let mut anew = Vec::new();
        for (topic, id) in ids {
            if self.0.insert(topic.clone(), id).is_some_and(|before| before != id) {
                anew.push(topic);
            }
        }
        anew
    }

    /// Forgets topics that are no longer read: the next assignment begins with what is
    /// there then.
    pub(super) fn retain(&mut self, mut is_read: impl FnMut(&str) -> bool) {
        self.0.retain(|topic, _| is_read(topic));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_id_is_another_topic() {
        let ids = |ids: &[(&str, i64)]| {
            ids.iter().map(|(topic, id)| ((*topic).to_owned(), (*id, 7))).collect()
        };
        let mut topic_ids = TopicIdChanges::default();
        assert!(topic_ids.update(ids(&[("a", 1), ("b", 1)])).is_empty(), "nothing was known");
        assert!(topic_ids.update(ids(&[("a", 1)])).is_empty());
        assert_eq!(topic_ids.update(ids(&[("a", 2), ("b", 1)])), ["a"]);
        assert!(topic_ids.update(ids(&[("a", 2)])).is_empty(), "once");
        topic_ids.retain(|topic| topic == "b");
        assert!(topic_ids.update(ids(&[("a", 3)])).is_empty(), "it was not read");
    }
}
