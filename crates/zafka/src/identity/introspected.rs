//! The tokens of an issuer that has to say whether they are active.

use std::sync::Arc;

use zafka_identity::{Questions, Refusal, TokenId, Verified, Wanted};
use zafka_oidc::Secret;
use zafka_zmtp::curve::PublicKey;

use super::asked::Asked;
use crate::introspection::{IntrospectionSource, Introspector};

/// Questions in a row that have failed about a peer, from which on it is kept out by that.
const KEPT_OUT: u32 = 2;

/// A token that is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedToken {
    /// The token itself.
    pub secret: Secret,
    /// Its digest.
    pub id: TokenId,
}

/// The tokens of an issuer.
#[derive(Debug)]
pub struct Introspected {
    issuer: String,
    introspector: Arc<Introspector>,
    /// The tokens that it is asked about.
    pub asked: Asked<AskedToken>,
}

impl Introspected {
    /// Nothing is asked yet.
    pub fn new(source: &IntrospectionSource) -> Self {
        Self {
            issuer: source.keys.issuer.clone(),
            introspector: Arc::new(Introspector::new(source)),
            asked: Asked::new(Questions::lenient(source.every)),
        }
    }

    /// The issuer's name.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The way to ask.
    pub fn introspector(&self) -> Arc<Introspector> {
        Arc::clone(&self.introspector)
    }

    /// Has the issuer asked about a token. Returns the reason why it gives no lease yet.
    pub fn want(
        &self,
        key: PublicKey,
        verified: &Verified,
        token: impl FnOnce() -> Secret,
    ) -> Refusal {
        let keep = || AskedToken { secret: token(), id: verified.id };
        match self.asked.want(key, verified, keep) {
            Wanted::Asked => Refusal::AsksIssuer,
            Wanted::Failed | Wanted::Full => Refusal::NotConfirmed,
        }
    }

    /// Returns the number of peers that are kept out because the issuer does not answer.
    pub fn kept_out(&self) -> usize {
        self.asked.unanswered(KEPT_OUT)
    }
}
