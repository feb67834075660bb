//! `zafka access`: what a token is worth to a relay with some configuration.

use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;

use zafka_identity::{Grant, Issuer, KafkaTopics, TokenError, Verified, shown, verify};
use zafka_kafka::Cluster;
use zafka_zmtp::Token;
use zafka_zmtp::curve::PublicKey;

use super::{AccessArgs, CommandError, UsageError, token_in};
use crate::config::{Config, IdentityConfig, KafkaExchange, load, public_key_in};
use crate::identity::{ask_kafka, to_secret, wall_clock};
use crate::introspection::{IntrospectError, Introspector};
use crate::random::new_key;
use crate::time_text::end_text;

/// The reason why a token is worth nothing.
#[derive(Debug, thiserror::Error)]
enum AccessError {
    /// It is not taken.
    #[error("the token is not taken: {0}")]
    NotTaken(TokenError),
    /// The keys of its issuer cannot be fetched.
    #[error("the keys of its issuer {issuer} cannot be fetched: {reason}")]
    NoKeys { issuer: String, reason: String },
    /// Its issuer says that it is not active.
    #[error("the token is not taken: its issuer says that it is not active")]
    Inactive,
    /// Its issuer has to say that it is active, and does not answer.
    #[error(
        "the token is taken, and gives no lease: its issuer could not be asked whether it is \
         active: {0}"
    )]
    NotConfirmed(IntrospectError),
    /// Kafka decides what its owner may do, and does not answer.
    #[error(
        "the token is taken, and gives no lease: Kafka could not be asked what its owner may do: \
         {0}"
    )]
    NotAnswered(String),
}

/// Prints the rights that the token in a file gives to `out`.
///
/// # Errors
/// A file that cannot be used, or a token that is not taken.
pub fn access(args: &AccessArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let config = load(&args.config)?.config;
    let Some(identity) = &config.identity else {
        let text = format!("{}: without [identity] no tokens are taken", args.config.display());
        return Err(UsageError(text).into());
    };
    let token = token_in(&args.token_file).map_err(UsageError)?;
    let key = match &args.key {
        Some(path) => public_key_in(path).map_err(UsageError)?.public,
        None => new_key().public(),
    };
    let verified = verified(&token, &key, identity)?;
    confirm(&token, &verified, identity)?;
    let mut grant = identity.rules.grant(Some(&verified.claims));
    if let Some(exchange) = identity.exchange.as_ref().filter(|_| grant.asks_kafka()) {
        grant = grant.with_kafka(&kafka_topics(&token, exchange, &config)?);
    }
    out.write_all(worth(&verified, &grant, identity).as_bytes())
        .map_err(|error| super::output_error(error).into())
}

/// Verifies a token, with the keys that its issuer has now.
fn verified(
    token: &Token,
    key: &PublicKey,
    identity: &IdentityConfig,
) -> Result<Verified, AccessError> {
    let mut issuers: Vec<Issuer> = identity.issuers.iter().map(|one| one.issuer.clone()).collect();
    let outcome = |issuers: &[Issuer]| {
        verify(token.expose(), key, issuers, wall_clock(), identity.clock_skew)
    };
    // No keys are known yet: a token that is not refused for its form names its issuer by that.
    let index = match outcome(&issuers) {
        Err(TokenError::UnknownKey(index)) => index,
        other => return other.map_err(AccessError::NotTaken),
    };
    let (Some(config), Some(issuer)) = (identity.issuers.get(index), issuers.get_mut(index)) else {
        return Err(AccessError::NotTaken(TokenError::Issuer));
    };
    let fetched = config.source.fetch().map_err(|error| AccessError::NoKeys {
        issuer: issuer.name.clone(),
        reason: error.to_string(),
    })?;
    issuer.keys = Arc::new(fetched.keys);
    outcome(&issuers).map_err(AccessError::NotTaken)
}

