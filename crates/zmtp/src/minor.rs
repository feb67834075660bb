//! The versions of ZMTP 3.

/// Minor version of ZMTP 3 that both sides speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Minor {
    /// ZMTP 3.0 (RFC 23): subscriptions are messages, no heartbeats.
    Zero,
    /// ZMTP 3.1 (RFC 37): subscriptions are commands, heartbeats.
    One,
}

impl Minor {
    /// The number: 0 or 1.
    pub const fn number(self) -> u8 {
        match self {
            Self::Zero => 0,
            Self::One => 1,
        }
    }
}
