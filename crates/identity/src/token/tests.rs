//! Tokens that are refused: each is the accepted one with one thing changed.

mod anything;

use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::json;
use zafka_zmtp::curve::SecretKey;

use super::*;

const NOW: i64 = 1_800_000_000;
const SKEW: Duration = Duration::from_secs(30);
const ISSUER: &str = "https://id.example.com/realms/edge";
/// The order n of the curve P-256 (FIPS 186-4, D.1.2.3).
const P256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];
/// Signs for the tests and for nothing else.
const RSA: &[u8] = include_bytes!("rsa-2048.test.der");

fn b64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn peer() -> PublicKey {
    // Without optimization it takes its time.
    static PEER: LazyLock<PublicKey> =
        LazyLock::new(|| SecretKey::from_bytes([7; 32]).public_key());
    *PEER
}

static PROVIDER: LazyLock<Provider> = LazyLock::new(Provider::new);

/// A provider that signs anything.
struct Provider {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed: Ed25519KeyPair,
    random: SystemRandom,
}

impl Provider {
    fn new() -> Self {
        let random = SystemRandom::new();
        let ec = |parameters| {
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(parameters, &random).unwrap();
            EcdsaKeyPair::from_pkcs8(parameters, pkcs8.as_ref(), &random).unwrap()
        };
        Self {
            rsa: RsaKeyPair::from_pkcs8(RSA).unwrap(),
            p256: ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
            p384: ec(&ECDSA_P384_SHA384_FIXED_SIGNING),
            ed: Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap(),
            random,
        }
    }

    fn rsa_jwk(&self, kid: &str) -> Value {
        let public = RsaPublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        let [n, e] = [b64(public.n), b64(public.e)];
        json!({ "kty": "RSA", "kid": kid, "n": n, "e": e })
    }

    fn ec_jwk(key: &EcdsaKeyPair, curve: &str, kid: &str) -> Value {
        let point = &key.public_key().as_ref()[1..];
        let (x, y) = point.split_at(point.len() / 2);
        json!({ "kty": "EC", "crv": curve, "kid": kid, "x": b64(x), "y": b64(y) })
    }

    fn jwks(&self) -> Value {
        let ed = b64(self.ed.public_key());
        json!({ "keys": [
            self.rsa_jwk("rsa"),
            Self::ec_jwk(&self.p256, "P-256", "p256"),
            Self::ec_jwk(&self.p384, "P-384", "p384"),
            { "kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": ed, "use": "sig", "alg": "EdDSA" },
            { "kty": "RSA", "kid": "enc", "use": "enc", "n": "AQAB", "e": "AQAB" },
        ] })
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let rsa = |padding| {
            let mut signature = vec![0; self.rsa.public().modulus_len()];
            self.rsa.sign(padding, &self.random, message, &mut signature).unwrap();
            signature
        };
        match algorithm {
            "PS256" => rsa(&RSA_PSS_SHA256),
            "ES256" => self.p256.sign(&self.random, message).unwrap().as_ref().to_vec(),
            "ES384" => self.p384.sign(&self.random, message).unwrap().as_ref().to_vec(),
            "EdDSA" => self.ed.sign(message).as_ref().to_vec(),
            _ => rsa(&RSA_PKCS1_SHA256),
        }
    }

    fn issuer(&self) -> Issuer {
        Issuer {
            name: ISSUER.to_owned(),
            audience: vec!["zafka-edge".to_owned()],
            algorithms: Algorithm::ALL.to_vec(),
            require: Vec::new(),
            keys: key_set(&self.jwks()),
            introspects: false,
        }
    }

    fn token(&self, header: &Value, payload: &Value) -> String {
        self.token_of(&header.to_string(), &payload.to_string())
    }

    /// Makes a token of texts, which need not be JSON; signed by what the header says.
    fn token_of(&self, header: &str, payload: &str) -> String {
        let algorithm = serde_json::from_str::<Value>(header).ok();
        let algorithm = algorithm.and_then(|header| Some(header.get("alg")?.as_str()?.to_owned()));
        let signed = format!("{}.{}", b64(header), b64(payload));
        let signature = self.sign(&algorithm.unwrap_or_default(), signed.as_bytes());
        format!("{signed}.{}", b64(signature))
    }
}

