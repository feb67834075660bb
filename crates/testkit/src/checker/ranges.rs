//! Offsets as ranges, for messages a person reads.

/// Sorted offsets as `3-7, 9`, at most ten ranges.
pub(super) fn show(offsets: &[i64]) -> String {
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    for &offset in offsets {
        match ranges.last_mut() {
            Some((_, end)) if *end + 1 == offset => *end = offset,
            _ => ranges.push((offset, offset)),
        }
    }
    let text = |(first, last): &(i64, i64)| match first == last {
        true => format!("{first}"),
        false => format!("{first}-{last}"),
    };
    let shown: Vec<String> = ranges.iter().take(10).map(text).collect();
    match ranges.len().saturating_sub(10) {
        0 => shown.join(", "),
        more => format!("{}, and {more} more ranges", shown.join(", ")),
    }
}
