//! Every key of the file: its name, its values and their bounds, its default, what it is for.
//!
//! The file is read by these tables, `zafka relay` takes bounds and defaults from them, and
//! `docs/configuration.md` is generated from them.

mod sections;

use std::time::Duration;

use super::kind::Kind;
use super::text;
pub use sections::*;

/// The presence that a key needs, and its value if it is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Must be there.
    Required,
    /// May be missing; what that means is in the key's `doc`.
    Optional,
    /// Its default, as TOML; it is read as if it stood in the file.
    Default(&'static str),
}
use Presence::{Default, Optional, Required};

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// The values that it takes.
    pub kind: Kind,
    /// The presence that it needs.
    pub presence: Presence,
    /// Its documentation.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "read by the generator of the documentation")
    )]
    pub doc: &'static str,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const NO_TIME: Duration = Duration::ZERO;
const TENTH: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const FIVE_MINUTES: Duration = Duration::from_secs(300);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const MONTH: Duration = Duration::from_secs(31 * 24 * 3600);
/// A TTL of ZMTP has 16 bits of tenths of a second.
const HEARTBEAT_MAX: Duration = Duration::from_secs(6553);

macro_rules! keys {
    ($($id:ident = $name:literal, $kind:expr, $presence:expr, $doc:literal;)*) => {
        $(#[doc = $doc] pub static $id: Key =
            Key { name: $name, kind: $kind, presence: $presence, doc: $doc };)*
    };
}

