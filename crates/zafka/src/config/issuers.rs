//! `[[identity.issuer]]`: the issuers of tokens, and the places of their keys.

use std::sync::Arc;

use toml::de::DeValue;
use zafka_identity::{Algorithm, ISSUER_KEYS, ISSUER_PEERCRED, Issuer};
use zafka_oidc::IntrospectionConfig;

use super::claims::claims;
use super::keys;
use super::mistake::Rejected;
use super::oauth;
use super::reader::Table;
use super::text::{self, Parsed};
use crate::introspection::IntrospectionSource;
use crate::issuer_keys::{KeyPlace, KeySource};

/// An issuer whose tokens are taken.
#[derive(Clone, Debug, PartialEq)]
pub struct IssuerConfig {
    /// The required content of its tokens. Its keys are not known yet.
    pub issuer: Issuer,
    /// The address of its keys.
    pub source: KeySource,
    /// The way to ask it whether a token is active, if it has to say so.
    pub introspection: Option<IntrospectionSource>,
}

/// Reads all issuers of `[identity]`.
pub fn issuers(identity: &Table<'_, '_>) -> Option<Vec<IssuerConfig>> {
    let tables = identity.tables(&keys::ISSUER, &keys::ISSUER_SECTION);
    // Each mistake is reported.
    let read: Vec<_> = tables.iter().map(|table| (table, issuer(table))).collect();
    let mut issuers: Vec<IssuerConfig> = Vec::new();
    let mut complete = true;
    for (table, issuer) in read {
        let Some(issuer) = issuer else {
            complete = false;
            continue;
        };
        let name = &issuer.issuer.name;
        if issuers.iter().any(|before| before.issuer.name == *name) {
            let found = format!("found {name:?} for the second time");
            table.mistake(&keys::ISSUER_NAME, found, "each issuer once");
            complete = false;
        }
        issuers.push(issuer);
    }
    complete.then_some(issuers)
}

fn issuer(table: &Table<'_, '_>) -> Option<IssuerConfig> {
    // It need not be a URL if nothing is asked there.
    let is_asked = !table.has(&keys::ISSUER_JWKS_URL) && !table.has(&keys::ISSUER_JWKS_FILE);
    let name = if is_asked { text::provider_url } else { text::label };
    let name = table.text(&keys::ISSUER_NAME, name);
    let audience = table.list(&keys::ISSUER_AUDIENCE, text::label);
    let algorithms = match table.has(&keys::ISSUER_ALGORITHMS) {
        true => table.list(&keys::ISSUER_ALGORITHMS, algorithm),
        false => Some(Vec::new()),
    };
    let url = table.text(&keys::ISSUER_JWKS_URL, text::provider_url);
    let file = table.path(&keys::ISSUER_JWKS_FILE);
    let ca = table.path(&keys::ISSUER_CA);
    let bearer_file = table.secret_path(&keys::ISSUER_BEARER_FILE);
    let require = match table.raw(&keys::ISSUER_REQUIRE).map(|value| value.get_ref()) {
        None => Some(Vec::new()),
        Some(DeValue::Table(wanted)) => claims(table, &keys::ISSUER_REQUIRE, wanted),
        Some(_) => {
            let key = &keys::ISSUER_REQUIRE;
            table.mistake(key, "found something else", key.kind.to_string());
            None
        }
    };
    if file.is_some() {
        for key in [&keys::ISSUER_JWKS_URL, &keys::ISSUER_CA, &keys::ISSUER_BEARER_FILE] {
            if table.has(key) {
                table.mistake(key, "`jwks_file` is there too", "not together with a file of keys");
            }
        }
    }
    let mut algorithms: Vec<_> = algorithms?.into_iter().map(|(item, _)| item).collect();
    if algorithms.is_empty() {
        algorithms = Algorithm::ALL.to_vec();
    }
    if let Some(name) = &name
        && [ISSUER_KEYS, ISSUER_PEERCRED].contains(&name.as_str())
    {
        let found = format!("found {name:?}, which stands for peers without a token");
        table.mistake(&keys::ISSUER_NAME, found, "the `iss` of the issuer's tokens");
        return None;
    }
    let (name, audience) = (name?, audience?.into_iter().map(|(item, _)| item).collect());
    let place = match (file, url) {
        (Some(file), _) => KeyPlace::File(file),
        (None, Some(url)) => KeyPlace::Url(url),
        (None, None) => KeyPlace::Discovered,
    };
    let source = KeySource { issuer: name.clone(), place, ca, bearer_file };
    let introspection = introspection(table, &source);
    if matches!(source.place, KeyPlace::File(_))
        && let Err(error) = source.fetch()
    {
        table.mistake(&keys::ISSUER_JWKS_FILE, error.to_string(), "a JWK Set (RFC 7517)");
        return None;
    }
    let (require, keys, introspection) = (require?, Arc::default(), introspection?);
    let introspects = introspection.is_some();
    let issuer = Issuer { name, audience, algorithms, require, keys, introspects };
    Some(IssuerConfig { issuer, source, introspection })
}

/// Reads how an issuer is asked about tokens. `None` for a mistake, `Some(None)` if it is not.
fn introspection(issuer: &Table<'_, '_>, keys: &KeySource) -> Option<Option<IntrospectionSource>> {
    if !issuer.has(&keys::ISSUER_INTROSPECTION) {
        return Some(None);
    }
    let table = issuer.table(&keys::ISSUER_INTROSPECTION, &keys::INTROSPECTION_SECTION)?;
    let url = table.text(&keys::INTROSPECTION_URL, text::token_url);
    if keys.place != KeyPlace::Discovered {
        let by = "an issuer with `jwks_url` or `jwks_file`: nothing is discovered there";
        table.require(&[&keys::INTROSPECTION_URL], by);
    }
    let is_missing = keys.place != KeyPlace::Discovered && !table.has(&keys::INTROSPECTION_URL);
    let shown_at = match table.has(&keys::INTROSPECTION_URL) {
        true => ("url", url.as_deref()),
        false => ("issuer", Some(&*keys.issuer)),
    };
    let authentication = oauth::proof(&table, "introspection", shown_at);
    let client = IntrospectionConfig {
        client_id: table.text(&keys::EXCHANGE_CLIENT_ID, text::label),
        authentication: authentication?,
        audience: keys.issuer.clone(),
        ca: table.path(&keys::INTROSPECTION_CA).or_else(|| keys.ca.clone()),
    };
    let every = table.duration(&keys::INTROSPECTION_EVERY)?;
    if is_missing || url.is_none() && table.has(&keys::INTROSPECTION_URL) {
        return None;
    }
    let source = IntrospectionSource { url, client, every, keys: keys.clone() };
    if let Err(error) = source.check() {
        oauth::tell(&table, &error);
        return None;
    }
    Some(Some(source))
}

fn algorithm(text: &str) -> Parsed<Algorithm> {
    let names: Vec<_> = Algorithm::ALL.into_iter().map(Algorithm::name).collect();
    let allowed = names.join(", ");
    match Algorithm::from_name(text) {
        Some(algorithm) => Ok(algorithm),
        None if text.starts_with("HS") => {
            let why = "a verifier of such a token could also make one";
            Err(Rejected::because(why, allowed))
        }
        None if text.eq_ignore_ascii_case("none") => {
            Err(Rejected::because("anyone could make such a token", allowed))
        }
        None => Err(Rejected::allowed(allowed)),
    }
}