fn key_set(jwks: &Value) -> Arc<KeySet> {
    Arc::new(KeySet::parse(jwks.to_string().as_bytes()).unwrap())
}

fn header(algorithm: &str, kid: &str) -> Value {
    json!({ "alg": algorithm, "kid": kid, "typ": "JWT" })
}

fn payload() -> Value {
    json!({
        "iss": ISSUER, "aud": ["account", "zafka-edge"], "sub": "f:1:alice", "typ": "Bearer",
        "exp": NOW + 300, "iat": NOW - 5, "nbf": NOW - 5, "jti": "one", "azp": "cli",
    })
}

fn with(mut object: Value, name: &str, value: Value) -> Value {
    object[name] = value;
    object
}

fn without(mut object: Value, name: &str) -> Value {
    object.as_object_mut().unwrap().remove(name);
    object
}

fn check(token: &str, issuers: &[Issuer]) -> Result<Verified, TokenError> {
    verify(token.as_bytes(), &peer(), issuers, NOW, SKEW)
}

/// The answer's code, or "fine".
fn answer(token: &str, issuers: &[Issuer]) -> &'static str {
    check(token, issuers).map_or_else(TokenError::code, |_| "fine")
}

#[test]
fn a_token_of_each_algorithm_is_taken() {
    let provider = &*PROVIDER;
    for (algorithm, kid) in
        [("RS256", "rsa"), ("PS256", "rsa"), ("ES256", "p256"), ("ES384", "p384"), ("EdDSA", "ed")]
    {
        let token = provider.token(&header(algorithm, kid), &payload());
        let verified = check(&token, &[provider.issuer()]).unwrap();
        assert_eq!(verified.claims.subject(), "f:1:alice", "{algorithm}");
        assert_eq!((verified.expires, verified.issued), (NOW + 300, Some(NOW - 5)));
        // One fitting key needs no name, in this set of one of each kind.
        let unnamed = provider.token(&without(header(algorithm, kid), "kid"), &payload());
        assert_eq!(answer(&unnamed, &[provider.issuer()]), "fine", "{algorithm}");
    }
}

#[test]
fn structure() {
    let provider = &*PROVIDER;
    let issuers = [provider.issuer()];
    let good = provider.token(&header("ES256", "p256"), &payload());
    assert_eq!(answer(&good, &issuers), "fine");
    let [head, body, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!() };
    let last = signature.chars().last().unwrap();
    let of = |header: &str, payload: &str| provider.token_of(header, payload);
    let good_header = header("ES256", "p256").to_string();
    let good_payload = payload().to_string();
    // A last character that has bits which stand for nothing set.
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let place = alphabet.find(last).unwrap();
    let trailing = alphabet.chars().nth(place | 1).unwrap();
    let long =
        provider.token(&header("ES256", "p256"), &with(payload(), "x", json!("x".repeat(7000))));
    let table: Vec<(&str, String)> = vec![
        ("empty", String::new()),
        ("two parts", format!("{head}.{body}")),
        ("four parts", format!("{good}.x")),
        ("five parts", format!("{good}.x.y")),
        ("JSON serialization", json!({ "payload": body, "signatures": [] }).to_string()),
        ("padding", format!("{head}.{body}.{signature}==")),
        ("other alphabet", format!("{head}.{body}.+/{}", &signature[2..])),
        ("space inside", good.replacen('.', ". ", 1)),
        ("newline at its end", format!("{good}\n")),
        ("trailing bits", format!("{head}.{body}.{}{trailing}", &signature[..signature.len() - 1])),
        ("NUL inside", good.replacen('.', ".\0", 1)),
        ("more than 8 KiB", long),
        ("header no JSON", of("alg=ES256", &good_payload)),
        ("payload an array", of(&good_header, "[]")),
        ("deep", of(&good_header, &format!("{{\"a\":{}", "[".repeat(6000)))),
        ("sub twice", of(&good_header, &good_payload.replacen('{', "{\"sub\":\"x\",", 1))),
        ("alg twice", of(&good_header.replacen('{', "{\"alg\":\"ES256\",", 1), &good_payload)),
        ("Bearer in front", format!("Bearer {good}")),
        ("Bearer in front twice", format!("Bearer Bearer {good}")),
    ];
    for (name, token) in table {
        assert_eq!(answer(&token, &issuers), "malformed", "{name}");
    }
    let signed = format!("{}.{}", b64(&good_header), b64(b"{\"iss\":\"\xff\"}"));
    let not_utf8 = format!("{signed}.{}", b64(provider.sign("ES256", signed.as_bytes())));
    assert_eq!(answer(&not_utf8, &issuers), "malformed", "payload not UTF-8");
}