keys! {
    SHUTDOWN_TIMEOUT = "shutdown_timeout", Kind::Duration(NO_TIME, HOUR), Default("\"5s\""),
        "Time to send what is in the rings after SIGTERM or Ctrl-C.";
    KAFKA = "kafka", Kind::Table, Required, "The cluster.";
    ADMIN = "admin", Kind::Table, Optional, "The admin server; none without this table.";
    IDENTITY = "identity", Kind::Table, Optional,
        "Who the peers are, and what they may do; without this table everybody who reaches an \
         endpoint may use it.";
    ROUTE = "route", Kind::Tables, Required, "The routes; at least one.";

    SECRET_KEY_FILE = "secret_key_file",
        Kind::Described("file with a secret certificate"), Required,
        "The relay's own CURVE key, as `zafka keygen`, czmq and pyzmq write it. Only its owner may \
         read it.";
    PREVIOUS_SECRET_KEY_FILE = "previous_secret_key_file",
        Kind::Described("file with a secret certificate"), Optional,
        "The key before it: clients may know either one while they move to the new one.";
    KEYS_FOLDER = "keys", Kind::Described("path of a folder"), Optional,
        "Public certificates of the peers that are known, one in each file `NAME.key`. The folder \
         is looked at every second: a peer whose file is removed or says something else is closed. \
         The peer's claims are `iss = \"keys\"`, `sub = \"NAME\"` and what the certificate's \
         metadata say.";
    IDENTITY_BIND = "bind", Kind::Described("list of tcp endpoints"), Optional,
        "The door: endpoints at which a client enrols its CURVE key by a token, if it cannot show \
         one in its handshakes. They let in every key, and take nothing but `ENROL` (see [the \
         protocol](protocol.md#the-door)). Needs an issuer.";
    MAX_LEASE = "max_lease", Kind::Duration(SECOND, MONTH), Default("\"12h\""),
        "The longest time that a token lets a key in. A lease ends here or with its token, \
         whichever is first.";
    CLOCK_SKEW = "clock_skew", Kind::Duration(NO_TIME, FIVE_MINUTES), Default("\"30s\""),
        "How much the clocks of issuers may differ from the relay's.";
    ISSUER = "issuer", Kind::Tables, Optional, "Providers whose tokens are taken.";
    EXCHANGE = "exchange", Kind::Table, Optional,
        "How a peer's token becomes one for Kafka, so that Kafka's own ACLs decide about the peer; \
         required by `\"kafka\"` in `read` and `write`.";
    ACCESS = "access", Kind::Tables, Optional,
        "Who may read and write which topics. Nothing is allowed without a rule.";

    ACCESS_WHO = "who", Kind::Described("table of claims, or \"any-key\""), Required,
        "Claims that a peer must have, all of them: `{ NAME = VALUE }`, where VALUE is a text, a \
         number, true, false, or a list of which one must match. A claim that is a list has each \
         of its values. NAME that begins with `/` is a JSON pointer (RFC 6901). `\"any-key\"` is \
         everybody, also a peer with an unknown key: encryption without authentication.";
    ACCESS_READ = "read", Kind::Described("list of names and /^patterns$/, or \"kafka\""), Optional,
        "Topics that these peers may read. `{CLAIM}` stands for the peer's claim, if that is made \
         of 1 to 64 letters, digits, `_` and `-`; otherwise the entry does not count. `\"kafka\"` \
         is what Kafka's ACLs let the peer itself read, of the topics of all routes; it needs \
         `[identity.exchange]`, and peers that show tokens.";
    ACCESS_WRITE = "write",
        Kind::Described("list of names and /^patterns$/, or \"kafka\""), Optional,
        "Topics that these peers may write to, likewise.";

    EXCHANGE_TOKEN_URL = "token_url", Kind::Described("URL"), Required,
        "Token endpoint of the provider that exchanges tokens, https unless it is on this machine.";
    EXCHANGE_CLIENT_ID = "client_id", Kind::Described("text"), Optional,
        "The relay's client id at the provider; required with a secret, a key or a certificate of \
         the client.";
    EXCHANGE_CLIENT_SECRET = "client_secret", Kind::Secret, Optional,
        "Client secret. By this key or one of `client_secret_file`, `client_key_file`, \
         `client_assertion_file` and `client_certificate` the relay shows who it is.";
    EXCHANGE_SUBJECT_TOKEN_TYPE = "subject_token_type", Kind::Described("URI"),
        Default("\"urn:ietf:params:oauth:token-type:access_token\""),
        "The type of the peers' tokens (RFC 8693 section 3).";
    EXCHANGE_AUDIENCE = "audience", Kind::Described("text"), Optional,
        "`audience` of the request: Kafka, as the provider knows it. One of `audience`, `scope` \
         and `resource` is required.";
    EXCHANGE_SCOPE = "scope", Kind::Described("list of texts"), Optional, "Scopes to ask for.";
    EXCHANGE_RESOURCE = "resource", Kind::Described("URI"), Optional,
        "`resource` of the request (RFC 8707).";
    EXCHANGE_CA = "ca", Kind::Path, Optional,
        "Certificate authorities to trust for the token endpoint (PEM), read again for each \
         request; the system's if it is missing.";
    EXCHANGE_ACL_REFRESH = "acl_refresh", Kind::Duration(SECOND, HOUR), Default("\"5m\""),
        "Time between two questions to Kafka about a peer, or up to an eighth less: a change of \
         its ACLs acts within that.";
    EXCHANGE_MAX_IDENTITIES = "max_identities", Kind::Whole(1, 1_000), Default("32"),
        "Names in which routes with `as_peer` write at the same time, over all of these routes. \
         Each has connections of its own to Kafka. A sender beyond that is answered `busy`. A name \
         is free again five minutes after its last record, with its lease, or once all its senders \
         have gone and another one wants to write, on whichever route.";

    ISSUER_NAME = "issuer", Kind::Described("https URL, or a text"), Required,
        "The issuer as its tokens name it (`iss`), byte for byte. Its keys are found by OpenID \
         Connect Discovery: below it, at `/.well-known/openid-configuration`. http is allowed for \
         a loopback address alone. With `jwks_url` or `jwks_file` it need not be a URL.";
    ISSUER_AUDIENCE = "audience", Kind::Described("list of texts"), Required,
        "Audiences, of which a token must have one (`aud`). Have one of its own for each \
         deployment.";
    ISSUER_ALGORITHMS = "algorithms", Kind::Described("list of algorithms"), Optional,
        "The algorithms that its tokens may have: RS256, PS256, ES256, ES384, EdDSA; all of these \
         if it is missing. Never HS256 and the like, and never none.";
    ISSUER_JWKS_URL = "jwks_url", Kind::Described("https URL"), Optional,
        "Where its keys are, instead of what discovery says: that must be on the issuer's own \
         host.";
    ISSUER_JWKS_FILE = "jwks_file", Kind::Path, Optional,
        "File with its keys (a JWK Set), instead; for a relay that does not reach the provider. \
         Read again every five minutes, and soon after a token names a key that is not in it.";
    ISSUER_CA = "ca", Kind::Path, Optional,
        "Certificate authorities to trust for it (PEM), read again for each request; the system's \
         if it is missing.";
    ISSUER_BEARER_FILE = "bearer_file", Kind::Path, Optional,
        "File with a token to show when its keys are fetched, read again for each request, such as \
         that of a Kubernetes service account.";
    ISSUER_REQUIRE = "require", Kind::Described("table of claims"), Optional,
        "Claims that each of its tokens must have, as in `who`.";

    ISSUER_INTROSPECTION = "introspection", Kind::Table, Optional,
        "The issuer has to say itself that a token is active, before it gives a lease and at an \
         interval from then on (RFC 7662).";

    INTROSPECTION_URL = "url", Kind::Described("URL"), Optional,
        "The introspection endpoint, https unless it is on this machine; the \
         `introspection_endpoint` of the issuer's discovery document if it is missing, which must \
         be on the issuer's own host. Required with `jwks_url` or `jwks_file`.";
    INTROSPECTION_CA = "ca", Kind::Path, Optional,
        "Certificate authorities to trust for the endpoint (PEM), read anew for each request; \
         those of the issuer if it is missing.";
    INTROSPECTION_EVERY = "every", Kind::Duration(SECOND, HOUR), Default("\"60s\""),
        "Time between two questions about the token of a lease, or up to an eighth less: a logout \
         at the provider acts within that.";

    ENDPOINT = "endpoint", Kind::Described("endpoint"), Required, "The endpoint.";
    ENDPOINT_MECHANISM = "mechanism", Kind::Choice(&text::ENDPOINT_MECHANISM), Optional,
        "How its connections are secured. With `[identity]` \"curve\" for `tcp`, and \"null\" must \
         be said and is allowed on a loopback address alone; its peers have no claims. Without \
         `[identity]` \"null\".";
    ENDPOINT_SERVER_KEY_FILE = "server_key_file",
        Kind::Described("file with a public certificate"), Optional,
        "The key of the peer to connect to, which then is CURVE's server; required in `connect` \
         with \"curve\".";

    BOOTSTRAP_SERVERS = "bootstrap_servers", Kind::Described("list of HOST:PORT"), Required,
        "Some of the cluster's brokers.";
    CLIENT_RACK = "client_rack", Kind::Described("text"), Optional,
        "The rack zafka runs in: partitions with a replica there are read from it (KIP-392), or \
         from their leader while that replica cannot be reached.";
    SECURITY = "security", Kind::Table, Optional, "TLS and SASL; plain text without this table.";

    TLS = "tls", Kind::Described("true, false, or a table"), Default("false"),
        "TLS to the brokers; `true` trusts the system's certificate authorities.";
    SASL = "sasl", Kind::Table, Optional, "Authentication by SASL.";

    TLS_CA = "ca", Kind::Path, Optional,
        "Certificate authorities to trust (PEM); the system's if it is missing.";
    TLS_CERTIFICATE = "certificate", Kind::Path, Optional,
        "The client's certificate chain (PEM), for mutual TLS; needs `key`.";
    TLS_KEY = "key", Kind::Path, Optional,
        "The client's private key (PEM, PKCS#8); needs `certificate`.";
    TLS_KEY_PASSWORD = "key_password", Kind::Secret, Optional,
        "Password of an encrypted key; needs `key`.";
    TLS_KEY_PASSWORD_FILE = "key_password_file", Kind::Path, Optional,
        "File that holds `key_password`.";

    SASL_MECHANISM = "mechanism", Kind::Choice(&text::MECHANISM), Required,
        "The mechanism. Kerberos (GSSAPI) is not supported.";
    SASL_USERNAME = "username", Kind::Described("text"), Optional,
        "User name; for PLAIN and SCRAM, required there.";
    SASL_PASSWORD = "password", Kind::Secret, Optional,
        "Password; for PLAIN and SCRAM, which require this key or the next.";
    SASL_PASSWORD_FILE = "password_file", Kind::Path, Optional, "File that holds `password`.";
    SASL_GRANT = "grant", Kind::Choice(&text::GRANT), Default("\"client_credentials\""),
        "What a token is granted for, with OAUTHBEARER: the client itself (RFC 6749 section 4.4), \
         another token that is exchanged (RFC 8693), an assertion (RFC 7523), or nothing: the \
         token is in a file.";
    SASL_TOKEN_URL = "token_url", Kind::Described("URL"), Optional,
        "Token endpoint of the OIDC provider, https unless it is on this machine; for OAUTHBEARER, \
         required there unless `grant` is \"file\".";
    SASL_CLIENT_ID = "client_id", Kind::Described("text"), Optional,
        "Client id; required if `grant` is \"client_credentials\" without `client_assertion_file`, \
         and with a secret, a key or a certificate of the client.";
    SASL_CLIENT_SECRET = "client_secret", Kind::Secret, Optional,
        "Client secret. By this key or one of `client_secret_file`, `client_key_file`, \
         `client_assertion_file` and `client_certificate` the client shows who it is; \
         \"client_credentials\" requires one.";
    SASL_CLIENT_SECRET_FILE = "client_secret_file", Kind::Path, Optional,
        "File that holds `client_secret`; read for each request.";
    SASL_CLIENT_KEY_FILE = "client_key_file", Kind::Path, Optional,
        "Private key (PEM: RSA, P-256, P-384 or Ed25519) by which the client signs who it is \
         (`private_key_jwt`, RFC 7523); read for each request. Others must not be able to read it.";
    SASL_CLIENT_KEY_ID = "client_key_id", Kind::Described("text"), Optional,
        "`kid` of that key, if the provider finds it by that; needs `client_key_file`.";
    SASL_CLIENT_KEY_ALGORITHM = "client_key_algorithm", Kind::Choice(&text::ALGORITHM), Optional,
        "What that key signs by; RS256, ES256, ES384 or EdDSA by its kind if it is missing. Needs \
         `client_key_file`.";
    SASL_CLIENT_ASSERTION_AUDIENCE = "client_assertion_audience", Kind::Described("text"), Optional,
        "`aud` of what that key signs: some providers want their issuer there. `token_url` if it \
         is missing, in an introspection the issuer; needs `client_key_file`.";
    SASL_CLIENT_ASSERTION_FILE = "client_assertion_file", Kind::Path, Optional,
        "File that holds a signed assertion of who the client is, such as a token of its platform \
         (RFC 7523); read for each request.";
    SASL_CLIENT_CERTIFICATE = "client_certificate", Kind::Path, Optional,
        "Certificate (PEM) that the client shows to the token endpoint (RFC 8705); read for each \
         request. Needs `client_certificate_key`, and https.";
    SASL_CLIENT_CERTIFICATE_KEY = "client_certificate_key", Kind::Path, Optional,
        "Private key (PEM, not encrypted) of `client_certificate`. Others must not be able to read \
         it.";
    SASL_SUBJECT_TOKEN_FILE = "subject_token_file", Kind::Path, Optional,
        "File that holds the token to exchange, such as one that Kubernetes mounts; read for each \
         request. For `grant = \"token_exchange\"`, required there.";
    SASL_SUBJECT_TOKEN_TYPE = "subject_token_type", Kind::Described("URI"),
        Default("\"urn:ietf:params:oauth:token-type:jwt\""),
        "Its type (RFC 8693 section 3). For `grant = \"token_exchange\"`.";
    SASL_ASSERTION_FILE = "assertion_file", Kind::Path, Optional,
        "File that holds the assertion, such as a token of a platform; read for each request. For \
         `grant = \"jwt_bearer\"`, which requires this key or the next.";
    SASL_ASSERTION = "assertion", Kind::Table, Optional,
        "An assertion that zafka signs for each request. For `grant = \"jwt_bearer\"`.";
    SASL_TOKEN_FILE = "token_file", Kind::Path, Optional,
        "File that holds the token for the brokers. It is read again when four fifths of what was \
         left of the token's life (its `exp`; 5 minutes if it is no JWT) are over. For `grant = \
         \"file\"`, required there.";
    SASL_SCOPE = "scope", Kind::Described("list of texts"), Optional,
        "Scopes to ask for; for OAUTHBEARER.";
    SASL_AUDIENCE = "audience", Kind::Described("text"), Optional,
        "`audience` of the token request, if the provider wants one; for OAUTHBEARER.";
    SASL_RESOURCE = "resource", Kind::Described("URI"), Optional,
        "`resource` of the token request (RFC 8707), if the provider wants one; for OAUTHBEARER.";
    SASL_CA = "ca", Kind::Path, Optional,
        "Certificate authorities to trust for the token endpoint (PEM); for OAUTHBEARER.";
    SASL_EXTENSIONS = "extensions", Kind::Described("table of texts"), Optional,
        "SASL extensions (KIP-342); for OAUTHBEARER.";

    ASSERTION_KEY_FILE = "key_file", Kind::Path, Required,
        "Private key (PEM: RSA, P-256, P-384 or Ed25519) that signs it; read for each request. \
         Others must not be able to read it.";
    ASSERTION_KEY_ID = "key_id", Kind::Described("text"), Optional,
        "`kid` of that key, if the provider finds it by that.";
    ASSERTION_ALGORITHM = "algorithm", Kind::Choice(&text::ALGORITHM), Optional,
        "What that key signs by; RS256, ES256, ES384 or EdDSA by its kind if it is missing.";
    ASSERTION_ISSUER = "iss", Kind::Described("text"), Required, "Who signs it.";
    ASSERTION_SUBJECT = "sub", Kind::Described("text"), Required, "Whom the token is for.";
    ASSERTION_AUDIENCE = "aud", Kind::Described("text"), Optional,
        "Whom it is signed for: the provider's issuer or token endpoint. `token_url` if it is \
         missing.";
    ASSERTION_LIFE = "life", Kind::Duration(SECOND, FIVE_MINUTES), Default("\"1m\""),
        "Time from `iat` to `exp`.";
    ASSERTION_CLAIMS = "claims", Kind::Described("table of texts"), Optional,
        "Further claims, such as `scope` if the provider reads it from the assertion.";

    ADMIN_BIND = "bind", Kind::Described("IP:PORT"), Required,
        "Where the admin server listens. It has no authentication: keep it on a loopback address, \
         or on a network that only the people who run zafka reach.";
    ADMIN_HOSTS = "hosts", Kind::Described("list of texts"), Optional,
        "Further hosts that requests to the admin server may name (in the HTTP header `Host`), \
         without a port. Loopback names and addresses and the address of `bind` are always served; \
         if that is a wildcard, so is every address. Other names are refused (421), since a web \
         page can make its own name stand for a loopback address.";
    ADMIN_CONTROL = "control", Kind::Described("path of a socket"), Optional,
        "The control socket, for `zafka leases` and `zafka revoke`: a file that the relay makes \
         and its user alone may open (mode 0600). None without this key. Needs `[identity]`.";

    NAME = "name", Kind::Described("text"), Required, "Name of the route; unique.";
    FROM = "from", Kind::Table, Required, "Where the route reads: `from.kafka` or `from.zmq`.";
    TO = "to", Kind::Table, Required, "Where the route writes: `to.zmq` or `to.kafka`.";
    FROM_KAFKA = "kafka", Kind::Table, Optional,
        "What the route reads from Kafka; goes with `to.zmq`.";
    FROM_ZMQ = "zmq", Kind::Table, Optional,
        "The ZeroMQ socket that takes messages; goes with `to.kafka`.";
    TO_ZMQ = "zmq", Kind::Table, Optional,
        "The ZeroMQ socket that the route serves; goes with `from.kafka`.";
    TO_KAFKA = "kafka", Kind::Table, Optional,
        "What the route writes to Kafka; goes with `from.zmq`.";

    TOPICS = "topics", Kind::Described("list of names and /patterns/"), Required,
        "Topics by name, or by a regular expression between slashes (the syntax of the Rust crate \
         `regex`). A pattern never matches an internal topic (`__...`).";
    GROUP = "group", Kind::Described("text"), Optional,
        "The Kafka group to read in. Without one the route reads every partition and commits \
         nothing.";
    GROUP_PROTOCOL = "group_protocol", Kind::Choice(&text::GROUP_PROTOCOL), Optional,
        "How the group is coordinated; whatever the cluster has if it is missing. By \"classic\" \
         the members' assignor is cooperative-sticky. Needs `group`.";
    SESSION_TIMEOUT = "session_timeout", Kind::Duration(SECOND, HOUR), Optional,
        "How long a group of the classic protocol keeps the place of a silent member; 45s if it is \
         missing. Brokers have limits for it (`group.min.session.timeout.ms`, \
         `group.max.session.timeout.ms`). By the newer protocol it is theirs to set \
         (`group.consumer.session.timeout.ms`, a group's `consumer.session.timeout.ms`). Needs \
         `group`.";
    INSTANCE = "instance", Kind::Described("text"), Optional,
        "`group.instance.id` of a static member (KIP-345), which keeps its place over a restart. \
         Needs `group`.";
    START = "start",
        Kind::Time("\"earliest\", \"latest\" or an RFC 3339 time"), Default("\"latest\""),
        "Where a topic begins of which the group has no committed offset, or a route without a \
         group; a time is not before 1970. A partition that comes later begins at its earliest \
         offset, and so does a topic that only a pattern selects once the group has offsets of \
         another topic of that pattern.";
    ISOLATION = "isolation", Kind::Choice(&text::ISOLATION), Default("\"read_committed\""),
        "What of transactions is read: committed ones only, or open and aborted ones too.";
    ON_OUT_OF_RANGE = "on_out_of_range",
        Kind::Choice(&text::ON_OUT_OF_RANGE), Default("\"earliest\""),
        "Where the log no longer has the next offset: go on at the earliest and count what was \
         skipped, or stop the route. Likewise if an unclean election truncated the log below that \
         offset, now or while no relay ran: go on at the truncation point, or stop.";
    ON_CORRUPT = "on_corrupt", Kind::Choice(&text::ON_CORRUPT), Default("\"stop\""),
        "At a batch that fails its checks each time it is fetched: its partition stands still, \
         which `/readyz` reports, and the others go on; or go on behind it, log the offsets and \
         count them (`records_skipped`). Not \"skip\" with `fetcher = \"librdkafka\"`, which does \
         not report the end of such a batch.";
    FETCHER = "fetcher", Kind::Choice(&text::FETCHER), Default("\"fast\""),
        "What fetches: zafka's own requests (Kafka 2.7 or newer; if a broker is older, librdkafka \
         takes over by itself), or librdkafka.";
    STALL_TIMEOUT = "stall_timeout", Kind::Duration(SECOND, HOUR), Default("\"30s\""),
        "Time without progress, though there is something to read, after which a partition is \
         reported.";
    REVOKE_TIMEOUT = "revoke_timeout", Kind::Duration(NO_TIME, FIVE_MINUTES), Default("\"5s\""),
        "Time a partition that the group takes back has to send what was read of it.";
    TOPIC_REFRESH = "topic_refresh", Kind::Duration(TENTH, HOUR), Default("\"30s\""),
        "Time between two listings of topics.";
    FROM_RENAME = "rename", Kind::Described("list of pairs of texts"), Optional,
        "Other names for topics in the routing frame: `[[\"^edge\\\\.(.+)$\", \"{1}\"], [\"old\", \
         \"new\"]]`. A text that begins with `^` is a pattern for the whole name and ends with \
         `$`. The first that matches counts. `{meta}` and `{packed}` keep Kafka's name.";

    SOCKET = "socket", Kind::Choice(&text::SOCKET), Required,
        "The socket type: `pub` serves SUB and XSUB.";
    BIND = "bind", Kind::Described("list of endpoints or tables"), Optional,
        "Endpoints to listen on: `tcp://HOST:PORT`, `ipc:///PATH`. HOST is an address, the name of \
         an interface, a name (served on one address, the IPv4 one if it has both), `*` for every \
         IPv4 address, or `[::]` for every IPv6 and IPv4 address; PORT `*` is any free port. \
         `bind` or `connect` must be there.";
    IPC_MODE = "ipc_mode", Kind::Described("octal mode"), Optional,
        "Mode of the socket files of `ipc` endpoints to bind, such as `\"0660\"`: a peer connects \
         if it may write to the file. What the umask leaves if it is missing.";
    CONNECT = "connect", Kind::Described("list of endpoints or tables"), Optional,
        "Endpoints to connect to, again and again when they are lost: `tcp://HOST:PORT`, \
         `ipc:///PATH`. Each peer once: two endpoints that lead to one are a mistake. The \
         addresses of a name are tried in turn; one is connected to.";
    FRAMES = "frames", Kind::Described("preset or list of templates"), Default("\"json\""),
        "How a record is laid out as frames: `json`, `packed`, `batch`, `value`, or templates, one \
         a frame.";
    SLOW_PEER = "slow_peer", Kind::Choice(&text::SLOW_PEER), Default("\"drop\""),
        "What happens to a peer that falls behind the ring: `drop` skips and counts what the ring \
         no longer has, `block` reads no more from Kafka until there is room.";
    PEER_TIMEOUT = "peer_timeout", Kind::DurationOrNone(SECOND, DAY), Default("\"3m\""),
        "With `slow_peer = \"block\"`: a peer that takes nothing, and whose machine has \
         acknowledged nothing for this long though it was asked more than once, is closed. The \
         kernel may ask a full peer only every two minutes, so it can take that much longer. A \
         full peer that acknowledges is never closed. \"0\" waits until the connection ends, as \
         `ipc` always does.";
    MIN_PEERS = "min_peers", Kind::Whole(0, 1_000_000), Default("0"),
        "Peers that have to want a partition: with fewer it is held, and not read. Each partition \
         counts the peers whose subscriptions match its routing frame; if its messages differ in \
         that, those with any subscription.";
    RING_BYTES = "ring_bytes", Kind::Size(64 * KIB, 64 * GIB), Default("\"16MiB\""),
        "Bound of the ring of encoded messages. A larger message is admitted alone.";
    HEARTBEAT = "heartbeat", Kind::Table, Optional,
        "ZMTP heartbeats; off without this table, as in libzmq.";
    MAX_PEERS = "max_peers", Kind::Whole(1, 1_000_000), Default("16384"),
        "Peers of the socket: connections whose handshake is done.";
    MAX_SUBSCRIPTIONS = "max_subscriptions", Kind::Whole(1, 10_000_000), Default("10000"),
        "Distinct subscriptions of one peer; one counts once for each 256 bytes that it begins.";
    PEER_MEMORY = "peer_memory", Kind::Size(MIB, 1024 * GIB), Default("\"256MiB\""),
        "Memory that the peers of the socket together can make zafka hold: subscriptions, frames \
         that have come in part, replies, the rests of unfinished messages. Who would exceed it is \
         closed, the others stay.";
    MAX_INBOUND_FRAME = "max_inbound_frame", Kind::Size(KIB, GIB), Default("\"64KiB\""),
        "Size of one frame that a peer sends.";

    INBOUND_SOCKET = "socket", Kind::Choice(&text::INBOUND_SOCKET), Required,
        "The socket type: `pull` serves PUSH, `sub` serves PUB and XPUB, `router` serves DEALER \
         and REQ, which are answered.";
    SUBSCRIBE = "subscribe", Kind::Described("list of texts"), Optional,
        "Prefixes to subscribe to; for `sub`, required there. An empty text is everything.";
    INBOUND_FRAMES = "frames", Kind::Described("preset or list of templates"), Optional,
        "What the frames of a message are: a preset, or templates, one a frame, each with one \
         field at most: `{topic}`, `{key}`, `{value}`, `{header.NAME}`, `{timestamp}`, `{id}`, \
         `{meta}`, `{packed}`, or `{_}` for a frame that is left out. Required for `router`; \
         `json` for the others if it is missing.";
    MAX_MESSAGE = "max_message", Kind::Size(KIB, GIB), Default("\"16MiB\""),
        "Size of one message. A larger one is thrown away as it comes, and told as `too_large`; \
         over 1 GiB its connection is closed.";
    SENDER_MEMORY = "peer_memory", Kind::Size(MIB, 1024 * GIB), Default("\"256MiB\""),
        "Memory that the senders of the socket together can make zafka hold, besides \
         `in_flight_bytes`: half for messages that have come in part or wait, half for answers \
         that are not read. While the first is taken, senders are not read.";

    TO_TOPIC = "topic", Kind::Described("text with fields"), Default("\"{topic}\""),
        "The topic to write to, with the fields `{topic}`, `{key}` and `{header.NAME}` of the \
         message.";
    TO_TOPICS = "topics", Kind::Described("list of names and /^patterns$/"), Optional,
        "The topics that may be written to; a pattern begins with `^` and ends with `$`. Required \
         if `topic` has a field. Internal topics (`__...`) are never written to.";
    RENAME = "rename", Kind::Described("list of pairs of texts"), Optional,
        "Changes of the message's topic before it is put into `topic`: `[[\"^sensor\\\\.(.+)$\", \
         \"edge.{1}\"], [\"old\", \"new\"]]`. A text that begins with `^` is a pattern for the \
         whole name and ends with `$`. The first that matches counts.";
    TO_KEY = "key", Kind::Described("text with fields"), Optional,
        "The record's key, with the same fields as `topic`; the message's key if it is missing.";
    TO_PARTITION = "partition", Kind::Described("text with fields"), Optional,
        "The partition, as a decimal number; by the key's hash as Kafka's Java client has it if it \
         is missing or empty.";
    TO_HEADERS = "headers", Kind::Described("table of texts with fields"), Optional,
        "Headers to add to each record.";
    COMPRESSION = "compression", Kind::Choice(&text::COMPRESSION), Default("\"none\""),
        "Compression of record batches.";
    LINGER = "linger", Kind::Duration(NO_TIME, MINUTE), Default("\"0s\""),
        "Time that a batch waits for more records.";
    BATCH_SIZE = "batch_size", Kind::Size(KIB, GIB), Default("\"1000000\""),
        "Size at which a batch is sent, regardless of `linger`.";
    IN_FLIGHT_BYTES = "in_flight_bytes", Kind::Size(64 * KIB, 3 * GIB), Default("\"32MiB\""),
        "Messages that were received and are not in the log yet; one partition has at most a \
         quarter. When it is full, senders are not read: their own high-water mark holds them \
         back. A larger message goes alone.";
    DELIVERY_TIMEOUT = "delivery_timeout", Kind::Duration(SECOND, DAY), Optional,
        "Time after which a message is given up; for as long as it takes if it is missing.";
    PRODUCER = "producer", Kind::Choice(&text::PRODUCER), Default("\"fast\""),
        "What writes: zafka's own requests (Kafka 2.8 or newer; if a broker is older, librdkafka \
         takes over by itself), or librdkafka.";
    ON_ERROR = "on_error", Kind::Choice(&text::ON_ERROR), Default("\"skip\""),
        "What happens to a message of `pull` or `sub` that cannot be written: it is counted and \
         logged, or the route stops.";
    DEAD_LETTER = "dead_letter", Kind::Described("text"), Optional,
        "A topic for messages of `pull` or `sub` that cannot be written, instead of `on_error`. \
         While it cannot be written the route waits.";
    AS_PEER = "as_peer", Kind::Flag, Default("false"),
        "Writes each record in the name of its sender: by connections that show a token of Kafka's \
         audience, which the sender's own token is exchanged for. Kafka's authorizer decides and \
         its audit log names the sender, not the relay. Only for `socket = \"router\"` and \
         `producer = \"fast\"`, together with `[identity.exchange]`.";
    STAMP = "stamp", Kind::Flag, Default("false"),
        "Adds the headers `zafka.route`, `zafka.peer`, `zafka.connection`, `zafka.sequence`, and \
         `zafka.id` if the message has an id: by them a reader recognizes a repeat.";

    HEARTBEAT_INTERVAL = "interval", Kind::Duration(TENTH, HEARTBEAT_MAX), Required,
        "Time between two PINGs.";
    HEARTBEAT_TIMEOUT = "timeout", Kind::Duration(TENTH, HEARTBEAT_MAX), Optional,
        "A peer from which nothing has come for this long after a PING is closed; the interval if \
         it is missing. With `slow_peer = \"block\"` a peer that may be full is waited for, as \
         long as its machine acknowledges.";
}
