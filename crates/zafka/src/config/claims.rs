//! Tables of claims that a peer or a token must have.

use serde_json::Value;
use toml::de::DeTable;
use zafka_identity::ClaimName;

use super::keys::Key;
use super::reader::Table;

/// Reads a table of claims, each with the values of which it must have one.
pub fn claims(
    table: &Table<'_, '_>,
    key: &Key,
    claims: &DeTable<'_>,
) -> Option<Vec<(ClaimName, Vec<Value>)>> {
    let mut wanted = Some(Vec::new());
    for (name, value) in claims {
        let claim = ClaimName::parse(name.get_ref());
        if claim.is_none() {
            let found = format!("found the claim {:?}", name.get_ref());
            table.mistake_at(&name.span(), key, found, "a claim's name, or a JSON pointer");
        }
        let values = table.claim_values(key, value);
        wanted = wanted.zip(claim.zip(values)).map(|(mut wanted, both)| {
            wanted.push(both);
            wanted
        });
    }
    wanted
}
