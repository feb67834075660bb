//! The words that keys take, each with its value.

use zafka_kafka::config::{FetcherKind, GroupProtocol, Isolation, OnCorrupt, OnOutOfRange};
use zafka_kafka::produce::{Compression, ProducerKind};
use zafka_oidc::Algorithm;
use zafka_sockets::config::SlowPeer;

use super::super::choice::Choice;

/// `mechanism` of `kafka.security.sasl`.
pub static MECHANISM: Choice<Mechanism> = Choice {
    now: &[
        ("PLAIN", Mechanism::Plain),
        ("SCRAM-SHA-256", Mechanism::ScramSha256),
        ("SCRAM-SHA-512", Mechanism::ScramSha512),
        ("OAUTHBEARER", Mechanism::OAuthBearer),
    ],
    later: &[],
};

/// A SASL mechanism.
#[derive(Clone, Copy, Debug)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// RFC 7677.
    ScramSha256,
    /// The same with SHA-512.
    ScramSha512,
    /// RFC 7628.
    OAuthBearer,
}

/// The security that an endpoint's connections are to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WantedMechanism {
    /// No mechanism.
    Null,
    /// CURVE.
    Curve,
}

/// `mechanism` of an endpoint.
pub static ENDPOINT_MECHANISM: Choice<WantedMechanism> = Choice {
    now: &[("null", WantedMechanism::Null), ("curve", WantedMechanism::Curve)],
    later: &["plain"],
};

/// `grant` of `kafka.security.sasl`.
pub static GRANT: Choice<GrantKind> = Choice {
    now: &[
        ("client_credentials", GrantKind::ClientCredentials),
        ("token_exchange", GrantKind::TokenExchange),
        ("jwt_bearer", GrantKind::JwtBearer),
        ("file", GrantKind::File),
    ],
    later: &[],
};

/// The basis on which a token is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantKind {
    /// RFC 6749 section 4.4.
    ClientCredentials,
    /// RFC 8693.
    TokenExchange,
    /// RFC 7523.
    JwtBearer,
    /// No grant: the token is in a file.
    File,
}

impl GrantKind {
    /// The word for it.
    pub fn name(self) -> &'static str {
        GRANT.now.iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| word)
    }
}

/// Algorithms of signatures.
pub static ALGORITHM: Choice<Algorithm> = Choice {
    now: &[
        ("RS256", Algorithm::Rs256),
        ("RS384", Algorithm::Rs384),
        ("RS512", Algorithm::Rs512),
        ("PS256", Algorithm::Ps256),
        ("PS384", Algorithm::Ps384),
        ("PS512", Algorithm::Ps512),
        ("ES256", Algorithm::Es256),
        ("ES384", Algorithm::Es384),
        ("EdDSA", Algorithm::EdDsa),
    ],
    later: &[],
};

/// `slow_peer`.
pub static SLOW_PEER: Choice<SlowPeer> =
    Choice { now: &[("drop", SlowPeer::Drop), ("block", SlowPeer::Block)], later: &["replay"] };

/// `socket` of `to.zmq`: only PUB is there.
pub static SOCKET: Choice<()> = Choice { now: &[("pub", ())], later: &["push", "router"] };

/// `socket` of `from.zmq`.
pub static INBOUND_SOCKET: Choice<InboundSocketType> = Choice {
    now: &[
        ("pull", InboundSocketType::Pull),
        ("sub", InboundSocketType::Sub),
        ("router", InboundSocketType::Router),
    ],
    later: &[],
};

/// A socket type that takes messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InboundSocketType {
    /// PULL.
    Pull,
    /// SUB.
    Sub,
    /// ROUTER.
    Router,
}

/// `compression`.
pub static COMPRESSION: Choice<Compression> = Choice {
    now: &[
        (Compression::None.name(), Compression::None),
        (Compression::Gzip.name(), Compression::Gzip),
        (Compression::Snappy.name(), Compression::Snappy),
        (Compression::Lz4.name(), Compression::Lz4),
        (Compression::Zstd.name(), Compression::Zstd),
    ],
    later: &[],
};

/// `on_error`.
pub static ON_ERROR: Choice<ErrorPolicy> =
    Choice { now: &[("skip", ErrorPolicy::Skip), ("stop", ErrorPolicy::Stop)], later: &[] };

/// `on_error`, without what `dead_letter` adds to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorPolicy {
    /// The message is left out.
    Skip,
    /// The route stops.
    Stop,
}

/// `group_protocol`.
pub static GROUP_PROTOCOL: Choice<GroupProtocol> = Choice {
    now: &[("consumer", GroupProtocol::Consumer), ("classic", GroupProtocol::Classic)],
    later: &[],
};

/// `isolation`.
pub static ISOLATION: Choice<Isolation> = Choice {
    now: &[
        ("read_committed", Isolation::ReadCommitted),
        ("read_uncommitted", Isolation::ReadUncommitted),
    ],
    later: &[],
};

/// `on_out_of_range`.
pub static ON_OUT_OF_RANGE: Choice<OnOutOfRange> = Choice {
    now: &[("earliest", OnOutOfRange::Earliest), ("stop", OnOutOfRange::Stop)],
    later: &[],
};

/// `on_corrupt`.
pub static ON_CORRUPT: Choice<OnCorrupt> =
    Choice { now: &[("stop", OnCorrupt::Stop), ("skip", OnCorrupt::Skip)], later: &[] };

/// `fetcher`.
pub static FETCHER: Choice<FetcherKind> = Choice {
    now: &[("fast", FetcherKind::Fast), ("librdkafka", FetcherKind::Librdkafka)],
    later: &[],
};

/// `producer`.
pub static PRODUCER: Choice<ProducerKind> = Choice {
    now: &[("fast", ProducerKind::Fast), ("librdkafka", ProducerKind::Librdkafka)],
    later: &[],
};
