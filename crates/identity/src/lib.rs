//! Who a peer is, and what it may do. Pure: no files, no network, no clock.
//!
//! A peer is a set of [`Claims`]. They come from a key's [`Certificate`] or from the kernel.
//! [`Rules`] turn claims into a [`Grant`], which decides for every path.
#![forbid(unsafe_code)]

mod access;
mod certificate;
mod claims;
mod directory;
mod pattern;

pub use access::{Grant, Rule, Rules, Who};
pub use certificate::{Certificate, CertificateError};
pub use claims::{ClaimName, Claims, ISSUER_KEYS, ISSUER_PEERCRED, shown};
pub use directory::{Admission, Directory, Refusal};
pub use pattern::{PatternError, TopicPattern};
