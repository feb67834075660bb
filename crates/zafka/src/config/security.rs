//! `[kafka.security]`.

use zafka_kafka::config::{ClientCertificate, Credentials, Sasl, Security, Tls};

use super::keys::{self, Key};
use super::mistake::Rejected;
use super::oauth::oauth_bearer;
use super::reader::Table;
use super::text::{self, Mechanism};

/// The keys of all mechanisms but OAUTHBEARER.
const PASSWORD_KEYS: &[&Key] =
    &[&keys::SASL_MECHANISM, &keys::SASL_USERNAME, &keys::SASL_PASSWORD, &keys::SASL_PASSWORD_FILE];

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
    let key = table.private_key_path(&keys::TLS_KEY);
    let key_password = table.secret(&keys::TLS_KEY_PASSWORD, &keys::TLS_KEY_PASSWORD_FILE);
    for (one, other) in
        [(&keys::TLS_CERTIFICATE, &keys::TLS_KEY), (&keys::TLS_KEY, &keys::TLS_CERTIFICATE)]
    {
        if table.has(one) && !table.has(other) {
            table.mistake(one, format!("`{}` is missing", other.name), "both or neither");
        }
    }
    for password in [&keys::TLS_KEY_PASSWORD, &keys::TLS_KEY_PASSWORD_FILE] {
        table.only_with(password, &keys::TLS_KEY);
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
    if !matches!(mechanism, Mechanism::OAuthBearer) {
        table.allow_only(PASSWORD_KEYS, "not a key of this mechanism");
    }
    Some(match mechanism {
        Mechanism::Plain => Sasl::Plain(credentials(table)?),
        Mechanism::ScramSha256 => Sasl::ScramSha256(credentials(table)?),
        Mechanism::ScramSha512 => Sasl::ScramSha512(credentials(table)?),
        Mechanism::OAuthBearer => Sasl::OAuthBearer(oauth_bearer(table)?),
    })
}

fn credentials(table: &Table<'_, '_>) -> Option<Credentials> {
    table.require(&[&keys::SASL_USERNAME], "this mechanism");
    table.require(&[&keys::SASL_PASSWORD, &keys::SASL_PASSWORD_FILE], "this mechanism");
    let username = table.text(&keys::SASL_USERNAME, text::label);
    let password = table.secret(&keys::SASL_PASSWORD, &keys::SASL_PASSWORD_FILE);
    Some(Credentials { username: username?, password: password? })
}
