//! `zafka leases` and `zafka revoke`: what they ask a relay for, and how its answer is shown.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use zafka_identity::shown;
use zafka_zmtp::curve::PublicKey;

use super::{CommandError, ControlArgs, LeasesArgs, RevokeArgs, UsageError, output_error};
use crate::config::{load, public_key_in};
use crate::control::{ControlRequest, LeaseLine, Line, RevokedLine, What, ask};
use crate::time_text::end_text;

/// Lists the leases of a running relay.
///
/// # Errors
/// The relay cannot be asked, or standard output cannot be written to.
pub async fn leases(args: LeasesArgs) -> Result<(), CommandError> {
    let lines = ask(&path(&args.control)?, &ControlRequest::Leases {}).await?;
    let leases = lines.into_iter().filter_map(|line| match line {
        Line::Lease(lease) => Some(lease),
        _ => None,
    });
    let mut leases: Vec<_> = leases.collect();
    leases.sort_by(|one, other| (&one.subject, &one.key).cmp(&(&other.subject, &other.key)));
    let mut out = io::BufWriter::new(io::stdout().lock());
    let is_json = !io::stdout().is_terminal();
    let show = if is_json { lease_json } else { lease_text };
    let written = leases.iter().try_for_each(|lease| writeln!(out, "{}", show(lease)));
    written.and_then(|()| out.flush()).map_err(|error| output_error(error).into())
}

/// Keeps out a key, a subject or a token of a running relay.
///
/// # Errors
/// The relay cannot be asked, or standard output cannot be written to.
pub async fn revoke(args: RevokeArgs) -> Result<(), CommandError> {
    let what = what(&args)?;
    let seconds = args.lasts.as_secs();
    let lines = ask(&path(&args.control)?, &ControlRequest::Revoke { what, seconds }).await?;
    let is_json = !io::stdout().is_terminal();
    let mut out = io::stdout().lock();
    for line in &lines {
        let Line::Revoked(revoked) = line else { continue };
        let text = if is_json { revoked_json(revoked) } else { revoked_text(revoked) };
        writeln!(out, "{text}").map_err(output_error)?;
    }
    Ok(())
}

/// The control socket of the relay.
fn path(args: &ControlArgs) -> Result<PathBuf, CommandError> {
    if let Some(path) = &args.control {
        return Ok(path.clone());
    }
    let admin = load(&args.config)?.config.admin;
    admin.and_then(|admin| admin.control).ok_or_else(|| {
        let file = args.config.display();
        UsageError(format!("{file}: its relay has no control socket ([admin] control)")).into()
    })
}

/// The object of a revocation. The command line has exactly one.
fn what(args: &RevokeArgs) -> Result<What, UsageError> {
    let issuer = args.issuer.clone();
    if let Some(key) = &args.key {
        return Ok(What::Key(key_of(key)?.to_string()));
    }
    if let Some(subject) = args.subject.clone() {
        return Ok(What::Subject { issuer, subject });
    }
    if let Some(id) = args.jti.clone() {
        return Ok(What::Token { issuer, id });
    }
    match (args.kid.clone(), args.issued_before, issuer) {
        (Some(id), _, Some(issuer)) => Ok(What::SignedBy { issuer, id }),
        (_, Some(time), Some(issuer)) => Ok(What::IssuedBefore { issuer, time: time.as_second() }),
        _ => Err(UsageError("--kid and --issued-before need --issuer".to_owned())),
    }
}

/// A key as `zafka leases` shows it, or in a file.
fn key_of(text: &str) -> Result<PublicKey, UsageError> {
    match text.parse() {
        Ok(key) => Ok(key),
        Err(_) => Ok(public_key_in(Path::new(text)).map_err(UsageError)?.public),
    }
}

/// The same object, its `until` as a text (RFC 3339).
fn with_time(fields: Value, until: i64) -> String {
    let mut fields = match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    fields.insert("until".to_owned(), json!(end_text(until)));
    Value::Object(fields).to_string()
}

fn lease_json(lease: &LeaseLine) -> String {
    with_time(json!(lease), lease.until)
}

fn lease_text(lease: &LeaseLine) -> String {
    let (subject, until) = (shown(&lease.subject), end_text(lease.until));
    let (key, issuer, connections) = (&lease.key, shown(&lease.issuer), lease.connections);
    let token = lease.token_id.as_deref().map_or_else(|| "-".to_owned(), shown);
    format!(
        "{subject:<24} until {until}  {connections:>4} connections  key {key}  token {token}  \
         issuer {issuer}"
    )
}

fn revoked_json(revoked: &RevokedLine) -> String {
    with_time(json!(revoked), revoked.until)
}

fn revoked_text(revoked: &RevokedLine) -> String {
    let RevokedLine { revoked, keys, connections, until } = revoked;
    let until = end_text(*until);
    format!("revoked until {until}: {revoked}; {keys} keys, {connections} connections closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_programs_and_people() {
        let lease = LeaseLine {
            key: "k".to_owned(),
            issuer: "https://id".to_owned(),
            subject: "al\nice".to_owned(),
            token_id: None,
            until: 1_800_000_000,
            connections: 2,
        };
        let json: Value = serde_json::from_str(&lease_json(&lease)).unwrap();
        assert_eq!((&json["until"], &json["key"]), (&json!("2027-01-15T08:00:00Z"), &json!("k")));
        let text = lease_text(&lease);
        assert!(text.starts_with("al\\u{a}ice") && text.contains("   2 connections"), "{text}");
        let revoked =
            RevokedLine { revoked: "key k".to_owned(), keys: 1, connections: 3, until: i64::MAX };
        let text = revoked_text(&revoked);
        assert_eq!(text, "revoked until never: key k; 1 keys, 3 connections closed");
    }
}
