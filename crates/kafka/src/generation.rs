//! Generations of an assignment. Each is one reading of the partition, from an offset on; a reset
//! of the log or a restart by the route begins the next one. What is handed out carries its
//! generation, so that no offsets have to be compared to guess what was read before a reset and
//! what after it.

use parking_lot::Mutex;

/// One reading of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Its number within the assignment: 0, and one more for each that followed.
    pub number: u32,
    /// The offset it begins at.
    pub start: i64,
}

/// The state of the reading.
#[derive(Debug)]
struct ReadState {
    generation: Generation,
    /// The next offset to be handed out.
    position: i64,
}

/// The generation that is read now, and how far.
#[derive(Debug)]
pub(crate) struct Reading(Mutex<ReadState>);

impl Reading {
    pub(crate) fn new(start: i64) -> Self {
        Self(Mutex::new(ReadState { generation: Generation { number: 0, start }, position: start }))
    }

    pub(crate) fn generation(&self) -> Generation {
        self.0.lock().generation
    }

    pub(crate) fn position(&self) -> i64 {
        self.0.lock().position
    }

    /// Returns both, of the same moment.
    pub(crate) fn place(&self) -> (Generation, i64) {
        let place = self.0.lock();
        (place.generation, place.position)
    }

    /// Records of a generation were handed out up to an offset. Those of an earlier one say nothing
    /// of its position.
    pub(crate) fn set_position(&self, generation: u32, offset: i64) {
        let mut place = self.0.lock();
        if place.generation.number == generation {
            place.position = offset;
        }
    }

    /// Begins the next generation.
    pub(crate) fn begin(&self, start: i64) -> Generation {
        let mut place = self.0.lock();
        let generation = Generation { number: place.generation.number.wrapping_add(1), start };
        *place = ReadState { generation, position: start };
        generation
    }

    /// The same, unless `known` is no longer the one that is read.
    pub(crate) fn begin_after(&self, known: u32, start: i64) -> Option<Generation> {
        let mut place = self.0.lock();
        if place.generation.number != known {
            return None;
        }
        let generation = Generation { number: known.wrapping_add(1), start };
        *place = ReadState { generation, position: start };
        Some(generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_generation_that_is_read_moves_the_position() {
        let reading = Reading::new(10);
        reading.set_position(0, 15);
        assert_eq!(reading.place(), (Generation { number: 0, start: 10 }, 15));
        let reset = reading.begin(3);
        assert_eq!(reset, Generation { number: 1, start: 3 });
        reading.set_position(0, 20);
        assert_eq!(reading.place(), (reset, 3), "what was handed out late is of the one before");
        reading.set_position(1, 4);
        assert_eq!(reading.position(), 4);
    }

    #[test]
    fn who_has_not_heard_of_a_reset_restarts_nothing() {
        let reading = Reading::new(10);
        let reset = reading.begin(3);
        assert_eq!(reading.begin_after(0, 8), None);
        assert_eq!(reading.generation(), reset);
        let restarted = Generation { number: 2, start: 3 };
        assert_eq!(reading.begin_after(1, 3), Some(restarted));
        assert_eq!(reading.place(), (restarted, 3));
    }
}