#[test]
fn headers() {
    let provider = &*PROVIDER;
    let issuers = [provider.issuer()];
    let of = |header: Value| provider.token(&header, &payload());
    let good = header("RS256", "rsa");
    assert_eq!(answer(&of(good.clone()), &issuers), "fine");
    let jwk = provider.rsa_jwk("mine");
    let table: Vec<(&str, Value, &str)> = vec![
        ("none", with(good.clone(), "alg", json!("none")), "signature"),
        ("nOnE", with(good.clone(), "alg", json!("nOnE")), "signature"),
        ("HS256", with(good.clone(), "alg", json!("HS256")), "signature"),
        ("alg missing", without(good.clone(), "alg"), "signature"),
        ("alg a number", with(good.clone(), "alg", json!(1)), "signature"),
        ("RS256 on a key of P-256", with(good.clone(), "kid", json!("p256")), "signature"),
        ("ES256 on P-384", header("ES256", "p384"), "signature"),
        ("unknown kid", with(good.clone(), "kid", json!("new")), "try_again"),
        ("kid a path", with(good.clone(), "kid", json!("../../etc/passwd")), "try_again"),
        ("key for encryption", with(good.clone(), "kid", json!("enc")), "try_again"),
        ("kid a number", with(good.clone(), "kid", json!(1)), "malformed"),
        ("jwk", with(good.clone(), "jwk", jwk), "malformed"),
        ("jku", with(good.clone(), "jku", json!("https://evil.example.com")), "malformed"),
        ("x5u", with(good.clone(), "x5u", json!("https://evil.example.com")), "malformed"),
        ("x5c", with(good.clone(), "x5c", json!(["MIIB"])), "malformed"),
        ("crit", with(good.clone(), "crit", json!(["exp"])), "malformed"),
        ("b64", with(with(good.clone(), "crit", json!(["b64"])), "b64", json!(false)), "malformed"),
        ("b64 alone", with(good.clone(), "b64", json!(true)), "malformed"),
        ("logout", with(good.clone(), "typ", json!("logout+jwt")), "malformed"),
        ("typ a number", with(good.clone(), "typ", json!(1)), "malformed"),
    ];
    for (name, header, code) in table {
        assert_eq!(answer(&of(header), &issuers), code, "{name}");
    }
    for fine in ["at+jwt", "application/at+jwt", "jwt"] {
        assert_eq!(answer(&of(with(good.clone(), "typ", json!(fine))), &issuers), "fine", "{fine}");
    }
    // What a verifier makes of a public key if the header chooses: a secret that everybody knows.
    let der = provider.rsa.public().as_ref();
    let pem = format!(
        "-----BEGIN RSA PUBLIC KEY-----\n{}\n-----END RSA PUBLIC KEY-----\n",
        BASE64_STANDARD.encode(der)
    );
    for (name, secret) in [("HS256 keyed with the PEM", pem.as_bytes()), ("with the DER", der)] {
        let signed =
            format!("{}.{}", b64(header("HS256", "rsa").to_string()), b64(payload().to_string()));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
        assert_eq!(answer(&format!("{signed}.{}", b64(tag)), &issuers), "signature", "{name}");
    }
    let unsigned = of(with(good.clone(), "alg", json!("none")));
    let unsigned = unsigned.trim_end_matches(|c| c != '.');
    assert_eq!(answer(unsigned, &issuers), "signature", "none, without a signature");
    let only_ed = Issuer { algorithms: vec![Algorithm::EdDsa], ..provider.issuer() };
    assert_eq!(answer(&of(good.clone()), &[only_ed]), "signature", "alg not in the list");
    // The same kid of another issuer is another key.
    let other_key = json!({ "keys": [Provider::ec_jwk(&provider.p256, "P-256", "rsa")] });
    let keys = key_set(&other_key);
    let one = Issuer { keys, ..provider.issuer() };
    let two = Issuer { name: "https://other".into(), ..provider.issuer() };
    assert_eq!(answer(&of(good.clone()), &[one, two]), "signature", "kid of another issuer");
    let withdrawn = json!({ "keys": [Provider::ec_jwk(&provider.p256, "P-256", "p256")] });
    let withdrawn = Issuer { keys: key_set(&withdrawn), ..provider.issuer() };
    assert_eq!(answer(&of(good.clone()), &[withdrawn]), "try_again", "its key is withdrawn");
    let alike = json!({ "keys": [provider.rsa_jwk("a"), provider.rsa_jwk("b")] });
    let ambiguous = Issuer { keys: key_set(&alike), ..provider.issuer() };
    let unnamed = of(without(good.clone(), "kid"));
    assert_eq!(answer(&unnamed, &[ambiguous]), "signature", "two keys fit");
    // Without a name, a new key of the provider cannot be told from a forged signature.
    let forged = format!("{}.{}", unnamed.rsplit_once('.').unwrap().0, b64([1; 256]));
    assert_eq!(answer(&unnamed, &issuers), "fine");
    assert_eq!(answer(&forged, &issuers), "try_again");
    // No peer is let in before the keys are known, and none is turned away for good.
    let away = Issuer { keys: Arc::default(), ..provider.issuer() };
    for token in [of(good), unnamed] {
        assert_eq!(answer(&token, std::slice::from_ref(&away)), "try_again");
    }
}

