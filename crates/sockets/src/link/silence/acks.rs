//! Decides if the machine of a peer still acknowledges: a plain state machine over samples of the
//! kernel's account.

use std::time::{Duration, Instant};

use crate::stream::TcpSample;

/// Time between two looks at a peer that takes nothing.
pub(crate) const LOOK: Duration = Duration::from_secs(3);
/// Times in a row that the kernel must have asked in vain: one question, or its answer, can get
/// lost, and the next comes up to two minutes later.
const ASKED: u32 = 2;

/// Looks at a connection now and then, to find out whether its peer still acknowledges.
#[derive(Debug, Default)]
pub(crate) struct AckWatch(Option<Look>);

#[derive(Debug)]
struct Look {
    at: Instant,
    /// Retransmissions that were followed by an acknowledgment of something old: a full peer may
    /// send it.
    answered: u32,
    in_vain: bool,
    /// Time for which it has acknowledged nothing, if the kernel asked in vain at this look and at
    /// the one before it.
    gone_for: Option<Duration>,
}

impl AckWatch {
    /// Takes note of a sample. One that comes too soon after the last is passed over.
    pub(crate) fn look(&mut self, now: Instant, sample: &TcpSample) {
        let next = match &self.0 {
            None => {
                let in_vain = sample.probes.max(sample.retransmits) >= ASKED;
                Look { at: now, answered: 0, in_vain, gone_for: None }
            }
            Some(last) => {
                let since_last = now.saturating_duration_since(last.at);
                if since_last < LOOK {
                    return;
                }
                let acknowledged = sample.since_ack < since_last;
                let answered = if acknowledged { sample.retransmits } else { last.answered };
                let answered = answered.min(sample.retransmits);
                let in_vain = sample.probes.max(sample.retransmits - answered) >= ASKED;
                let gone = in_vain && last.in_vain && !acknowledged;
                Look { at: now, answered, in_vain, gone_for: gone.then_some(sample.since_ack) }
            }
        };
        self.0 = Some(next);
    }

    /// Returns how long the peer has acknowledged nothing, though it was asked more than once.
    /// `None` for one that is alive as far as is known.
    pub(crate) fn gone_for(&self) -> Option<Duration> {
        self.0.as_ref()?.gone_for
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds, since the last acknowledgment, probes, retransmissions, and what is said of the
    /// peer after that.
    type Step = (u64, u64, u32, u32, Option<u64>);

    fn run(name: &str, steps: &[Step]) {
        let start = Instant::now();
        let mut watch = AckWatch::default();
        for (at, since_ack, probes, retransmits, gone_for) in steps {
            let since_ack = Duration::from_secs(*since_ack);
            let sample =
                TcpSample { since_ack, probes: *probes, retransmits: *retransmits, bytes_acked: 0 };
            watch.look(start + Duration::from_secs(*at), &sample);
            assert_eq!(watch.gone_for(), gone_for.map(Duration::from_secs), "{name}, after {at} s");
        }
    }

    #[test]
    fn a_peer_is_gone_when_the_kernel_asks_in_vain() {
        let cases: &[(&str, &[Step])] = &[
            (
                "vanished while it was full",
                &[
                    (3, 3, 1, 0, None),
                    (6, 6, 2, 0, None),
                    (9, 9, 3, 0, Some(9)),
                    (12, 12, 3, 0, Some(12)),
                ],
            ),
            (
                "vanished with data on its way",
                &[(3, 3, 0, 3, None), (6, 6, 0, 4, Some(6)), (60, 60, 0, 8, Some(60))],
            ),
            (
                "full, and answers each probe, also two minutes apart",
                &[
                    (3, 1, 0, 0, None),
                    (60, 58, 0, 0, None),
                    (120, 118, 0, 0, None),
                    (123, 121, 1, 0, None),
                    (126, 3, 0, 0, None),
                    (240, 117, 0, 0, None),
                ],
            ),
            (
                "one probe, or its answer, is lost",
                &[
                    (120, 119, 0, 0, None),
                    (123, 122, 1, 0, None),
                    (126, 125, 1, 0, None),
                    (237, 236, 1, 0, None),
                    (243, 2, 0, 0, None),
                ],
            ),
            (
                "comes back after an outage",
                &[
                    (3, 3, 0, 3, None),
                    (6, 6, 0, 4, Some(6)),
                    (9, 1, 0, 0, None),
                    (12, 4, 0, 0, None),
                    (15, 1, 0, 2, None),
                ],
            ),
            (
                "acknowledges, but nothing new: it has no memory for what it has a window for",
                &[
                    (3, 0, 0, 3, None),
                    (6, 1, 0, 4, None),
                    (9, 4, 0, 4, None),
                    (12, 7, 0, 4, None),
                    (15, 10, 0, 5, None),
                    (18, 13, 0, 5, None),
                    (21, 1, 0, 5, None),
                ],
            ),
            (
                "and vanishes then",
                &[
                    (3, 0, 0, 3, None),
                    (6, 1, 0, 4, None),
                    (9, 4, 0, 5, None),
                    (12, 7, 0, 6, None),
                    (15, 10, 0, 6, Some(10)),
                ],
            ),
            (
                "looks that come too soon count once",
                &[
                    (3, 3, 5, 0, None),
                    (4, 4, 5, 0, None),
                    (5, 5, 5, 0, None),
                    (6, 6, 5, 0, Some(6)),
                ],
            ),
            (
                "idle for long",
                &[(3, 3000, 0, 0, None), (6, 3003, 0, 0, None), (9, 3006, 0, 0, None)],
            ),
        ];
        for (name, steps) in cases {
            run(name, steps);
        }
    }
}
