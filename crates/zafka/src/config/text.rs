//! Values from text, once their variables are expanded. The file and the URLs of `zafka relay`
//! share these.

mod words;

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use axum::http::Uri;
use jiff::Timestamp;
use regex::Regex;
use zafka_bridge::template::{Fields, Template};
use zafka_bridge::zmq_to_kafka::mapping::is_legal;
use zafka_envelope::{FramePlan, InboundPlan, Preset};
use zafka_identity::{name_fault, regex_fault};
use zafka_kafka::config::{Start, TopicSelector};
use zafka_sockets::Endpoint;

pub use super::mistake::Parsed;
use super::mistake::Rejected;
use crate::redact::has_credentials;
pub use words::*;

/// A text with fields of a message.
pub fn template(text: &str) -> Parsed<Template> {
    Template::parse(text, Fields::OfMessage).map_err(|error| {
        Rejected::because(error.to_string(), "text with {topic}, {key}, {header.NAME}")
    })
}

/// The topic to write to: a name, or a text with fields of a message.
pub fn written_template(text: &str) -> Parsed<Template> {
    let template = template(text)?;
    match template.constant() {
        Some(name) if !is_legal(&name) || name.starts_with("__") => {
            let allowed = "1 to 249 letters, digits, '.', '_' and '-', and no internal topic";
            Err(Rejected::because("not the name of a topic that can be written to", allowed))
        }
        _ => Ok(template),
    }
}

/// A topic that may be written to: its name, or `/^PATTERN$/`.
pub fn written_topic(text: &str) -> Parsed<TopicSelector> {
    match topic(text)? {
        TopicSelector::Pattern(pattern)
            if !(pattern.as_str().starts_with('^') && pattern.as_str().ends_with('$')) =>
        {
            Err(Rejected::because(
                "a pattern that is not anchored lets more be written than it shows",
                "/^PATTERN$/",
            ))
        }
        TopicSelector::Name(name) if name.starts_with("__") => Err(Rejected::because(
            "an internal topic",
            "a topic's name, or a pattern between slashes",
        )),
        topic => Ok(topic),
    }
}

/// `start`: a word or an RFC 3339 time.
pub fn start(text: &str) -> Parsed<Start> {
    match text {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        _ => time(text).map(Start::Time),
    }
}

/// An RFC 3339 time in ms since the epoch. Kafka's records have none before it.
fn time(text: &str) -> Parsed<i64> {
    let allowed = "\"earliest\", \"latest\", an RFC 3339 time such as \"2026-01-31T08:00:00Z\"";
    match text.parse::<Timestamp>() {
        Ok(time) if time >= Timestamp::UNIX_EPOCH => Ok(time.as_millisecond()),
        Ok(_) => Err(Rejected::because("before 1970", allowed)),
        Err(_) => Err(Rejected::allowed(allowed)),
    }
}

/// A topic's name, or `/PATTERN/`.
pub fn topic(text: &str) -> Parsed<TopicSelector> {
    let allowed = "a topic's name, or a pattern between slashes such as \"/^payments\\\\./\"";
    if let Some(pattern) = text.strip_prefix('/') {
        let Some(pattern) = pattern.strip_suffix('/').filter(|pattern| !pattern.is_empty()) else {
            return Err(Rejected::because("a pattern ends with a slash and is not empty", allowed));
        };
        return Regex::new(pattern).map(TopicSelector::Pattern).map_err(|error| {
            Rejected::because(
                format!("not a regular expression: {}", regex_fault(&error)),
                "the syntax of the Rust crate regex",
            )
        });
    }
    legal_name(text, allowed).map(TopicSelector::Name)
}

/// A name by Kafka's rule for topics, which also holds for the instances of static members.
pub fn legal_name(text: &str, allowed: &'static str) -> Parsed<String> {
    match name_fault(text) {
        None => Ok(text.to_owned()),
        Some(why) => Err(Rejected::because(why, allowed)),
    }
}

/// `instance`.
pub fn instance(text: &str) -> Parsed<String> {
    legal_name(text, "1 to 249 letters, digits, '.', '_' and '-'")
}