#[test]
fn signatures() {
    let provider = &*PROVIDER;
    let issuers = [provider.issuer()];
    let good = provider.token(&header("ES256", "p256"), &payload());
    assert_eq!(answer(&good, &issuers), "fine");
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    let other = provider.token(&header("ES256", "p256"), &with(payload(), "sub", json!("mallory")));
    let mut flipped = bytes.clone();
    flipped[40] ^= 1;
    let der = [&[0x30, 0x44, 0x02, 0x20], &bytes[..32], &[0x02, 0x20], &bytes[32..]].concat();
    for (name, signature) in [
        ("one bit off", flipped),
        ("empty", Vec::new()),
        ("DER", der),
        ("r = s = 0", vec![0; 64]),
        ("r too long", [&[0][..], &bytes].concat()),
    ] {
        let token = format!("{signed}.{}", b64(signature));
        assert_eq!(answer(&token, &issuers), "signature", "{name}");
    }
    let of_another = format!("{signed}.{}", other.rsplit_once('.').unwrap().1);
    assert_eq!(answer(&of_another, &issuers), "signature", "of another token");
}

#[test]
fn keys_that_are_not_taken() {
    let provider = &*PROVIDER;
    let rsa = provider.rsa_jwk("rsa");
    let ed = json!({ "kty": "OKP", "crv": "Ed25519", "x": b64(provider.ed.public_key()) });
    let p256 = Provider::ec_jwk(&provider.p256, "P-256", "p");
    for good in [&rsa, &ed, &p256] {
        let set = json!({ "keys": [good] }).to_string();
        assert_eq!(KeySet::parse(set.as_bytes()).map(|set| set.len()), Ok(1), "{good}");
    }
    let small = |bytes: [u8; 32]| with(ed.clone(), "x", json!(b64(bytes)));
    let mut minus_one = [0xff; 32];
    (minus_one[0], minus_one[31]) = (0xec, 0x7f);
    for (name, key) in [
        ("RSA 1024", with(rsa.clone(), "n", json!(b64([0xff; 128])))),
        ("e = 1", with(rsa.clone(), "e", json!("AQ"))),
        ("e even", with(rsa.clone(), "e", json!("BA"))),
        ("use enc", with(rsa.clone(), "use", json!("enc"))),
        ("key_ops without verify", with(rsa.clone(), "key_ops", json!(["sign"]))),
        ("alg of another kind", with(rsa.clone(), "alg", json!("RSA-OAEP"))),
        ("kid a number", with(rsa.clone(), "kid", json!(1))),
        ("oct", json!({ "kty": "oct", "k": "c2VjcmV0" })),
        ("x too short", with(p256.clone(), "x", json!("AAAA"))),
        ("another curve", with(p256.clone(), "crv", json!("secp256k1"))),
        ("Ed25519: 0", small([0; 32])),
        ("Ed25519: -1", small(minus_one)),
    ] {
        let set = json!({ "keys": [key] }).to_string();
        assert_eq!(KeySet::parse(set.as_bytes()), Err(KeySetError::NoKey), "{name}");
    }
    // The alg of a key is the only one that it is for.
    let set = json!({ "keys": [with(rsa, "alg", json!("PS256"))] });
    let issuer = Issuer { keys: key_set(&set), ..provider.issuer() };
    let rs256 = provider.token(&header("RS256", "rsa"), &payload());
    assert_eq!(answer(&rs256, &[issuer]), "signature", "alg other than the JWK's");
    // A point that is not on the curve verifies nothing.
    let off = with(p256, "y", json!(b64([1; 32])));
    let issuer = Issuer { keys: key_set(&json!({ "keys": [off] })), ..provider.issuer() };
    let es256 = provider.token(&header("ES256", "p"), &payload());
    assert_eq!(answer(&es256, &[issuer]), "signature", "off the curve");
    for (text, error) in [
        ("", KeySetError::Malformed),
        ("{}", KeySetError::Malformed),
        ("{\"keys\":1}", KeySetError::Malformed),
        ("{\"keys\":[]}", KeySetError::NoKey),
    ] {
        assert_eq!(KeySet::parse(text.as_bytes()), Err(error), "{text}");
    }
    let many = json!({ "keys": vec![json!({}); 65] }).to_string();
    assert_eq!(KeySet::parse(many.as_bytes()), Err(KeySetError::TooLarge));
}

