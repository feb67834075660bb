//! A provider that signs anything: what is taken is what a plain reading of the rules takes.

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

static ISSUERS: LazyLock<[Issuer; 1]> = LazyLock::new(|| [PROVIDER.issuer()]);
static GOOD: LazyLock<String> = LazyLock::new(|| {
    let good = PROVIDER.token(&header("ES256", "p256"), &payload());
    assert_eq!(answer(&good, &*ISSUERS), "fine");
    good
});

/// Claims that matter, and one that does not.
const NAMES: [&str; 11] =
    ["iss", "aud", "sub", "exp", "iat", "nbf", "jti", "typ", "events", "cnf", "azp"];

/// A value that is right for some claim, or nearly so.
fn value() -> impl Strategy<Value = Value> {
    let long = "x".repeat(256);
    select(vec![
        json!(ISSUER),
        json!([ISSUER]),
        json!("zafka-edge"),
        json!(["zafka-edge"]),
        json!(["zafka-edge", 1]),
        json!(vec!["zafka-edge"; 16]),
        json!(vec!["zafka-edge"; 17]),
        json!("Bearer"),
        json!(""),
        json!(long[1..]),
        json!(long),
        json!("a\u{7}"),
        json!(NOW + 300),
        json!(NOW + 30),
        json!(NOW + 31),
        json!(NOW - 29),
        json!(NOW - 30),
        json!(0),
        json!(-1),
        json!(-0.5),
        json!(1e300),
        json!((NOW + 300).to_string()),
        json!(true),
        json!(null),
        json!([]),
        json!({}),
    ])
}

/// A good token's claims, of which some are others or are missing.
fn claims_of_anybody() -> impl Strategy<Value = Value> {
    let change = (select(&NAMES[..]), proptest::option::weighted(0.8, value()));
    proptest::collection::vec(change, 0..4).prop_map(|changes| {
        changes.into_iter().fold(payload(), |object, (name, value)| match value {
            Some(value) => with(object, name, value),
            None => without(object, name),
        })
    })
}

/// The rules as they are written down.
fn is_to_be_taken(claims: &Value) -> bool {
    let all: Vec<_> = NAMES.iter().map(|name| claims.get(name)).collect();
    let [iss, aud, sub, exp, iat, nbf, jti, typ, events, cnf, _] = all[..] else { panic!() };
    let is_ours = |value: &Value| value == "zafka-edge";
    let is_name = |value: &Value| {
        let is_plain = |text: &str| !text.chars().any(char::is_control);
        value.as_str().is_some_and(|text| (1..256).contains(&text.len()) && is_plain(text))
    };
    let is_past = |value: &Value| {
        value.as_f64().is_some_and(|time| (0.0..=(NOW + 30) as f64).contains(&time))
    };
    let fits = match aud {
        Some(Value::Array(list)) => {
            list.len() < 17 && list.iter().all(Value::is_string) && list.iter().any(is_ours)
        }
        Some(one) => is_ours(one),
        None => false,
    };
    fits && iss == Some(&json!(ISSUER))
        && sub.is_some_and(is_name)
        && jti.is_none_or(is_name)
        && exp.and_then(Value::as_f64).is_some_and(|time| time > (NOW - 30) as f64)
        && [iat, nbf].into_iter().flatten().all(is_past)
        && typ.is_none_or(|kind| kind == "Bearer")
        && events.or(cnf).is_none()
}

proptest! {
    #[test]
    fn what_is_signed_is_read_by_the_rules(claims in claims_of_anybody()) {
        let token = PROVIDER.token(&header("ES256", "p256"), &claims);
        let taken = check(&token, &*ISSUERS);
        prop_assert_eq!(taken.is_ok(), is_to_be_taken(&claims), "{}: {:?}", claims, taken);
    }

    #[test]
    fn an_altered_token_is_none(place in any::<Index>(), octet in any::<u8>(), way in 0..3) {
        let good = GOOD.as_bytes();
        let (mut altered, at) = (good.to_vec(), place.index(good.len()));
        match way {
            0 => altered[at] = octet,
            1 => altered.insert(at, octet),
            _ => drop(altered.remove(at)),
        }
        let taken = verify(&altered, &peer(), &*ISSUERS, NOW, SKEW);
        prop_assert!(taken.is_err() || altered == good);
    }

    #[test]
    fn nonsense_is_none(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        // Octets, and what they are in a token's form.
        let in_form = octets.chunks(100).map(b64).collect::<Vec<_>>().join(".");
        for nonsense in [&octets[..], in_form.as_bytes()] {
            prop_assert!(verify(nonsense, &peer(), &*ISSUERS, NOW, SKEW).is_err());
            prop_assert_eq!(claimed_end(nonsense), None);
        }
    }
}
