//! The tokens of peers in whose names records are written, for as long as their leases last.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use zafka_bridge::{IdentityPlaces, PeerLease};
use zafka_identity::LeaseChange;
use zafka_kafka::config::{LiveSecret, Secret};
use zafka_zmtp::curve::PublicKey;

use crate::config::KafkaExchange;

/// The most tokens that are kept. Each may have 8 KiB.
const MAX_KEPT: usize = 16_384;

/// Tokens by the keys that they have let in, and the places of those who write.
#[derive(Debug)]
pub struct PeerTokens {
    exchange: KafkaExchange,
    tokens: Mutex<HashMap<PublicKey, LiveSecret>>,
    places: Arc<IdentityPlaces>,
}

impl PeerTokens {
    /// Nobody has a lease yet.
    pub fn new(exchange: &KafkaExchange) -> Self {
        let places = Arc::new(IdentityPlaces::new(exchange.max_identities));
        Self { exchange: exchange.clone(), tokens: Mutex::default(), places }
    }

    /// Takes a token that has given a lease, or has moved its end. The directory is locked
    /// meanwhile, so that its end comes later; it is never locked behind the tokens.
    pub fn handle_leased(&self, key: PublicKey, change: LeaseChange, token: Secret) {
        let mut tokens = self.tokens.lock();
        match (change, tokens.get(&key)) {
            (LeaseChange::Unchanged, _) => {}
            (LeaseChange::Renewed, Some(before)) => before.replace(token),
            (LeaseChange::Begun | LeaseChange::Renewed, _) => {
                // One that has ended may have had another owner.
                if let Some(before) = tokens.remove(&key) {
                    before.take_away();
                }
                if tokens.len() < MAX_KEPT {
                    tokens.insert(key, LiveSecret::new(token));
                }
            }
        }
    }

    /// Takes away the tokens of leases that do not live. The directory may be locked meanwhile.
    pub fn retain(&self, lives: impl Fn(&PublicKey) -> bool) {
        self.tokens.lock().retain(|key, token| {
            let stays = lives(key);
            if !stays {
                token.take_away();
            }
            stays
        });
    }

    /// Takes away the token of a lease that has ended.
    pub fn handle_ended(&self, key: &PublicKey) {
        if let Some(token) = self.tokens.lock().remove(key) {
            token.take_away();
        }
    }

    /// The lease of a key, if there is a token of it.
    pub fn lease(&self, key: &PublicKey) -> Option<PeerLease> {
        let token = self.tokens.lock().get(key)?.clone();
        Some(PeerLease { tokens: self.exchange.of(token.clone()), token })
    }

    /// The places for names to write in.
    pub fn places(&self) -> &Arc<IdentityPlaces> {
        &self.places
    }
}

#[cfg(test)]
mod tests {
    use zafka_oidc::{Grant, SecretSource, TokenConfig};

    use super::super::tests::{exchange, key};
    use super::*;

    fn public(number: u8) -> PublicKey {
        key(number).public()
    }

    fn kept(tokens: &PeerTokens) -> usize {
        tokens.tokens.lock().len()
    }

    #[test]
    fn a_token_is_that_of_its_lease() {
        let (tokens, token) = (PeerTokens::new(&exchange()), |text: &str| Secret::new(text));
        let (alice, bob) = (public(1), public(2));
        assert_eq!(tokens.lease(&alice), None);
        tokens.handle_leased(alice, LeaseChange::Begun, token("a1"));
        tokens.handle_leased(bob, LeaseChange::Begun, token("b1"));
        let lease = tokens.lease(&alice).unwrap();
        assert_eq!(lease.token.current(), Some(token("a1")));
        // A renewed lease is the same one; what is exchanged is the new token.
        tokens.handle_leased(alice, LeaseChange::Renewed, token("a2"));
        tokens.handle_leased(alice, LeaseChange::Unchanged, token("a0"));
        assert_eq!(tokens.lease(&alice), Some(lease.clone()));
        assert_eq!(lease.token.current(), Some(token("a2")));
        // One that begins after the end is another one, though nobody told of the end.
        tokens.handle_leased(alice, LeaseChange::Begun, token("c1"));
        assert!(lease.token.is_gone());
        let next = tokens.lease(&alice).unwrap();
        assert!(next != lease && !next.token.is_gone());
        tokens.handle_ended(&alice);
        assert!(next.token.is_gone() && tokens.lease(&alice).is_none());
        let of_bob = tokens.lease(&bob).unwrap();
        tokens.retain(|key| *key != bob);
        assert!(of_bob.token.is_gone() && kept(&tokens) == 0);
    }

    #[test]
    fn what_is_exchanged_is_the_live_token() {
        let tokens = PeerTokens::new(&exchange());
        tokens.handle_leased(public(1), LeaseChange::Begun, Secret::new("hidden"));
        let lease = tokens.lease(&public(1)).unwrap();
        assert!(!format!("{lease:?}").contains("hidden"));
        let TokenConfig::Endpoint(endpoint) = lease.tokens.tokens else { panic!("no endpoint") };
        let Grant::TokenExchange { subject_token, .. } = endpoint.grant else {
            panic!("no exchange")
        };
        assert_eq!(subject_token, SecretSource::Live(lease.token));
    }

    #[test]
    fn tokens_are_bounded() {
        let tokens = PeerTokens::new(&exchange());
        for number in 0..MAX_KEPT as u64 + 2 {
            // Small numbers are of low order.
            let mut bytes = [9; 32];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            let key = PublicKey::from_bytes(bytes).unwrap();
            tokens.handle_leased(key, LeaseChange::Begun, Secret::new("t"));
        }
        assert_eq!(kept(&tokens), MAX_KEPT);
    }
}
