//! The tables of the file, each with its keys in the order of the documentation.

use super::*;

/// One table of the file.
#[derive(Debug)]
pub struct Section {
    /// Its path; empty for the top level.
    pub path: &'static str,
    /// Its documentation.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "read by the generator of the documentation")
    )]
    pub doc: &'static str,
    /// Its keys.
    pub keys: &'static [&'static Key],
    /// Names of keys that come with a later version.
    pub later: &'static [&'static str],
}

/// Lists the keys of a table with the ways in which a client proves its identity to a provider,
/// after its secret.
macro_rules! with_client_proofs {
    ($($before:ident),*; $($after:ident),*) => {
        &[
            $(&$before,)*
            &SASL_CLIENT_SECRET_FILE,
            &SASL_CLIENT_KEY_FILE,
            &SASL_CLIENT_KEY_ID,
            &SASL_CLIENT_KEY_ALGORITHM,
            &SASL_CLIENT_ASSERTION_AUDIENCE,
            &SASL_CLIENT_ASSERTION_FILE,
            &SASL_CLIENT_CERTIFICATE,
            &SASL_CLIENT_CERTIFICATE_KEY,
            $(&$after,)*
        ]
    };
}

/// The top level.
pub static TOP: Section = Section {
    path: "",
    doc: "The top level of the file.",
    keys: &[&SHUTDOWN_TIMEOUT, &KAFKA, &ADMIN, &IDENTITY, &ROUTE],
    later: &[],
};

/// `[kafka]`.
pub static KAFKA_SECTION: Section = Section {
    path: "kafka",
    doc: "The cluster that the routes share.",
    keys: &[&BOOTSTRAP_SERVERS, &CLIENT_RACK, &SECURITY],
    later: &[],
};

/// `[kafka.security]`.
pub static SECURITY_SECTION: Section = Section {
    path: "kafka.security",
    doc: "How zafka and the brokers know each other.",
    keys: &[&TLS, &SASL],
    later: &[],
};

/// `kafka.security.tls`.
pub static TLS_SECTION: Section = Section {
    path: "kafka.security.tls",
    doc: "TLS with settings of its own.",
    keys: &[&TLS_CA, &TLS_CERTIFICATE, &TLS_KEY, &TLS_KEY_PASSWORD, &TLS_KEY_PASSWORD_FILE],
    later: &[],
};

/// `kafka.security.sasl`.
pub static SASL_SECTION: Section = Section {
    path: "kafka.security.sasl",
    doc: "A SASL mechanism with what it needs.",
    keys: with_client_proofs! {
        SASL_MECHANISM,
        SASL_USERNAME,
        SASL_PASSWORD,
        SASL_PASSWORD_FILE,
        SASL_GRANT,
        SASL_TOKEN_URL,
        SASL_CLIENT_ID,
        SASL_CLIENT_SECRET;
        SASL_SUBJECT_TOKEN_FILE,
        SASL_SUBJECT_TOKEN_TYPE,
        SASL_ASSERTION_FILE,
        SASL_ASSERTION,
        SASL_TOKEN_FILE,
        SASL_SCOPE,
        SASL_AUDIENCE,
        SASL_RESOURCE,
        SASL_CA,
        SASL_EXTENSIONS
    },
    later: &[],
};

/// `kafka.security.sasl.assertion`.
pub static ASSERTION_SECTION: Section = Section {
    path: "kafka.security.sasl.assertion",
    doc: "A JWT that zafka signs, for which the provider grants a token (RFC 7523).",
    keys: &[
        &ASSERTION_KEY_FILE,
        &ASSERTION_KEY_ID,
        &ASSERTION_ALGORITHM,
        &ASSERTION_ISSUER,
        &ASSERTION_SUBJECT,
        &ASSERTION_AUDIENCE,
        &ASSERTION_LIFE,
        &ASSERTION_CLAIMS,
    ],
    later: &[],
};

/// `[admin]`.
pub static ADMIN_SECTION: Section = Section {
    path: "admin",
    doc: "Serves `/healthz`, `/readyz`, `/metrics` and `/status` over HTTP.",
    keys: &[&ADMIN_BIND, &ADMIN_HOSTS, &ADMIN_CONTROL],
    later: &[],
};

/// `[identity]`.
pub static IDENTITY_SECTION: Section = Section {
    path: "identity",
    doc: "Who the peers are, and what they may do. With it every `tcp` endpoint is CURVE, and \
          `ipc` peers are who the kernel says: `iss = \"peercred\"`, `sub`, `uid` and `gid`. See \
          [security](security.md).",
    keys: &[
        &SECRET_KEY_FILE,
        &PREVIOUS_SECRET_KEY_FILE,
        &KEYS_FOLDER,
        &IDENTITY_BIND,
        &MAX_LEASE,
        &CLOCK_SKEW,
        &ISSUER,
        &EXCHANGE,
        &ACCESS,
    ],
    later: &["key", "leases"],
};

/// `[[identity.issuer]]`.
pub static ISSUER_SECTION: Section = Section {
    path: "identity.issuer",
    doc: "One provider (OpenID Connect, or any issuer of JSON Web Tokens). A peer shows a token \
          inside CURVE's handshake, as property `X-Token`: its claims are the peer's until its \
          lease ends.",
    keys: &[
        &ISSUER_NAME,
        &ISSUER_AUDIENCE,
        &ISSUER_ALGORITHMS,
        &ISSUER_JWKS_URL,
        &ISSUER_JWKS_FILE,
        &ISSUER_CA,
        &ISSUER_BEARER_FILE,
        &ISSUER_REQUIRE,
        &ISSUER_INTROSPECTION,
    ],
    later: &[],
};

