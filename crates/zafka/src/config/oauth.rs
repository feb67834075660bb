//! OAUTHBEARER of `[kafka.security.sasl]`: the source of tokens, and the proof of the client's
//! identity.

use std::path::Path;

use zafka_kafka::config::OAuthBearer;
use zafka_oidc::{
    Assertion, ClientAuthentication, ClientCertificate, EndpointConfig, FileFault, Grant,
    SecretSource, SignedAssertion, SigningKeyConfig, TokenConfig, TokenError, TokenProvider,
};

use super::keys::{self, Key};
use super::mistake::Rejected;
use super::reader::Table;
use super::text::{self, GrantKind};

/// Keys of every grant.
const ALWAYS: &[&Key] = &[&keys::SASL_MECHANISM, &keys::SASL_GRANT, &keys::SASL_EXTENSIONS];
/// Keys of each grant that asks a token endpoint.
const ENDPOINT: &[&Key] = &[
    &keys::SASL_TOKEN_URL,
    &keys::SASL_CLIENT_ID,
    &keys::SASL_CLIENT_SECRET,
    &keys::SASL_CLIENT_SECRET_FILE,
    &keys::SASL_CLIENT_KEY_FILE,
    &keys::SASL_CLIENT_KEY_ID,
    &keys::SASL_CLIENT_KEY_ALGORITHM,
    &keys::SASL_CLIENT_ASSERTION_AUDIENCE,
    &keys::SASL_CLIENT_ASSERTION_FILE,
    &keys::SASL_CLIENT_CERTIFICATE,
    &keys::SASL_CLIENT_CERTIFICATE_KEY,
    &keys::SASL_SCOPE,
    &keys::SASL_AUDIENCE,
    &keys::SASL_RESOURCE,
    &keys::SASL_CA,
];
/// Ways in which the client proves its identity; one of them is used.
const AUTHENTICATION: &[&Key] = &[
    &keys::SASL_CLIENT_SECRET,
    &keys::SASL_CLIENT_SECRET_FILE,
    &keys::SASL_CLIENT_KEY_FILE,
    &keys::SASL_CLIENT_ASSERTION_FILE,
    &keys::SASL_CLIENT_CERTIFICATE,
];
/// A key, and the one without which it says nothing.
const TOGETHER: &[(&Key, &Key)] = &[
    (&keys::SASL_CLIENT_KEY_ID, &keys::SASL_CLIENT_KEY_FILE),
    (&keys::SASL_CLIENT_KEY_ALGORITHM, &keys::SASL_CLIENT_KEY_FILE),
    (&keys::SASL_CLIENT_ASSERTION_AUDIENCE, &keys::SASL_CLIENT_KEY_FILE),
    (&keys::SASL_CLIENT_CERTIFICATE, &keys::SASL_CLIENT_CERTIFICATE_KEY),
    (&keys::SASL_CLIENT_CERTIFICATE_KEY, &keys::SASL_CLIENT_CERTIFICATE),
];
/// Claims that an assertion has by itself.
const OWN_CLAIMS: &[&str] = &["iss", "sub", "aud", "iat", "exp", "jti"];

/// The source of the tokens, and what goes beside them.
pub fn oauth_bearer(table: &Table<'_, '_>) -> Option<OAuthBearer> {
    let grant = table.choice(&keys::SASL_GRANT, &text::GRANT)?;
    let endpoint_keys = if asks(grant) { ENDPOINT } else { &[] };
    let allowed = [ALWAYS, &own_keys(grant), endpoint_keys].concat();
    let found = format!("not a key of OAUTHBEARER with grant = \"{}\"", grant.name());
    table.allow_only(&allowed, &found);
    let tokens = match grant {
        GrantKind::File => {
            table.require(&[&keys::SASL_TOKEN_FILE], &by(grant));
            table.secret_path(&keys::SASL_TOKEN_FILE).map(TokenConfig::File)
        }
        _ => endpoint(table, grant).map(|endpoint| TokenConfig::Endpoint(Box::new(endpoint))),
    };
    let extensions = extensions(table);
    let tokens = tokens?;
    look(table, &tokens);
    Some(OAuthBearer { tokens, extensions })
}

/// The name of a grant, as what requires a key.
fn by(grant: GrantKind) -> String {
    format!("grant = \"{}\"", grant.name())
}

fn asks(grant: GrantKind) -> bool {
    !matches!(grant, GrantKind::File)
}

/// Keys of one grant alone.
fn own_keys(grant: GrantKind) -> Vec<&'static Key> {
    match grant {
        GrantKind::ClientCredentials => vec![],
        GrantKind::TokenExchange => {
            vec![&keys::SASL_SUBJECT_TOKEN_FILE, &keys::SASL_SUBJECT_TOKEN_TYPE]
        }
        GrantKind::JwtBearer => vec![&keys::SASL_ASSERTION_FILE, &keys::SASL_ASSERTION],
        GrantKind::File => vec![&keys::SASL_TOKEN_FILE],
    }
}

