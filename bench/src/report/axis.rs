//! Axes: the place of a value, and the values that are marked.

use crate::figure::{short, whole};

/// An axis from `start` to `end`, in pixels, over the values from `low` to `high`.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    start: f64,
    end: f64,
    low: f64,
    high: f64,
    marks: Marks,
}

#[derive(Clone, Copy, Debug)]
enum Marks {
    /// One so much above the other.
    Every(f64),
    /// One ten times the other.
    Decades,
}

impl Axis {
    /// Makes an axis from nothing to a round number not below `most`, equal steps.
    pub fn linear(start: f64, end: f64, most: f64) -> Self {
        let step = step(most.max(f64::MIN_POSITIVE));
        Self { start, end, low: 0.0, high: (most / step).ceil() * step, marks: Marks::Every(step) }
    }

    /// Over whole powers of ten.
    pub fn decades(start: f64, end: f64, least: f64, most: f64) -> Self {
        let power = |value: f64, round: fn(f64) -> f64| 10f64.powf(round(value.max(1e-9).log10()));
        let (low, high) = (power(least, f64::floor), power(most, f64::ceil));
        Self {
            start,
            end,
            low,
            high: if high > low { high } else { low * 10.0 },
            marks: Marks::Decades,
        }
    }

    /// Returns the position of `value`, in pixels.
    pub fn at(&self, value: f64) -> f64 {
        let share = match self.marks {
            Marks::Every(_) => (value - self.low) / (self.high - self.low),
            Marks::Decades => {
                (value.max(self.low) / self.low).log10() / (self.high / self.low).log10()
            }
        };
        self.start + share * (self.end - self.start)
    }

    /// The marked values with their texts.
    pub fn ticks(&self) -> Vec<(f64, String)> {
        let mut ticks = Vec::new();
        let mut value = self.low;
        while value <= self.high * 1.000_001 {
            let text = if value.fract() == 0.0 { whole(value as u64) } else { short(value) };
            ticks.push((value, text));
            value = match self.marks {
                Marks::Every(step) => value + step,
                Marks::Decades => value * 10.0,
            };
        }
        ticks
    }
}

/// A round step of which there are four to eight up to `most`.
fn step(most: f64) -> f64 {
    let power = 10f64.powf((most / 4.0).log10().floor());
    let fitting = [5.0, 2.0, 1.0].into_iter().map(|times| times * power);
    fitting.into_iter().find(|step| most / step >= 4.0).unwrap_or(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> Vec<String> {
        axis.ticks().into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn marks_round_values() {
        assert_eq!(
            texts(&Axis::linear(0.0, 100.0, 742.0)),
            ["0", "100", "200", "300", "400", "500", "600", "700", "800"]
        );
        assert_eq!(texts(&Axis::linear(0.0, 100.0, 41.0)), ["0", "10", "20", "30", "40", "50"]);
        assert_eq!(
            texts(&Axis::decades(0.0, 100.0, 1.0, 10_000.0)),
            ["1", "10", "100", "1,000", "10,000"]
        );
    }

    #[test]
    fn places_values() {
        assert_eq!(Axis::linear(100.0, 0.0, 400.0).at(100.0), 75.0);
        assert!((Axis::decades(0.0, 40.0, 1.0, 10_000.0).at(100.0) - 20.0).abs() < 1e-9);
    }
}
