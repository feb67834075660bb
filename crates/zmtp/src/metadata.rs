//! Metadata: the properties that a handshake carries (RFC 37, "The NULL Security Mechanism").

use bytes::Bytes;

use crate::error::{Error, printable};

/// The most properties that are taken from one peer.
const MAX_PROPERTIES: usize = 64;
const WHAT: &str = "metadata";

/// Appends one property. Names are at most 255 bytes, values at most 2^31-1 (ours are far below
/// both).
pub(crate) fn put(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.push(name.len() as u8);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(&(value.len() as u32).to_be_bytes());
    out.extend_from_slice(value);
}

/// Reads all properties, in their order.
pub(crate) fn parse(mut input: &[u8]) -> Result<Vec<(String, Bytes)>, Error> {
    let mut properties = Vec::new();
    while !input.is_empty() {
        if properties.len() == MAX_PROPERTIES {
            return Err(Error::malformed(WHAT, format!("more than {MAX_PROPERTIES} properties")));
        }
        let name = take_name(&mut input)?;
        let value = take_value(&mut input, &name)?;
        properties.push((name, value));
    }
    Ok(properties)
}

/// The value of the property `name` (case does not matter); naming it twice is an error.
pub(crate) fn find(properties: &[(String, Bytes)], name: &str) -> Result<Option<Bytes>, Error> {
    let mut found = properties.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
    let value = found.next().map(|(_, value)| value.clone());
    if found.next().is_some() {
        return Err(Error::malformed(WHAT, format!("{name} stands there twice")));
    }
    Ok(value)
}

fn take_name(input: &mut &[u8]) -> Result<String, Error> {
    let Some((&size, rest)) = input.split_first() else {
        return Err(Error::malformed(WHAT, "no property name"));
    };
    let Some((name, rest)) = rest.split_at_checked(usize::from(size)) else {
        return Err(Error::malformed(
            WHAT,
            format!("a name of {size} bytes where {} are left", rest.len()),
        ));
    };
    *input = rest;
    let valid = |octet: &u8| octet.is_ascii_alphanumeric() || b"-_.+".contains(octet);
    if name.is_empty() || !name.iter().all(valid) {
        let found = format!("the name {:?}; letters, digits and -_.+ are allowed", printable(name));
        return Err(Error::malformed(WHAT, found));
    }
    Ok(name.iter().map(|&octet| char::from(octet)).collect())
}

fn take_value(input: &mut &[u8], name: &str) -> Result<Bytes, Error> {
    let Some((size, rest)) = input.split_first_chunk::<4>() else {
        return Err(Error::malformed(WHAT, format!("{name} ends within the size of its value")));
    };
    let size = u32::from_be_bytes(*size);
    let value = usize::try_from(size).ok().and_then(|size| rest.split_at_checked(size));
    let Some((value, rest)) = value else {
        let found = format!("{name} has a value of {size} bytes where {} are left", rest.len());
        return Err(Error::malformed(WHAT, found));
    };
    *input = rest;
    Ok(Bytes::copy_from_slice(value))
}