fn endpoint(table: &Table<'_, '_>, grant: GrantKind) -> Option<EndpointConfig> {
    table.require(&[&keys::SASL_TOKEN_URL], &by(grant));
    let client = client(table, grant);
    let grant = match grant {
        GrantKind::TokenExchange => token_exchange(table, grant),
        GrantKind::JwtBearer => assertion(table, grant).map(Grant::JwtBearer),
        GrantKind::ClientCredentials | GrantKind::File => Some(Grant::ClientCredentials),
    };
    Some(EndpointConfig { grant: grant?, ..client? })
}

/// The token endpoint and the client that asks it, with the grant that needs nothing else. The keys
/// are the same, whichever table they are in.
pub fn client(table: &Table<'_, '_>, grant: GrantKind) -> Option<EndpointConfig> {
    let token_url = table.text(&keys::SASL_TOKEN_URL, text::token_url);
    let client_id = table.text(&keys::SASL_CLIENT_ID, text::label);
    let authentication = authentication(table, grant, ("token_url", token_url.as_deref()));
    let scope = table.list(&keys::SASL_SCOPE, text::scope).unwrap_or_default();
    let audience = table.text(&keys::SASL_AUDIENCE, text::label);
    let resource = table.text(&keys::SASL_RESOURCE, text::uri);
    let ca = table.path(&keys::SASL_CA);
    Some(EndpointConfig {
        token_url: token_url?,
        client_id,
        authentication: authentication?,
        grant: Grant::ClientCredentials,
        scope: scope.into_iter().map(|(scope, _)| scope).collect(),
        audience,
        resource,
        ca,
    })
}

