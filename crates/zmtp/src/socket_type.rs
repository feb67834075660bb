//! Socket types, their names on the wire, and which may talk to which.

use std::fmt;

/// A socket type that takes part in ZMTP (RFC 28, 29, 30, 31 and their patterns).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SocketType {
    /// PAIR
    Pair,
    /// PUB
    Pub,
    /// SUB
    Sub,
    /// REQ
    Req,
    /// REP
    Rep,
    /// DEALER
    Dealer,
    /// ROUTER
    Router,
    /// PULL
    Pull,
    /// PUSH
    Push,
    /// XPUB
    XPub,
    /// XSUB
    XSub,
}

impl SocketType {
    /// Every socket type.
    pub const ALL: [Self; 11] = [
        Self::Pair,
        Self::Pub,
        Self::Sub,
        Self::Req,
        Self::Rep,
        Self::Dealer,
        Self::Router,
        Self::Pull,
        Self::Push,
        Self::XPub,
        Self::XSub,
    ];

    /// The name as it stands in the Socket-Type property.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pair => "PAIR",
            Self::Pub => "PUB",
            Self::Sub => "SUB",
            Self::Req => "REQ",
            Self::Rep => "REP",
            Self::Dealer => "DEALER",
            Self::Router => "ROUTER",
            Self::Pull => "PULL",
            Self::Push => "PUSH",
            Self::XPub => "XPUB",
            Self::XSub => "XSUB",
        }
    }

    /// The type with this name (upper case, as RFC 37 has it); `None` for any other.
    pub fn from_bytes(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|socket_type| socket_type.name().as_bytes() == name)
    }

    /// Returns true if a connection between this type and `peer` is valid (RFC 37, "The Socket-Type
    /// Property").
    pub const fn accepts(self, peer: Self) -> bool {
        use SocketType::*;
        match self {
            Pair => matches!(peer, Pair),
            Pub | XPub => matches!(peer, Sub | XSub),
            Sub | XSub => matches!(peer, Pub | XPub),
            Req => matches!(peer, Rep | Router),
            Rep => matches!(peer, Req | Dealer),
            Dealer => matches!(peer, Rep | Dealer | Router),
            Router => matches!(peer, Req | Dealer | Router),
            Pull => matches!(peer, Push),
            Push => matches!(peer, Pull),
        }
    }

    /// Returns true if this side announces its identity (RFC 37: REQ, DEALER and ROUTER).
    pub(crate) const fn has_identity(self) -> bool {
        matches!(self, Self::Req | Self::Dealer | Self::Router)
    }

    /// Returns true if this side is sent subscriptions.
    pub(crate) const fn publishes(self) -> bool {
        matches!(self, Self::Pub | Self::XPub)
    }

    /// Returns true if this side sends subscriptions.
    pub(crate) const fn subscribes(self) -> bool {
        matches!(self, Self::Sub | Self::XSub)
    }
}

impl fmt::Display for SocketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::SocketType::{self, *};

    #[test]
    fn names_round_trip() {
        for socket_type in SocketType::ALL {
            assert_eq!(SocketType::from_bytes(socket_type.name().as_bytes()), Some(socket_type));
        }
        for unknown in [&b""[..], b"pub", b"PUB\0", b"STREAM", b"XXX"] {
            assert_eq!(SocketType::from_bytes(unknown), None);
        }
    }

    #[test]
    fn compatibility_is_the_table_of_the_rfc() {
        let table: &[(SocketType, &[SocketType])] = &[
            (Req, &[Rep, Router]),
            (Rep, &[Req, Dealer]),
            (Dealer, &[Rep, Dealer, Router]),
            (Router, &[Req, Dealer, Router]),
            (Pub, &[Sub, XSub]),
            (XPub, &[Sub, XSub]),
            (Sub, &[Pub, XPub]),
            (XSub, &[Pub, XPub]),
            (Push, &[Pull]),
            (Pull, &[Push]),
            (Pair, &[Pair]),
        ];
        assert_eq!(table.len(), SocketType::ALL.len());
        for (ours, valid) in table {
            for peer in SocketType::ALL {
                assert_eq!(ours.accepts(peer), valid.contains(&peer), "{ours} and {peer}");
                assert_eq!(
                    ours.accepts(peer),
                    peer.accepts(*ours),
                    "{ours} and {peer}, the other way"
                );
            }
        }
    }
}
