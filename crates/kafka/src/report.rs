//! Where the errors of a source's connections go: counted, shown in the status, and told once in a while.

use std::sync::Arc;
use std::time::Instant;

use tracing::warn;

use crate::noise::Noise;
use crate::status::Board;

/// Reports for one route.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    route: Arc<str>,
    board: Arc<Board>,
    noise: Arc<Noise>,
}

impl Reporter {
    pub(crate) fn new(route: &str, board: &Arc<Board>, noise: &Arc<Noise>) -> Self {
        Self { route: Arc::from(route), board: Arc::clone(board), noise: Arc::clone(noise) }
    }

    pub(crate) fn route(&self) -> &str {
        &self.route
    }

    /// Counts and shows an error; tells it unless it has just been told.
    pub(crate) fn report(&self, text: &str) {
        self.board.kafka_errors.add(1);
        self.board.set_error(text.to_owned());
        match self.noise.tell(text, Instant::now()) {
            None => {}
            Some(0) => warn!(route = &*self.route, "Kafka: {text}"),
            Some(again) => warn!(route = &*self.route, again, "Kafka: {text}"),
        }
    }
}
