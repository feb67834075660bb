//! `[identity.exchange]`: how a peer's token becomes one for Kafka.

use std::time::Duration;

use toml::de::DeValue;
use zafka_kafka::config::{ClusterConfig, OAuthBearer, Secret};
use zafka_oidc::ExchangeConfig;

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
}

impl KafkaExchange {
    /// Returns what the owner of a token shows to the brokers.
    pub fn of(&self, token: Secret) -> OAuthBearer {
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
    let tokens = ExchangeConfig { endpoint: endpoint?, subject_token_type: subject_token_type? };
    look(&table, &tokens.of(Secret::new("")));
    Some(Some(KafkaExchange { tokens, extensions, acl_refresh: acl_refresh? }))
}

/// Compares the exchange with what is known of the cluster.
pub fn compare(top: &Table<'_, '_>, cluster: Option<&ClusterConfig>) {
    let Some(DeValue::Table(identity)) = top.raw(&keys::IDENTITY).map(|value| value.get_ref())
    else {
        return;
    };
    if let Some(exchange) = identity.get(keys::EXCHANGE.name)
        && cluster.is_some_and(|cluster| cluster.security.tls.is_none())
    {
        let text = "the tokens of peers travel to the brokers in the clear, without \
                    `kafka.security.tls`";
        top.reader().warn(&exchange.span(), "identity.exchange", text);
    }
}
