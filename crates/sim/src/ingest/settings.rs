//! The decisions of a seed before anything happens.

use std::time::Duration;

use zafka_bridge::sim::Layout;
use zafka_kafka::produce::{Compression, ProducerConfig, ProducerKind};

use crate::random::Random;

/// The size of the world, its settings, and how much goes wrong in it.
#[derive(Clone, Debug)]
pub struct IngestSettings {
    /// The layout of messages.
    pub layout: Layout,
    /// Topics as the log has them, each with so many partitions.
    pub topics: Vec<(String, i32)>,
    /// Brokers.
    pub brokers: i32,
    /// Senders.
    pub senders: usize,
    /// The newest version of Produce that brokers have.
    pub produce_version: i16,
    /// The producer's settings.
    pub producer: ProducerConfig,
    /// Seed of the producer's own choices.
    pub producer_seed: u64,
    /// Memory of the route in bytes, of which each partition has its part.
    pub in_flight_bytes: usize,
    /// Time in which things happen; then everything is mended.
    pub troubled: Duration,
    /// Time between two things that go wrong, on average.
    pub trouble_every: Duration,
    /// Messages that are sent in all, without those that are sent again.
    pub messages: u64,
}

impl IngestSettings {
    /// The settings of a seed.
    pub fn new(random: &mut Random) -> Self {
        let layouts = [Layout::WithId, Layout::InOrder, Layout::Batch, Layout::Unanswered];
        let topics = (0..random.within(1, 3))
            .map(|topic| (format!("edge.t{topic}"), random.within(1, 4) as i32))
            .collect();
        let producer = ProducerConfig {
            route: "sim".to_owned(),
            compression: Compression::None,
            linger: Duration::from_millis(*random.pick(&[0, 0, 5])),
            batch_bytes: *random.pick(&[120, 400, 2000]),
            delivery_timeout: random.percent(30).then(|| Duration::from_secs(5)),
            producer: ProducerKind::Fast,
        };
        Self {
            layout: *random.pick(&layouts),
            topics,
            brokers: random.within(1, 4) as i32,
            senders: random.within(1, 4) as usize,
            produce_version: *random.pick(&[9, 12, 13]),
            producer,
            producer_seed: random.number(),
            in_flight_bytes: *random.pick(&[3_000, 12_000, 1 << 20]),
            troubled: Duration::from_secs(random.within(3, 15)),
            trouble_every: Duration::from_millis(1 << random.within(6, 11)),
            messages: random.within(20, 300),
        }
    }
}
