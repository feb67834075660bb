//! The ends of a partition's log.

/// The ends of a partition's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The offset after the last record that is replicated.
    pub high_watermark: i64,
    /// The offset from which on no record is read under `read_committed` before its transaction
    /// ends: that of the first record of the oldest open one, or else the high watermark.
    pub last_stable: Option<i64>,
}

impl Ends {
    /// Takes them as a broker reports them, with -1 for what it does not.
    pub(crate) fn new(high_watermark: i64, last_stable: i64) -> Option<Self> {
        let last_stable = (last_stable >= 0).then_some(last_stable);
        let high_watermark = high_watermark.max(last_stable.unwrap_or(-1));
        (high_watermark >= 0).then_some(Self { high_watermark, last_stable })
    }

    /// The end as a reader sees it.
    pub fn readable(self) -> i64 {
        self.last_stable.unwrap_or(self.high_watermark)
    }

    /// The first offset of the oldest transaction that is open, if one is.
    pub fn open_transaction(self) -> Option<i64> {
        self.last_stable.filter(|stable| *stable < self.high_watermark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_transaction_shows_between_the_ends() {
        for (reported, readable, open) in [
            ((50, 40), Some(40), Some(40)),
            ((50, 50), Some(50), None),
            ((50, -1), Some(50), None),
            ((-1, -1), None, None),
        ] {
            let ends = Ends::new(reported.0, reported.1);
            let shown = (ends.map(Ends::readable), ends.and_then(Ends::open_transaction));
            assert_eq!(shown, (readable, open), "{reported:?}");
        }
    }
}
