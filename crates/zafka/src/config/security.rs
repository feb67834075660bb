//! `[kafka.security]`.

use zafka_kafka::config::{ClientCertificate, Credentials, OidcClient, Sasl, Security, Tls};

use super::keys::{self, Key};
use super::mistake::Rejected;
use super::reader::Table;
use super::text::{self, Mechanism};

const PASSWORD_KEYS: [&Key; 3] =
    [&keys::SASL_USERNAME, &keys::SASL_PASSWORD, &keys::SASL_PASSWORD_FILE];

/// TLS and SASL of the cluster.
pub fn security(table: &Table<'_, '_>) -> Option<Security> {
    let tls = tls(table);
    let sasl =
        table.has(&keys::SASL).then(|| sasl(&table.table(&keys::SASL, &keys::SASL_SECTION)?));
    let security = Security {
        tls: tls?,
        sasl: match sasl {
            Some(sasl) => Some(sasl?),
            None => None,
        },
    };
    if security.tls.is_none() {
        let travels = match security.sasl {
            Some(Sasl::Plain(_)) => Some("the password"),
            Some(Sasl::OAuthBearer(_)) => Some("the token"),
            _ => None,
        };
        if let Some(what) = travels {
            let text = format!("{what} travels to the brokers in the clear, without TLS");
            table.reader().warn(&table.span_of(&keys::SASL), "kafka.security.sasl", text);
        }
    }
    Some(security)
}

/// `None` for a mistake, `Some(None)` for no TLS.
fn tls(table: &Table<'_, '_>) -> Option<Option<Tls>> {
    match table.raw(&keys::TLS).map(|value| value.get_ref().as_bool()) {
        None | Some(Some(false)) => return Some(None),
        Some(Some(true)) => return Some(Some(Tls::default())),
        Some(None) => {}
    }
    let table = table.table(&keys::TLS, &keys::TLS_SECTION)?;
    let ca = table.path(&keys::TLS_CA);
    let certificate = table.path(&keys::TLS_CERTIFICATE);
    let key = table.path(&keys::TLS_KEY);
    let key_password = table.secret(&keys::TLS_KEY_PASSWORD, &keys::TLS_KEY_PASSWORD_FILE);
    for (one, other) in
        [(&keys::TLS_CERTIFICATE, &keys::TLS_KEY), (&keys::TLS_KEY, &keys::TLS_CERTIFICATE)]
    {
        if table.has(one) && !table.has(other) {
            table.mistake(one, format!("`{}` is missing", other.name), "both or neither");
        }
    }
    for password in [&keys::TLS_KEY_PASSWORD, &keys::TLS_KEY_PASSWORD_FILE] {
        if table.has(password) && !table.has(&keys::TLS_KEY) {
            table.mistake(password, "`key` is missing", "only together with `key`");
        }
    }
    let client = match (certificate, key) {
        (Some(certificate), Some(key)) => {
            Some(ClientCertificate { certificate, key, key_password })
        }
        _ => None,
    };
    Some(Some(Tls { ca, client }))
}

fn sasl(table: &Table<'_, '_>) -> Option<Sasl> {
    let mechanism = table.text(&keys::SASL_MECHANISM, |value| {
        text::MECHANISM.read(value).map_err(|wrong| match value {
            "GSSAPI" => Rejected::because("Kerberos is not supported", wrong.allowed),
            _ => wrong,
        })
    })?;
    let with_password = !matches!(mechanism, Mechanism::OAuthBearer);
    for key in keys::SASL_SECTION.keys.iter().filter(|key| key.name != keys::SASL_MECHANISM.name) {
        if table.has(key)
            && PASSWORD_KEYS.iter().any(|other| other.name == key.name) != with_password
        {
            let allowed = if with_password {
                "mechanism, username, password, password_file"
            } else {
                "mechanism, token_url, client_id, client_secret, client_secret_file, scope, audience, ca, extensions"
            };
            table.mistake(key, "not a key of this mechanism", allowed);
        }
    }
    Some(match mechanism {
        Mechanism::Plain => Sasl::Plain(credentials(table)?),
        Mechanism::ScramSha256 => Sasl::ScramSha256(credentials(table)?),
        Mechanism::ScramSha512 => Sasl::ScramSha512(credentials(table)?),
        Mechanism::OAuthBearer => Sasl::OAuthBearer(oidc(table)?),
    })
}

fn credentials(table: &Table<'_, '_>) -> Option<Credentials> {
    require(table, &[&keys::SASL_USERNAME]);
    require(table, &[&keys::SASL_PASSWORD, &keys::SASL_PASSWORD_FILE]);
    let username = table.text(&keys::SASL_USERNAME, text::label);
    let password = table.secret(&keys::SASL_PASSWORD, &keys::SASL_PASSWORD_FILE);
    Some(Credentials { username: username?, password: password? })
}

fn oidc(table: &Table<'_, '_>) -> Option<OidcClient> {
    require(table, &[&keys::SASL_TOKEN_URL]);
    require(table, &[&keys::SASL_CLIENT_ID]);
    require(table, &[&keys::SASL_CLIENT_SECRET, &keys::SASL_CLIENT_SECRET_FILE]);
    let token_url = table.text(&keys::SASL_TOKEN_URL, text::token_url);
    let client_id = table.text(&keys::SASL_CLIENT_ID, text::label);
    let client_secret = table.secret(&keys::SASL_CLIENT_SECRET, &keys::SASL_CLIENT_SECRET_FILE);
    let scope = table.list(&keys::SASL_SCOPE, text::scope).unwrap_or_default();
    let audience = table.text(&keys::SASL_AUDIENCE, text::label);
    let ca = table.path(&keys::SASL_CA);
    let extensions = extensions(table);
    Some(OidcClient {
        token_url: token_url?,
        client_id: client_id?,
        client_secret: client_secret?,
        scope: scope.into_iter().map(|(scope, _)| scope).collect(),
        audience,
        ca,
        extensions,
    })
}

/// Names are letters, and `auth` is taken (RFC 7628 section 3.1).
fn extensions(table: &Table<'_, '_>) -> Vec<(String, String)> {
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

/// Reports that none of `keys` is there.
fn require(table: &Table<'_, '_>, keys: &[&'static Key]) {
    if let Some(first) = keys.first()
        && !keys.iter().any(|key| table.has(key))
    {
        let names: Vec<_> = keys.iter().map(|key| key.name).collect();
        table.mistake(
            first,
            "missing",
            format!("{} is required by this mechanism", names.join(" or ")),
        );
    }
}
