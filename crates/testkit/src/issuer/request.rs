//! Requests to the issuer of the tests, as far as they matter here.

use std::io::{BufRead, Read};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::INTROSPECTION_SECRET;

/// A request, as far as it matters here.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) path: String,
    pub(super) bearer: Option<String>,
    basic: Option<String>,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// Returns true if it shows the secret of the client "zafka".
    pub(super) fn is_of_client(&self) -> bool {
        let client = BASE64_STANDARD.encode(format!("zafka:{INTROSPECTION_SECRET}"));
        self.basic.as_ref() == Some(&client)
    }

    pub(super) fn read(reader: &mut impl BufRead) -> std::io::Result<Self> {
        let mut lines = reader.by_ref().lines();
        let first = lines.next().transpose()?.unwrap_or_default();
        let path = first.split([' ', '?']).nth(1).unwrap_or_default().to_owned();
        let (mut bearer, mut basic, mut length) = (None, None, 0);
        for line in lines {
            let line = line?;
            if line.is_empty() {
                break;
            }
            let Some((name, value)) = line.split_once(": ") else { continue };
            match &*name.to_ascii_lowercase() {
                "authorization" => {
                    bearer = value.strip_prefix("Bearer ").map(str::to_owned);
                    basic = value.strip_prefix("Basic ").map(str::to_owned);
                }
                "content-length" => length = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        let mut body = Vec::new();
        reader.take(length).read_to_end(&mut body)?;
        Ok(Self { path, bearer, basic, body })
    }
}