/// A text of at least one character, none of them a control character.
pub fn label(text: &str) -> Parsed<String> {
    let fine = !text.is_empty() && text.len() <= 255 && !text.chars().any(char::is_control);
    if fine {
        Ok(text.to_owned())
    } else {
        Err(Rejected::allowed("1 to 255 bytes without control characters"))
    }
}

/// One scope of a token request (RFC 6749 section 3.3).
pub fn scope(text: &str) -> Parsed<String> {
    let fine =
        !text.is_empty() && text.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
    if fine {
        Ok(text.to_owned())
    } else {
        Err(Rejected::allowed("one scope, without spaces and quotes"))
    }
}

/// `HOST:PORT` of a broker.
pub fn broker(text: &str) -> Parsed<String> {
    let allowed = "HOST:PORT";
    if has_credentials(text) {
        let why = "credentials do not belong in an address, but in kafka.security.sasl";
        return Err(Rejected::because(why, allowed));
    }
    if text.contains(['/', ',', ' ']) {
        return Err(Rejected::because("one broker's host and port and nothing else", allowed));
    }
    let endpoint: Endpoint = format!("tcp://{text}")
        .parse()
        .map_err(|e: zafka_sockets::EndpointError| Rejected::because(e.why, allowed))?;
    if endpoint.can_connect() {
        Ok(text.to_owned())
    } else {
        Err(Rejected::because("a wildcard", allowed))
    }
}

/// An endpoint to bind; the path of a relative one starts at `directory`.
pub fn bind(text: &str, directory: &Path) -> Parsed<Endpoint> {
    endpoint(text, directory, "tcp://HOST:PORT, tcp://*:PORT, tcp://HOST:*, ipc:///PATH")
}

fn endpoint(text: &str, directory: &Path, allowed: &'static str) -> Parsed<Endpoint> {
    let endpoint = text.parse().and_then(|endpoint: Endpoint| endpoint.in_directory(directory));
    endpoint.map_err(|error| Rejected::because(error.why, allowed))
}

/// An endpoint to connect to; the path of a relative one starts at `directory`.
pub fn connect(text: &str, directory: &Path) -> Parsed<Endpoint> {
    let allowed = "tcp://HOST:PORT, ipc:///PATH";
    let endpoint = endpoint(text, directory, allowed)?;
    if endpoint.can_connect() {
        Ok(endpoint)
    } else {
        Err(Rejected::because("a wildcard can only be bound", allowed))
    }
}

/// The mode of a file: three octal digits, or four with a zero before them.
pub fn mode(text: &str) -> Parsed<u32> {
    let digits = text.strip_prefix('0').filter(|digits| digits.len() == 3).unwrap_or(text);
    let octal = digits.len() == 3 && digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    let mode = octal.then(|| u32::from_str_radix(digits, 8).ok()).flatten();
    mode.ok_or_else(|| {
        Rejected::allowed("an octal mode from \"0000\" to \"0777\", such as \"0660\"")
    })
}

/// The name of a preset, for records that become messages.
pub fn preset(text: &str) -> Parsed<FramePlan> {
    any_preset(text).map(FramePlan::preset)
}

/// The name of a preset, for messages that become records.
pub fn inbound_preset(text: &str) -> Parsed<InboundPlan> {
    any_preset(text).map(InboundPlan::preset)
}

fn any_preset(text: &str) -> Parsed<Preset> {
    text.parse::<Preset>().map_err(|_| {
        let presets: Vec<_> =
            Preset::ALL.iter().map(|preset| format!("{:?}", preset.name())).collect();
        Rejected::allowed(format!(
            "{}, a list of templates such as [\"{{topic}}\", \"{{value}}\"]",
            presets.join(", ")
        ))
    })
}

/// A whole number from `min` to `max`.
pub fn whole(text: &str, min: u64, max: u64) -> Parsed<u64> {
    match text.parse::<u64>() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(Rejected::allowed(format!("a whole number from {min} to {max}"))),
    }
}

