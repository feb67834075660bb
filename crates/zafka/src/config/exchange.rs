//! `[identity.exchange]`: how a peer's token becomes one for Kafka.

use std::time::Duration;

use zafka_kafka::config::{OAuthBearer, Secret};
use zafka_oidc::{ExchangeConfig, SecretSource};

use super::keys;
use super::oauth::{client, extensions, look};
use super::reader::Table;
use super::text::{self, GrantKind};

/// The way to ask Kafka in a peer's name.
#[derive(Clone, Debug, PartialEq)]
pub struct KafkaExchange {
    /// The exchange of its token.
    pub tokens: ExchangeConfig,
    /// SASL extensions (KIP-342).
    pub extensions: Vec<(String, String)>,
    /// Time between two questions about one peer.
    pub acl_refresh: Duration,
    /// Names of peers in which records are written at the same time, at the most.
    pub max_identities: usize,
}

impl KafkaExchange {
    /// Returns what the owner of a token shows to the brokers.
    pub fn of(&self, token: impl Into<SecretSource>) -> OAuthBearer {
        OAuthBearer { tokens: self.tokens.of(token), extensions: self.extensions.clone() }
    }
}

/// Reads the table of `[identity]`. `None` for a mistake, `Some(None)` if it is missing.
pub fn exchange(identity: &Table<'_, '_>) -> Option<Option<KafkaExchange>> {
    if !identity.has(&keys::EXCHANGE) {
        return Some(None);
    }
    identity.only_with(&keys::EXCHANGE, &keys::ISSUER);
    let table = identity.table(&keys::EXCHANGE, &keys::EXCHANGE_SECTION)?;
    let asked = [&keys::EXCHANGE_AUDIENCE, &keys::EXCHANGE_SCOPE, &keys::EXCHANGE_RESOURCE];
    table.require(&asked, "an exchange");
    let endpoint = client(&table, GrantKind::TokenExchange);
    let subject_token_type = table.text(&keys::EXCHANGE_SUBJECT_TOKEN_TYPE, text::uri);
    let extensions = extensions(&table);
    let acl_refresh = table.duration(&keys::EXCHANGE_ACL_REFRESH);
    let max_identities = table.count(&keys::EXCHANGE_MAX_IDENTITIES);
    let tokens = ExchangeConfig { endpoint: endpoint?, subject_token_type: subject_token_type? };
    look(&table, &tokens.of(Secret::new("")));
    let (acl_refresh, max_identities) = (acl_refresh?, max_identities?);
    Some(Some(KafkaExchange { tokens, extensions, acl_refresh, max_identities }))
}