/// Asks the issuer of a token whether it is active, if it has to say so.
fn confirm(
    token: &Token,
    verified: &Verified,
    identity: &IdentityConfig,
) -> Result<(), AccessError> {
    let issuers = &identity.issuers;
    let issuer = issuers.iter().find(|one| one.issuer.name == verified.claims.issuer());
    let Some(source) = issuer.and_then(|issuer| issuer.introspection.as_ref()) else {
        return Ok(());
    };
    match Introspector::new(source).is_active(&to_secret(token.expose())) {
        Ok(true) => Ok(()),
        Ok(false) => Err(AccessError::Inactive),
        Err(error) => Err(AccessError::NotConfirmed(error)),
    }
}

/// Exchanges a token, and asks Kafka what its owner may do.
fn kafka_topics(
    token: &Token,
    exchange: &KafkaExchange,
    config: &Config,
) -> Result<KafkaTopics, CommandError> {
    let cluster = Cluster::new(&config.cluster)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let token = to_secret(token.expose());
    let asked = runtime.block_on(ask_kafka(&cluster, exchange, token, &config.asked_topics()));
    Ok(asked.map_err(|error| AccessError::NotAnswered(error.to_string()))?)
}

/// The worth of a token that is taken, in lines.
fn worth(verified: &Verified, grant: &Grant, identity: &IdentityConfig) -> String {
    let (claims, now) = (&verified.claims, wall_clock());
    let end = verified.lease_end(now, identity.max_lease, identity.clock_skew);
    let list = |items: Vec<String>| match items.is_empty() {
        true => "nothing".to_owned(),
        false => items.join(", "),
    };
    let rules = grant.rules().iter().map(ToString::to_string).collect();
    let mut text = format!(
        "the token is taken\nissuer: {}\nsubject: {}\ntoken ends: {}\n\
         lease, if it began now, ends: {}\n\
         rules of [[identity.access]]: {}\nread: {}\nwrite: {}\n",
        claims.issuer(),
        shown(claims.subject()),
        end_text(verified.expires),
        end_text(end),
        list(rules),
        list(grant.readable()),
        list(grant.writable()),
    );
    if grant.asks_kafka() {
        text.push_str(
            "Kafka was asked, in the name of the token's owner, about the topics of all routes\n",
        );
    }
    if !grant.left_out().is_empty() {
        let entries = grant.left_out().join(", ");
        // Writing to a text cannot fail.
        let _ = writeln!(text, "left out, for lack of a claim that fits a topic's name: {entries}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;
    use zafka_identity::Certificate;
    use zafka_testkit::Issuer;
    use zafka_testkit::issuer::{AUDIENCE, INTROSPECTION_SECRET, Serving};
    use zafka_zmtp::Mechanism;

    use super::*;
    use crate::cli::CurveArgs;

    /// Returns the output of the command about a token, or the error.
    fn told(issuer: &Issuer, token: &str) -> Result<String, String> {
        told_by(issuer, "", token)
    }

    /// The same, with further keys of the issuer.
    fn told_by(issuer: &Issuer, keys: &str, token: &str) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (secret, config) = (path("relay.key_secret"), path("zafka.toml"));
        fs::write(&secret, Certificate::secret_text(&new_key())).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let text = format!(
            "[kafka]\nbootstrap_servers = ['a:1']\n[identity]\n\
             secret_key_file = 'relay.key_secret'\n\
             [[identity.issuer]]\nissuer = '{}'\naudience = ['{AUDIENCE}']\n{keys}\n\
             [[identity.access]]\nwho = {{ role = 'dash' }}\nread = ['orders', 't-{{tenant}}']\n\
             [[identity.access]]\nwho = {{ role = 'ops' }}\nwrite = ['/^edge\\.[a-z]+$/']\n\
             [[route]]\nname = 'r'\nfrom.kafka = {{ topics = ['orders'] }}\n\
             to.zmq = {{ socket = 'pub', bind = ['tcp://*:1'] }}\n",
            issuer.name()
        );
        fs::write(&config, text).unwrap();
        fs::write(path("token"), format!("{token}\n")).unwrap();
        let args = AccessArgs { config, token_file: path("token"), key: None };
        let mut out = Vec::new();
        access(&args, &mut out).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_token_that_is_taken() {
        let issuer = Issuer::start();
        let both = json!({ "role": ["dash", "ops"], "tenant": "a.b" });
        let out = told(&issuer, &issuer.token("alice", 600, &both)).unwrap();
        for line in [
            "subject: alice",
            "rules of [[identity.access]]: 1, 2",
            "read: orders",
            "write: /^edge\\.[a-z]+$/",
            "left out, for lack of a claim that fits a topic's name: t-{tenant}",
        ] {
            assert!(out.lines().any(|told| told == line), "{line}: {out}");
        }
        let out = told(&issuer, &issuer.token("bob", 600, &json!({}))).unwrap();
        assert!(out.contains("access]]: nothing\nread: nothing\nwrite: nothing\n"), "{out}");
    }

    #[test]
    fn a_token_that_a_command_shows() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("relay.key"), Certificate::public_text(&new_key())).unwrap();
        fs::write(path("token"), "a.b.c\n").unwrap();
        let token_file = Some(path("token"));
        let server_key = Some(path("relay.key"));
        let curve = CurveArgs { server_key, curve_key: None, token_file, login: false };
        let endpoint = || "tcp://127.0.0.1:1".parse().unwrap();
        let Mechanism::CurveClient(side) = curve.secured(endpoint(), None).unwrap().mechanism
        else {
            panic!("no CURVE");
        };
        assert_eq!(side.token.as_ref().map(Token::expose), Some(&b"a.b.c"[..]));
        fs::write(path("token"), "x".repeat(20_000)).unwrap();
        let error = curve.secured(endpoint(), None).unwrap_err().to_string();
        assert!(error.contains("more than 16384 bytes"), "{error}");
    }

    #[test]
    fn an_issuer_that_has_to_say_that_it_is_active() {
        let issuer = Issuer::start();
        let asked = format!(
            "introspection = {{ client_id = 'zafka', client_secret = '{INTROSPECTION_SECRET}' }}"
        );
        let token = issuer.token("alice", 600, &json!({}));
        assert!(told_by(&issuer, &asked, &token).unwrap().contains("subject: alice"));
        issuer.serve_introspection(Serving::Status(500));
        let error = told_by(&issuer, &asked, &token).unwrap_err();
        assert!(error.contains("gives no lease") && error.contains("status 500"), "{error}");
        issuer.serve_introspection(Serving::Well);
        issuer.deactivate(&token);
        let error = told_by(&issuer, &asked, &token).unwrap_err();
        assert_eq!(error, "the token is not taken: its issuer says that it is not active");
        assert!(told(&issuer, &token).is_ok(), "only if it is asked");
    }

    #[test]
    fn a_token_that_is_not() {
        let issuer = Issuer::start();
        let none = json!({});
        for (token, part) in [
            ("x".to_owned(), "malformed"),
            ("two words".to_owned(), "one word"),
            (String::new(), "one word"),
            (issuer.token("alice", -60, &none), "expired"),
            (issuer.token("alice", 60, &json!({ "aud": "x" })), "audience"),
            (issuer.token("alice", 60, &json!({ "iss": "x" })), "issuer is not trusted"),
            (issuer.token("alice", 60, &json!({ "cnf": { "jkt": "x" } })), "bound"),
        ] {
            let error = told(&issuer, &token).unwrap_err();
            assert!(error.contains(part), "{part}: {error}");
            assert!(token.len() < 9 || !error.contains(&token), "{error}");
        }
        let token = issuer.token("alice", 600, &none);
        issuer.rotate();
        assert!(told(&issuer, &token).unwrap_err().contains("its key is not known"));
        issuer.serve(Serving::Status(500));
        assert!(told(&issuer, &token).unwrap_err().contains("status 500"));
    }
}
