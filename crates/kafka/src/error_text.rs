//! Texts of librdkafka's errors, in words that name our settings.

/// A part of a text of librdkafka, and the text that replaces it.
struct Hint {
    found: &'static str,
    told: &'static str,
}

const HINTS: &[Hint] = &[
    // Our own connections tell which of these it is.
    Hint {
        found: "SSL routines::certificate verify failed",
        told: "certificate verify failed: the broker's certificate is not by a trusted authority \
               (kafka.security.tls.ca), not for this host, or out of date",
    },
    // Java brokers say "bad certificate" for what TLS 1.3 calls "certificate required".
    Hint {
        found: "alert bad certificate",
        told: "bad certificate: the broker wants a client's certificate that it trusts \
               (kafka.security.tls.certificate)",
    },
    Hint {
        found: "alert certificate required",
        told: "certificate required: the broker wants a client's certificate \
               (kafka.security.tls.certificate)",
    },
    // What OpenSSL's listeners say up to TLS 1.2 for lack of a certificate.
    Hint {
        found: "alert handshake failure",
        told: "handshake failure: the broker wants a client's certificate \
               (kafka.security.tls.certificate), or has no version or cipher of TLS in common \
               with this program",
    },
    Hint {
        found: "invalid_token",
        told: "invalid_token: the broker does not accept the token; it may be for another audience \
               or by another issuer",
    },
];

/// librdkafka's text without what differs from one time to the next, so that the same error is the
/// same text.
pub(crate) fn normalize(reason: &str) -> String {
    let reason =
        reason.split(" (after ").next().unwrap_or(reason).replacen("/bootstrap: ", ": ", 1);
    let Some(hint) = HINTS.iter().find(|hint| reason.contains(hint.found)) else { return reason };
    // The broker's address comes first, if there is one.
    match reason.split_once(": ") {
        Some((broker, _)) if broker.contains("://") => format!("{broker}: {}", hint.told),
        _ => hint.told.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_error_is_the_same_text() {
        for (reason, expected) in [
            (
                "127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused \
                 (after 0ms in state CONNECT)",
                "127.0.0.1:1: Connect to ipv4#127.0.0.1:1 failed: Connection refused",
            ),
            (
                "a:1/2: Disconnected (after 17ms in state UP, 1 identical error(s) suppressed)",
                "a:1/2: Disconnected",
            ),
            ("plain (as it is)", "plain (as it is)"),
        ] {
            assert_eq!(normalize(reason), expected);
        }
        let one = "ssl://k:1/bootstrap: SSL handshake failed: error:0A000086:SSL \
                   routines::certificate verify failed: broker certificate could not be verified, \
                   verify that ssl.ca.location is correctly configured (after 3ms)";
        let other = "ssl://k:1/bootstrap: error:0A000086:SSL routines::certificate verify failed \
                     (after 2ms in state X)";
        assert_eq!(normalize(one), normalize(other));
        assert!(
            normalize(one).starts_with("ssl://k:1: certificate verify failed: "),
            "{}",
            normalize(one)
        );
    }

    #[test]
    fn our_settings_are_named() {
        for (reason, told) in [
            (
                "ssl://k:1: Receive failed: error:0A000412:SSL routines::ssl/tls alert bad \
                 certificate: SSL alert number 42",
                "tls.certificate",
            ),
            (
                "sasl_ssl://k:1: SASL authentication error: {\"status\":\"invalid_token\"}",
                "audience",
            ),
        ] {
            assert!(normalize(reason).contains(told), "{}", normalize(reason));
        }
    }
}
