//! Every way into the secured node, by Kafka's own client, and the clients that are kept out.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::json;
use zafka_testkit::kafka::PASSWORD;
use zafka_testkit::{Admin, SecuredKafka};

/// Describes "orders" with these settings: the error's name, or "" when it went well.
fn attempt(bootstrap: &str, ca: &str, settings: &[(&str, &str)]) -> String {
    let mut all = vec![
        ("ssl.truststore.type", "PEM"),
        ("ssl.truststore.location", ca),
        ("default.api.timeout.ms", "60000"),
    ];
    all.extend(settings);
    match Admin::connect_with(bootstrap, &all).try_call("describe", json!({ "topic": "orders" })) {
        Ok(_) => String::new(),
        Err(error) => error,
    }
}

#[test]
#[ignore = "needs Java and Maven"]
fn the_right_clients_come_in_and_the_wrong_ones_do_not() {
    let kafka = SecuredKafka::start();
    kafka.create_topic_for("zafka", "orders", 1, "g");
    let ca = kafka.certificates.ca().to_str().unwrap().to_owned();

    let password = |mechanism: &str, user: &str, password: &str| {
        let module = if mechanism == "PLAIN" { "plain.Plain" } else { "scram.Scram" };
        let jaas = format!(
            "org.apache.kafka.common.security.{module}LoginModule required username=\"{user}\" \
             password=\"{password}\";"
        );
        let settings = [
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", mechanism),
            ("sasl.jaas.config", jaas.as_str()),
        ];
        attempt(&kafka.sasl(), &ca, &settings)
    };
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        assert_eq!(password(mechanism, "zafka", PASSWORD), "", "{mechanism}");
        let refused = password(mechanism, "zafka", "wrong");
        assert!(refused.contains("SaslAuthenticationException"), "{mechanism}: {refused}");
    }
    let refused = password("PLAIN", "mallory", PASSWORD);
    assert!(refused.contains("TopicAuthorizationException"), "{refused}");

    let token_url = kafka.oidc.token_url();
    let token = |client: &str| {
        let jaas = format!(
            "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required \
             clientId=\"{client}\" clientSecret=\"s\" ssl.truststore.type=\"PEM\" \
             ssl.truststore.location=\"{ca}\";"
        );
        let allowed = "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls";
        let settings = [
            (allowed, token_url.as_str()),
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "OAUTHBEARER"),
            ("sasl.jaas.config", jaas.as_str()),
            ("sasl.oauthbearer.token.endpoint.url", token_url.as_str()),
            (
                "sasl.login.callback.handler.class",
                "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler",
            ),
        ];
        attempt(&kafka.oauth(), &ca, &settings)
    };
    assert_eq!(token("zafka"), "");
    let refused = token("wrong-audience");
    assert!(refused.contains("SaslAuthenticationException"), "{refused}");

    let keystore = |name: &str| {
        let (certificate, _) = kafka.certificates.client(name);
        certificate.with_extension("keystore.pem").to_str().unwrap().to_owned()
    };
    let certificate = |name: &str| {
        let location = keystore(name);
        let settings = [
            ("security.protocol", "SSL"),
            ("ssl.keystore.type", "PEM"),
            ("ssl.keystore.location", location.as_str()),
        ];
        attempt(&kafka.mtls(), &ca, &settings)
    };
    assert_eq!(certificate("zafka"), "");
    assert!(certificate("mallory").contains("TopicAuthorizationException"));
    // Kafka's client tries again until its time is over.
    let without = [("security.protocol", "SSL"), ("default.api.timeout.ms", "8000")];
    let bare = attempt(&kafka.mtls(), &ca, &without);
    assert!(!bare.is_empty());
}
