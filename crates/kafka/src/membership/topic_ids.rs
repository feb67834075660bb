//! The topic ids that partitions are read of, if librdkafka fetches.
//!
//! Our own fetcher names a topic by its id. librdkafka goes by the name, and reads on at the old
//! offset in a topic that was deleted and recreated: what the new one has before that offset would
//! never come. So the ids are asked for when partitions are assigned, and again with each listing.

use std::collections::BTreeMap;

use uuid::Uuid;

/// The last reported ids of topics that are read.
#[derive(Debug, Default)]
pub(super) struct TopicIdChanges(BTreeMap<String, Uuid>);

impl TopicIdChanges {
    /// Takes the reported ids; returns those that are another topic than before.
    pub(super) fn update(&mut self, ids: Vec<(String, Uuid)>) -> Vec<String> {
        let mut anew = Vec::new();
        for (topic, id) in ids {
            if self.0.insert(topic.clone(), id).is_some_and(|before| before != id) {
                anew.push(topic);
            }
        }
        anew
    }

    /// Takes the id by which partitions of a topic were looked up, if none is known.
    pub(super) fn begin(&mut self, topic: &str, id: Uuid) {
        if !id.is_nil() {
            self.0.entry(topic.to_owned()).or_insert(id);
        }
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
        let ids = |ids: &[(&str, u128)]| {
            ids.iter().map(|(topic, id)| ((*topic).to_owned(), Uuid::from_u128(*id))).collect()
        };
        let mut topic_ids = TopicIdChanges::default();
        assert!(topic_ids.update(ids(&[("a", 1), ("b", 1)])).is_empty(), "nothing was known");
        assert!(topic_ids.update(ids(&[("a", 1)])).is_empty());
        assert_eq!(topic_ids.update(ids(&[("a", 2), ("b", 1)])), ["a"]);
        assert!(topic_ids.update(ids(&[("a", 2)])).is_empty(), "once");
        topic_ids.begin("c", Uuid::from_u128(1));
        topic_ids.begin("c", Uuid::from_u128(2));
        topic_ids.begin("d", Uuid::nil());
        assert_eq!(topic_ids.update(ids(&[("c", 2), ("d", 1)])), ["c"], "it was looked up before");
        topic_ids.retain(|topic| topic == "b");
        assert!(topic_ids.update(ids(&[("a", 3)])).is_empty(), "it was not read");
    }
}