#[test]
fn claims() {
    let provider = &*PROVIDER;
    let issuers = [provider.issuer()];
    let of = |payload: Value| provider.token(&header("EdDSA", "ed"), &payload);
    assert_eq!(answer(&of(payload()), &issuers), "fine");
    let p = payload;
    let table: Vec<(&str, Value, &str)> = vec![
        ("no exp", without(p(), "exp"), "claims"),
        ("exp a text", with(p(), "exp", json!((NOW + 300).to_string())), "claims"),
        ("exp past the skew", with(p(), "exp", json!(NOW - 31)), "expired"),
        ("exp within the skew", with(p(), "exp", json!(NOW - 29)), "fine"),
        ("exp 1e300", with(p(), "exp", json!(1e300)), "fine"),
        ("exp negative", with(p(), "exp", json!(-1)), "claims"),
        ("nbf a text", with(p(), "nbf", json!("0")), "claims"),
        ("nbf in an hour", with(p(), "nbf", json!(NOW + 3600)), "not_yet"),
        ("iat in an hour", with(p(), "iat", json!(NOW + 3600)), "not_yet"),
        ("iat a text", with(p(), "iat", json!("0")), "claims"),
        ("no iss", without(p(), "iss"), "claims"),
        ("iss with one slash more", with(p(), "iss", json!(format!("{ISSUER}/"))), "issuer"),
        ("iss in upper case", with(p(), "iss", json!(ISSUER.to_uppercase())), "issuer"),
        ("iss an array", with(p(), "iss", json!([ISSUER])), "claims"),
        ("no aud", without(p(), "aud"), "audience"),
        ("aud other", with(p(), "aud", json!("zafka")), "audience"),
        ("aud empty", with(p(), "aud", json!([])), "audience"),
        ("aud a prefix", with(p(), "aud", json!("zafka-edg")), "audience"),
        ("aud a number", with(p(), "aud", json!(1)), "audience"),
        ("aud with a number", with(p(), "aud", json!(["zafka-edge", 1])), "audience"),
        ("aud of 17", with(p(), "aud", json!(vec!["zafka-edge"; 17])), "audience"),
        ("no sub", without(p(), "sub"), "claims"),
        ("sub an object", with(p(), "sub", json!({})), "claims"),
        ("sub empty", with(p(), "sub", json!("")), "claims"),
        ("sub of 300", with(p(), "sub", json!("x".repeat(300))), "claims"),
        ("sub with a control character", with(p(), "sub", json!("a\u{7}")), "claims"),
        ("sub with a bidi character", with(p(), "sub", json!("a\u{202e}b")), "claims"),
        ("jti a number", with(p(), "jti", json!(1)), "claims"),
        ("ID token", with(p(), "typ", json!("ID")), "claims"),
        ("refresh token", with(p(), "typ", json!("Refresh")), "claims"),
        ("typ a number", with(p(), "typ", json!(1)), "claims"),
        ("events", with(p(), "events", json!({})), "claims"),
        ("jkt of another key", with(p(), "cnf", json!({ "jkt": b64([1; 32]) })), "confirmation"),
        ("certificate", with(p(), "cnf", json!({ "x5t#S256": b64([1; 32]) })), "confirmation"),
        ("cnf a text", with(p(), "cnf", json!("x")), "confirmation"),
    ];
    for (name, payload, code) in table {
        assert_eq!(answer(&of(payload), &issuers), code, "{name}");
    }
    let x = b64(peer().as_bytes());
    let jwk = format!("{{\"crv\":\"X25519\",\"kty\":\"OKP\",\"x\":\"{x}\"}}");
    let bound = with(p(), "cnf", json!({ "jkt": b64(digest(&SHA256, jwk.as_bytes())) }));
    assert_eq!(answer(&of(bound.clone()), &issuers), "fine", "bound to the peer's key");
    let stranger = SecretKey::from_bytes([8; 32]).public_key();
    let shown = verify(of(bound).as_bytes(), &stranger, &issuers, NOW, SKEW);
    assert_eq!(shown, Err(TokenError::Confirmation));
    let require = vec![(ClaimName::parse("azp").unwrap(), vec![json!("dashboard")])];
    let strict = Issuer { require, ..provider.issuer() };
    assert_eq!(answer(&of(p()), std::slice::from_ref(&strict)), "claims", "a required claim");
    assert_eq!(answer(&of(with(p(), "azp", json!("dashboard"))), &[strict]), "fine");
}

