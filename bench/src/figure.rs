//! A figure: the median of several runs, and how far they lie apart.

use serde::{Deserialize, Serialize};

/// The median of some runs with the least and the most of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The median.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

impl Figure {
    /// Returns the figure of any number of values; `None` if there is none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let (low, high) = (sorted.get((sorted.len() - 1) / 2)?, sorted.get(sorted.len() / 2)?);
        Some(Self { median: (low + high) / 2.0, min, max })
    }
}

/// The value below which `share` of the sorted values lie (nearest rank).
pub fn percentile(sorted: &[i64], share: f64) -> Option<i64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

/// A number with three or four significant digits and thousands separated: `11,400`, `57.3`,
/// `0.42`.
pub fn short(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    if decimals > 0 {
        return format!("{value:.decimals$}");
    }
    let scale = 10f64.powi((value.abs().max(1.0).log10().floor() as i32 - 3).max(0));
    let rounded = ((value.abs() / scale).round() * scale) as u64;
    let sign = if value < 0.0 { "-" } else { "" };
    format!("{sign}{}", whole(rounded))
}

/// A whole number with thousands separated.
pub fn whole(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_median() {
        assert_eq!(Figure::of([3.0, 1.0, 2.0]), Some(Figure { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Figure::of([4.0, 1.0]), Some(Figure { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Figure::of([]), None);
    }

    #[test]
    fn takes_percentiles() {
        let sorted: Vec<i64> = (1..=1000).collect();
        for (share, value) in [(0.5, 500), (0.9, 900), (0.999, 999), (1.0, 1000), (0.0, 1)] {
            assert_eq!(percentile(&sorted, share), Some(value));
        }
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn writes_numbers_for_people() {
        for (value, text) in [
            (0.0, "0"),
            (0.417, "0.42"),
            (57.25, "57.2"),
            (963.4, "963"),
            (11_432.0, "11,430"),
            (1e6, "1,000,000"),
        ] {
            assert_eq!(short(value), text);
        }
        assert_eq!(short(-1234.0), "-1,234");
        assert_eq!(
            (whole(0), whole(999), whole(10_000)),
            ("0".into(), "999".into(), "10,000".into())
        );
    }
}
