//! A token request as a form (RFC 6749, 7521, 7523, 8693, 8705). No I/O.

use form_urlencoded::Serializer;

use crate::client;
use crate::config::{Assertion, EndpointConfig, Grant};
use crate::secret::Secret;

/// A token that may be sent to a resource (RFC 8693 section 3).
pub(crate) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// Proofs that are shown to a provider: read from files, or signed, for this one request.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// The client's secret or assertion.
    pub(crate) client: Option<Secret>,
    /// The subject token or assertion that the token is granted for.
    pub(crate) subject: Option<Secret>,
}

/// A request as it is sent.
#[derive(Debug)]
pub(crate) struct TokenRequest {
    /// The credentials of the header `Authorization`, by the scheme `Basic`.
    pub(crate) basic: Option<Secret>,
    /// The form.
    pub(crate) body: Secret,
}

impl TokenRequest {
    pub(crate) fn new(config: &EndpointConfig, shown: &Shown) -> Self {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", grant_type(&config.grant));
        let expose = |secret: &'_ Option<Secret>| -> String {
            secret.as_ref().map(|secret| secret.expose().to_owned()).unwrap_or_default()
        };
        match &config.grant {
            Grant::ClientCredentials => {}
            Grant::TokenExchange { subject_token_type, .. } => {
                form.append_pair("subject_token", &expose(&shown.subject))
                    .append_pair("subject_token_type", subject_token_type)
                    .append_pair("requested_token_type", ACCESS_TOKEN);
            }
            Grant::JwtBearer(Assertion::File(_) | Assertion::Signed(_)) => {
                form.append_pair("assertion", &expose(&shown.subject));
            }
        }
        if !config.scope.is_empty() {
            form.append_pair("scope", &config.scope.join(" "));
        }
        for (name, value) in [("audience", &config.audience), ("resource", &config.resource)] {
            if let Some(value) = value {
                form.append_pair(name, value);
            }
        }
        let id = config.client_id.as_deref();
        let basic = client::append(&mut form, &config.authentication, id, shown.client.as_ref());
        Self { basic, body: Secret::new(form.finish()) }
    }
}

fn grant_type(grant: &Grant) -> &'static str {
    match grant {
        Grant::ClientCredentials => "client_credentials",
        Grant::TokenExchange { .. } => "urn:ietf:params:oauth:grant-type:token-exchange",
        Grant::JwtBearer(_) => "urn:ietf:params:oauth:grant-type:jwt-bearer",
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::config::{ClientAuthentication, ClientCertificate, SecretSource, SigningKeyConfig};

    fn exchange() -> Grant {
        let subject_token_type = "urn:ietf:params:oauth:token-type:jwt".to_owned();
        let subject_token = SecretSource::File("s".into());
        Grant::TokenExchange { subject_token, subject_token_type }
    }

    fn by_key() -> ClientAuthentication {
        let key = SigningKeyConfig { file: "k".into(), id: None, algorithm: None };
        ClientAuthentication::Key { key, audience: None }
    }

    fn secret() -> ClientAuthentication {
        ClientAuthentication::Secret(SecretSource::File("f".into()))
    }

    const EXCHANGED: &str = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange\
        &subject_token=SUB.JECT&subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt\
        &requested_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token";
    const BEARER: &str = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer\
        &assertion=SUB.JECT";
    const ASSERTED: &str = "&client_assertion_type=\
        urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
        &client_assertion=CLIENT%2B%3A";

    #[test]
    fn each_grant_with_each_authentication() {
        let file = || Grant::JwtBearer(Assertion::File("a".into()));
        let certificate = || {
            let (certificate, key) = ("c".into(), "k".into());
            ClientAuthentication::Certificate(ClientCertificate { certificate, key })
        };
        let assertion_file = || ClientAuthentication::AssertionFile("a".into());
        // RFC 6749 section 2.3.1: the encoded id and secret, joined.
        let basic = STANDARD.encode("a+%C3%A4%3A:CLIENT%2B%3A");
        let basic = Some(basic.as_str());
        let id = Some("a ä:");
        let in_form = "&client_id=a+%C3%A4%3A";
        let credentials = "grant_type=client_credentials".to_owned();
        for (grant, authentication, id, header, body) in [
            (Grant::ClientCredentials, secret(), id, basic, credentials.clone()),
            (
                Grant::ClientCredentials,
                by_key(),
                id,
                None,
                format!("{credentials}{in_form}{ASSERTED}"),
            ),
            (
                Grant::ClientCredentials,
                assertion_file(),
                None,
                None,
                format!("{credentials}{ASSERTED}"),
            ),
            (Grant::ClientCredentials, certificate(), id, None, format!("{credentials}{in_form}")),
            (exchange(), secret(), id, basic, EXCHANGED.to_owned()),
            (exchange(), by_key(), id, None, format!("{EXCHANGED}{in_form}{ASSERTED}")),
            (exchange(), certificate(), id, None, format!("{EXCHANGED}{in_form}")),
            (exchange(), ClientAuthentication::None, None, None, EXCHANGED.to_owned()),
            (exchange(), ClientAuthentication::None, id, None, format!("{EXCHANGED}{in_form}")),
            (file(), secret(), id, basic, BEARER.to_owned()),
            (file(), by_key(), id, None, format!("{BEARER}{in_form}{ASSERTED}")),
            (file(), ClientAuthentication::None, None, None, BEARER.to_owned()),
        ] {
            let config = EndpointConfig {
                token_url: "https://idp/token".to_owned(),
                client_id: id.map(str::to_owned),
                authentication,
                grant,
                scope: Vec::new(),
                audience: None,
                resource: None,
                ca: None,
            };
            let shown = Shown {
                client: Some(Secret::new("CLIENT+:")),
                subject: Some(Secret::new("SUB.JECT")),
            };
            let request = TokenRequest::new(&config, &shown);
            assert_eq!(request.body.expose(), body, "{config:?}");
            assert_eq!(request.basic.as_ref().map(Secret::expose), header, "{config:?}");
            let debug = format!("{request:?}{shown:?}");
            assert!(!debug.contains("CLIENT") && !debug.contains("SUB."), "{debug}");

            // What is asked for goes with every grant.
            let asked = EndpointConfig {
                scope: vec!["kafka".to_owned(), "a/b".to_owned()],
                audience: Some("k&k".to_owned()),
                resource: Some("https://kafka:9093".to_owned()),
                ..config
            };
            let body = TokenRequest::new(&asked, &shown).body;
            let wanted = "&scope=kafka+a%2Fb&audience=k%26k&resource=https%3A%2F%2Fkafka%3A9093";
            assert!(body.expose().contains(wanted), "{}", body.expose());
        }
    }
}