#[test]
fn what_tells_tokens_apart() {
    let provider = &*PROVIDER;
    let issuers = [provider.issuer()];
    let of = |payload: Value| check(&provider.token(&header("ES256", "p256"), &payload), &issuers);
    let one = of(payload()).unwrap();
    assert_eq!(one.id, of(with(payload(), "exp", json!(NOW + 600))).unwrap().id, "the same jti");
    assert_ne!(one.id, of(with(payload(), "jti", json!("two"))).unwrap().id);
    // Without one, the same payload is the same token, whatever its signature.
    let unnamed = without(payload(), "jti");
    let [first, second] = [of(unnamed.clone()), of(unnamed)].map(Result::unwrap);
    assert_eq!(first.id, second.id);
    // Nor one that somebody else has altered: with s also n - s is a signature.
    let token = provider.token(&header("ES256", "p256"), &without(payload(), "jti"));
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut borrow = 0;
    for (byte, of_n) in bytes[32..].iter_mut().zip(P256_ORDER).rev() {
        let difference = i16::from(of_n) - i16::from(*byte) - borrow;
        (*byte, borrow) = (difference.rem_euclid(256) as u8, i16::from(difference < 0));
    }
    let altered = format!("{signed}.{}", b64(&bytes));
    assert_ne!(altered, token);
    assert_eq!(check(&altered, &issuers).unwrap().id, check(&token, &issuers).unwrap().id);
    let other = Issuer { name: "https://other".into(), ..provider.issuer() };
    let theirs = with(payload(), "iss", json!("https://other"));
    let theirs = check(&provider.token(&header("ES256", "p256"), &theirs), &[other]).unwrap();
    assert_ne!(one.id, theirs.id, "ids are an issuer's own");
}

#[test]
fn the_end_that_a_token_claims() {
    let provider = &*PROVIDER;
    let token = provider.token(&header("ES256", "p256"), &payload());
    assert_eq!(claimed_end(token.as_bytes()), Some(NOW + 300));
    for none in ["", "a.b.c", &provider.token(&header("ES256", "p256"), &without(payload(), "exp"))]
    {
        assert_eq!(claimed_end(none.as_bytes()), None, "{none}");
    }
}

#[test]
fn what_may_pass() {
    for error in [TokenError::Expired, TokenError::NotYet, TokenError::UnknownKey(0)] {
        assert!(error.may_pass());
    }
    for error in [
        TokenError::Malformed(""),
        TokenError::Issuer,
        TokenError::Audience,
        TokenError::Signature,
        TokenError::Claims(""),
        TokenError::Confirmation,
    ] {
        assert!(!error.may_pass());
    }
}