/// A size in bytes from `min` to `max`: a whole number, or one with the unit KiB, MiB or GiB.
pub fn size(text: &str, min: u64, max: u64) -> Parsed<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim_start() {
        "" | "B" => Some(1),
        "KiB" => Some(1024),
        "MiB" => Some(1024 * 1024),
        "GiB" => Some(1024 * 1024 * 1024),
        _ => None,
    };
    let bytes = factor.and_then(|factor: u64| number.parse::<u64>().ok()?.checked_mul(factor));
    match bytes {
        Some(bytes) if (min..=max).contains(&bytes) => Ok(bytes),
        _ => {
            let (min, max) = (size_text(min), size_text(max));
            Err(Rejected::allowed(format!(
                "bytes, or a size such as \"16MiB\" (KiB, MiB, GiB), from {min} to {max}"
            )))
        }
    }
}

/// A size as a configuration has it.
pub fn size_text(bytes: u64) -> String {
    for (factor, unit) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= factor && bytes.is_multiple_of(factor) {
            return format!("{}{unit}", bytes / factor);
        }
    }
    format!("{bytes} bytes")
}

/// A duration from `min` to `max`, such as "5s" or "500ms".
pub fn duration(text: &str, min: Duration, max: Duration) -> Parsed<Duration> {
    match humantime::parse_duration(text) {
        Ok(duration) if (min..=max).contains(&duration) => Ok(duration),
        _ => {
            let (min, max) = (humantime::format_duration(min), humantime::format_duration(max));
            Err(Rejected::allowed(format!(
                "a duration such as \"5s\" or \"500ms\", from {min} to {max}"
            )))
        }
    }
}

/// A duration within these bounds, or zero for none.
pub fn duration_or_none(text: &str, min: Duration, max: Duration) -> Parsed<Option<Duration>> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Ok(None),
        Ok(duration) if (min..=max).contains(&duration) => Ok(Some(duration)),
        _ => {
            let (min, max) = (humantime::format_duration(min), humantime::format_duration(max));
            Err(Rejected::allowed(format!(
                "a duration such as \"5s\" or \"3m\", from {min} to {max}, or \"0\" for none"
            )))
        }
    }
}

/// A token endpoint: https, or http on this machine.
pub fn token_url(text: &str) -> Parsed<String> {
    https_url(
        text,
        "credentials do not belong in a URL, but in client_id and client_secret",
        "the client's secret would travel in the clear",
    )
}

/// A URL of an issuer or of its keys: https, or http on this machine.
pub fn provider_url(text: &str) -> Parsed<String> {
    let in_the_clear = "an attacker on the way could give the relay other keys";
    https_url(text, "credentials do not belong in this URL", in_the_clear)
}

/// A URL that is https, or http on this machine. The words say what is wrong with credentials in
/// it, and with http.
fn https_url(
    text: &str,
    no_credentials: &'static str,
    in_the_clear: &'static str,
) -> Parsed<String> {
    let allowed = "https://HOST[:PORT]/PATH (http only for a loopback address)";
    let credentials = || Rejected::because(no_credentials, allowed);
    // Most passwords with a slash, a question mark or a space make no URL.
    let none =
        |why| if has_credentials(text) { credentials() } else { Rejected::because(why, allowed) };
    let uri: Uri = text.parse().map_err(|_| none("not a URL"))?;
    let host = uri.host().ok_or_else(|| none("not a URL with a host"))?;
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if has_credentials(authority) {
        return Err(credentials());
    }
    if authority.len() > host.len() && uri.port_u16().is_none() {
        return Err(none("the port is not a number up to 65535"));
    }
    match uri.scheme_str() {
        Some("https") => Ok(text.to_owned()),
        Some("http") if is_loopback(host) => Ok(text.to_owned()),
        Some("http") => Err(Rejected::because(in_the_clear, allowed)),
        _ => Err(Rejected::because("another scheme", allowed)),
    }
}

/// A URI (RFC 3986): a scheme, a colon, and no spaces.
pub fn uri(text: &str) -> Parsed<String> {
    let fine = text.bytes().all(|byte| byte.is_ascii_graphic())
        && text.len() <= 255
        && text.split_once(':').is_some_and(|(scheme, rest)| {
            let is_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.chars().all(is_scheme)
                && !rest.is_empty()
        });
    if fine { Ok(text.to_owned()) } else { Err(Rejected::allowed("a URI: SCHEME:REST")) }
}

/// Returns true if a host is this machine, as far as its text shows.
pub fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}
