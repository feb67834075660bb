//! The identity of a peer, and its rights. Pure: no files, no network, no clock.
//!
//! A peer is a set of [`Claims`]. They come from a key's [`Certificate`], from a token that a
//! trusted [`Issuer`] has signed, or from the kernel. [`Rules`] turn claims into a [`Grant`], which
//! decides for every path.
//!
//! ```
//! use zafka_identity::{ClaimName, Claims, Rule, Rules, TopicPattern, Topics, Who};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let name = ClaimName::parse("iss").ok_or("not a claim's name")?;
//! let rules = Rules::new(vec![Rule {
//!     who: Who::Claims(vec![(name, vec!["https://idp.example.org".into()])]),
//!     read: Topics::Named(vec![TopicPattern::parse("alerts")?]),
//!     write: Topics::Named(vec![TopicPattern::parse("plant.{sub}")?]),
//! }]);
//! let grant = rules.grant(Some(&Claims::new("https://idp.example.org", "press-7", [])));
//! assert!(grant.may_read("alerts") && grant.may_write("plant.press-7"));
//! assert!(!grant.may_write("plant.press-8") && !rules.grant(None).may_read("alerts"));
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod access;
mod admission;
mod certificate;
mod claims;
mod clock;
mod directory;
mod discovery;
mod doorkeeper;
mod ends;
mod key_refresh;
mod leases;
mod pattern;
#[cfg(all(test, feature = "planted"))]
mod planted;
mod questions;
mod revocations;
mod shared_answers;
mod steady;
mod token;

pub use access::{Grant, KafkaTopics, Rule, Rules, Topics, Who};
pub use admission::Admission;
pub use certificate::{Certificate, CertificateError};
pub use claims::{ClaimName, Claims, ISSUER_KEYS, ISSUER_PEERCRED, shown};
pub use clock::Clock;
pub use directory::{Directory, LeaseChange, Leased, Refusal, Revocation};
pub use discovery::{DiscoveryError, discovery_url, introspection_url, keys_url, max_age};
pub use doorkeeper::Doorkeeper;
pub use key_refresh::KeyRefresh;
pub use leases::{LeaseError, LeaseView};
pub use pattern::{PatternError, TopicPattern, name_fault, regex_fault};
pub use questions::{Answered, Failed, Failure, Question, Questions, Wanted};
pub use revocations::{Revoked, TooManyRevocations};
pub use steady::SteadyClock;
pub use token::{
    Algorithm, Issuer, KeySet, KeySetError, TokenError, TokenId, Verified, claimed_end, verify,
};