/// `introspection` of `[[identity.issuer]]`.
pub static INTROSPECTION_SECTION: Section = Section {
    path: "identity.issuer.introspection",
    doc: "How the issuer is asked whether a token is active. It is sent the token, by a client \
          that proves its identity: by one of `client_secret`, `client_secret_file`, \
          `client_key_file`, `client_assertion_file` and `client_certificate`.",
    keys: with_client_proofs! {
        INTROSPECTION_URL,
        EXCHANGE_CLIENT_ID,
        EXCHANGE_CLIENT_SECRET;
        INTROSPECTION_CA,
        INTROSPECTION_EVERY
    },
    later: &[],
};

/// `[identity.exchange]`.
pub static EXCHANGE_SECTION: Section = Section {
    path: "identity.exchange",
    doc: "The exchange of a peer's token for one with Kafka's audience, in the peer's name (RFC \
          8693). Kafka is asked over a connection that shows that token by OAUTHBEARER, at \
          `kafka.bootstrap_servers` and with `kafka.security.tls`.",
    keys: with_client_proofs! {
        EXCHANGE_TOKEN_URL,
        EXCHANGE_CLIENT_ID,
        EXCHANGE_CLIENT_SECRET;
        EXCHANGE_SUBJECT_TOKEN_TYPE,
        EXCHANGE_AUDIENCE,
        EXCHANGE_SCOPE,
        EXCHANGE_RESOURCE,
        EXCHANGE_CA,
        SASL_EXTENSIONS,
        EXCHANGE_ACL_REFRESH,
        EXCHANGE_MAX_IDENTITIES
    },
    later: &[],
};

/// `[[identity.access]]`.
pub static ACCESS_SECTION: Section = Section {
    path: "identity.access",
    doc: "One rule. Rules add up; there is none that denies.",
    keys: &[&ACCESS_WHO, &ACCESS_READ, &ACCESS_WRITE],
    later: &["groups", "prefixes"],
};

/// A table in `bind` or `connect`.
pub static ENDPOINT_SECTION: Section = Section {
    path: "endpoint",
    doc: "An endpoint in `bind` or `connect` as a table, for more than its address.",
    keys: &[&ENDPOINT, &ENDPOINT_MECHANISM, &ENDPOINT_SERVER_KEY_FILE],
    later: &["role"],
};

/// `[[route]]`.
pub static ROUTE_SECTION: Section =
    Section { path: "route", doc: "One flow.", keys: &[&NAME, &FROM, &TO], later: &[] };

/// `route.from`.
pub static FROM_SECTION: Section = Section {
    path: "route.from",
    doc: "Where the route reads.",
    keys: &[&FROM_KAFKA, &FROM_ZMQ],
    later: &[],
};

/// `route.to`.
pub static TO_SECTION: Section = Section {
    path: "route.to",
    doc: "Where the route writes.",
    keys: &[&TO_ZMQ, &TO_KAFKA],
    later: &[],
};

/// `route.from.kafka`.
pub static FROM_KAFKA_SECTION: Section = Section {
    path: "route.from.kafka",
    doc: "What the route reads from Kafka.",
    keys: &[
        &TOPICS,
        &GROUP,
        &GROUP_PROTOCOL,
        &SESSION_TIMEOUT,
        &INSTANCE,
        &START,
        &ISOLATION,
        &ON_OUT_OF_RANGE,
        &ON_CORRUPT,
        &FETCHER,
        &STALL_TIMEOUT,
        &REVOKE_TIMEOUT,
        &TOPIC_REFRESH,
        &FROM_RENAME,
    ],
    later: &[],
};

/// `route.to.zmq`.
pub static TO_ZMQ_SECTION: Section = Section {
    path: "route.to.zmq",
    doc: "The ZeroMQ socket that the route serves.",
    keys: &[
        &SOCKET,
        &BIND,
        &IPC_MODE,
        &CONNECT,
        &FRAMES,
        &SLOW_PEER,
        &PEER_TIMEOUT,
        &MIN_PEERS,
        &RING_BYTES,
        &HEARTBEAT,
        &MAX_PEERS,
        &MAX_SUBSCRIPTIONS,
        &MAX_INBOUND_FRAME,
        &PEER_MEMORY,
    ],
    later: &[],
};

/// `route.to.zmq.heartbeat`.
pub static HEARTBEAT_SECTION: Section = Section {
    path: "route.to.zmq.heartbeat",
    doc: "ZMTP heartbeats, sent to ZMTP 3.1 peers only.",
    keys: &[&HEARTBEAT_INTERVAL, &HEARTBEAT_TIMEOUT],
    later: &[],
};

/// `route.from.zmq`.
pub static FROM_ZMQ_SECTION: Section = Section {
    path: "route.from.zmq",
    doc: "The ZeroMQ socket that takes messages.",
    keys: &[
        &INBOUND_SOCKET,
        &BIND,
        &IPC_MODE,
        &CONNECT,
        &SUBSCRIBE,
        &INBOUND_FRAMES,
        &HEARTBEAT,
        &MAX_PEERS,
        &MAX_MESSAGE,
        &SENDER_MEMORY,
    ],
    later: &[],
};

/// `route.to.kafka`.
pub static TO_KAFKA_SECTION: Section = Section {
    path: "route.to.kafka",
    doc: "What the route writes to Kafka: always idempotent, always with `acks = all`.",
    keys: &[
        &TO_TOPIC,
        &TO_TOPICS,
        &RENAME,
        &TO_KEY,
        &TO_PARTITION,
        &TO_HEADERS,
        &COMPRESSION,
        &LINGER,
        &BATCH_SIZE,
        &IN_FLIGHT_BYTES,
        &DELIVERY_TIMEOUT,
        &ON_ERROR,
        &DEAD_LETTER,
        &STAMP,
        &PRODUCER,
        &AS_PEER,
    ],
    later: &[],
};