/// The proof of who the client is, where nobody is answered without one. `at`: the key of the URL
/// that is shown it, and the URL.
pub fn proof(
    table: &Table<'_, '_>,
    by: &str,
    at: (&'static str, Option<&str>),
) -> Option<ClientAuthentication> {
    table.require(AUTHENTICATION, by);
    let proof = authentication(table, GrantKind::TokenExchange, at)?;
    (proof != ClientAuthentication::None).then_some(proof)
}

fn authentication(
    table: &Table<'_, '_>,
    grant: GrantKind,
    at: (&'static str, Option<&str>),
) -> Option<ClientAuthentication> {
    for (key, other) in TOGETHER {
        table.only_with(key, other);
    }
    let mut used = AUTHENTICATION.iter().filter(|key| table.has(key));
    let first = used.next();
    if let (Some(first), Some(second)) = (first, used.next()) {
        // Those two are reported with the secret.
        if second.name != keys::SASL_CLIENT_SECRET_FILE.name {
            let names: Vec<_> = AUTHENTICATION.iter().map(|key| key.name).collect();
            let found = format!("`{}` is there too", first.name);
            table.mistake(second, found, format!("one of {}", names.join(", ")));
            return None;
        }
    }
    let Some(first) = first else {
        if matches!(grant, GrantKind::ClientCredentials) {
            table.require(&[&keys::SASL_CLIENT_ID], &by(grant));
            table.require(AUTHENTICATION, &by(grant));
            return None;
        }
        return Some(ClientAuthentication::None);
    };
    // An assertion says whose it is.
    if first.name != keys::SASL_CLIENT_ASSERTION_FILE.name && !table.has(&keys::SASL_CLIENT_ID) {
        table.mistake(&keys::SASL_CLIENT_ID, "missing", format!("`{}` requires it", first.name));
    }
    if table.has(&keys::SASL_CLIENT_KEY_FILE) {
        let key = SigningKeyConfig {
            file: table.private_key_path(&keys::SASL_CLIENT_KEY_FILE)?,
            id: table.text(&keys::SASL_CLIENT_KEY_ID, text::label),
            algorithm: table.choice(&keys::SASL_CLIENT_KEY_ALGORITHM, &text::ALGORITHM),
        };
        let audience = table.text(&keys::SASL_CLIENT_ASSERTION_AUDIENCE, text::label);
        return Some(ClientAuthentication::Key { key, audience });
    }
    if table.has(&keys::SASL_CLIENT_ASSERTION_FILE) {
        let file = table.secret_path(&keys::SASL_CLIENT_ASSERTION_FILE)?;
        return Some(ClientAuthentication::AssertionFile(file));
    }
    if table.has(&keys::SASL_CLIENT_CERTIFICATE) {
        return client_certificate(table, at);
    }
    let secret = table.secret(&keys::SASL_CLIENT_SECRET, &keys::SASL_CLIENT_SECRET_FILE)?;
    Some(ClientAuthentication::Secret(match table.has(&keys::SASL_CLIENT_SECRET_FILE) {
        true => SecretSource::File(table.path(&keys::SASL_CLIENT_SECRET_FILE)?),
        false => SecretSource::Text(secret),
    }))
}

fn client_certificate(
    table: &Table<'_, '_>,
    (name, url): (&'static str, Option<&str>),
) -> Option<ClientAuthentication> {
    if url.is_some_and(|url| !url.starts_with("https:")) {
        let found = format!("`{name}` is not https");
        let allowed = "https: the certificate is shown by TLS (RFC 8705)";
        table.mistake(&keys::SASL_CLIENT_CERTIFICATE, found, allowed);
    }
    let certificate = table.path(&keys::SASL_CLIENT_CERTIFICATE);
    let key = table.private_key_path(&keys::SASL_CLIENT_CERTIFICATE_KEY);
    let certificate = ClientCertificate { certificate: certificate?, key: key? };
    Some(ClientAuthentication::Certificate(certificate))
}

fn token_exchange(table: &Table<'_, '_>, grant: GrantKind) -> Option<Grant> {
    table.require(&[&keys::SASL_SUBJECT_TOKEN_FILE], &by(grant));
    let subject_token =
        table.secret_path(&keys::SASL_SUBJECT_TOKEN_FILE).map(SecretSource::File)?;
    let subject_token_type = table.text(&keys::SASL_SUBJECT_TOKEN_TYPE, text::uri)?;
    Some(Grant::TokenExchange { subject_token, subject_token_type })
}

fn assertion(table: &Table<'_, '_>, grant: GrantKind) -> Option<Assertion> {
    table.require(&[&keys::SASL_ASSERTION_FILE, &keys::SASL_ASSERTION], &by(grant));
    if table.has(&keys::SASL_ASSERTION_FILE) {
        if table.has(&keys::SASL_ASSERTION) {
            let found = format!("`{}` is there too", keys::SASL_ASSERTION_FILE.name);
            table.mistake(&keys::SASL_ASSERTION, found, "one of the two");
            return None;
        }
        return table.secret_path(&keys::SASL_ASSERTION_FILE).map(Assertion::File);
    }
    let table = table.table(&keys::SASL_ASSERTION, &keys::ASSERTION_SECTION)?;
    let key = table.private_key_path(&keys::ASSERTION_KEY_FILE);
    let id = table.text(&keys::ASSERTION_KEY_ID, text::label);
    let algorithm = table.choice(&keys::ASSERTION_ALGORITHM, &text::ALGORITHM);
    let issuer = table.text(&keys::ASSERTION_ISSUER, text::label);
    let subject = table.text(&keys::ASSERTION_SUBJECT, text::label);
    let audience = table.text(&keys::ASSERTION_AUDIENCE, text::label);
    let life = table.duration(&keys::ASSERTION_LIFE);
    let claims = table.texts(&keys::ASSERTION_CLAIMS, |value| Ok(value.to_owned()));
    for (name, _) in &claims {
        if OWN_CLAIMS.contains(&name.as_str()) {
            let found = format!("found the claim {name:?}");
            let allowed = format!("any but {}", OWN_CLAIMS.join(", "));
            table.mistake(&keys::ASSERTION_CLAIMS, found, allowed);
        }
    }
    Some(Assertion::Signed(SignedAssertion {
        key: SigningKeyConfig { file: key?, id, algorithm },
        issuer: issuer?,
        subject: subject?,
        audience,
        life: life?,
        claims,
    }))
}

/// Reads the files, to see whether they can be used.
pub fn look(table: &Table<'_, '_>, tokens: &TokenConfig) {
    if let Err(error) = TokenProvider::new(tokens) {
        tell(table, &error);
    }
}

/// Reports what cannot be used.
pub fn tell(table: &Table<'_, '_>, error: &TokenError) {
    let key = match error {
        TokenError::File(FileFault { path, .. }) => key_of(table, path),
        TokenError::Url { .. } => &keys::SASL_TOKEN_URL,
        _ => &keys::SASL_GRANT,
    };
    table.mistake(key, error.to_string(), "a file that can be used");
}

/// The key that names a file.
fn key_of(table: &Table<'_, '_>, path: &Path) -> &'static Key {
    let files = [
        &keys::SASL_CLIENT_KEY_FILE,
        &keys::SASL_CLIENT_CERTIFICATE,
        &keys::SASL_CLIENT_CERTIFICATE_KEY,
        &keys::SASL_CA,
    ];
    let is_there = |key: &&&Key| table.has(key) && table.path(key).as_deref() == Some(path);
    files.iter().find(is_there).copied().unwrap_or(&keys::SASL_ASSERTION)
}

/// Names are letters, and `auth` is taken (RFC 7628 section 3.1).
pub fn extensions(table: &Table<'_, '_>) -> Vec<(String, String)> {
    let pairs = table.texts(&keys::SASL_EXTENSIONS, |value| {
        let fine = value.chars().all(|c| (' '..='~').contains(&c) || "\t\r\n".contains(c));
        if fine {
            Ok(value.to_owned())
        } else {
            Err(Rejected::allowed("printable ASCII characters"))
        }
    });
    for (name, _) in &pairs {
        if name == "auth" || name.is_empty() || !name.chars().all(|c| c.is_ascii_alphabetic()) {
            table.mistake(
                &keys::SASL_EXTENSIONS,
                format!("found the name {name:?}"),
                "letters, and not \"auth\"",
            );
        }
    }
    pairs
}
