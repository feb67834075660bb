//! Decoding of answers. `kafka-protocol` takes memory for as many entries as an array says it has,
//! before one of them is read: six bytes from a stranger would end the process. So an answer is
//! walked by its layout first, which takes no memory: an array with more entries than its answer
//! has room for is refused.

use bytes::{Buf, Bytes};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::{Decodable, Request};

/// The reason why an answer cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AnswerError {
    #[error("an answer that cannot be read: it ends too early")]
    Short,
    #[error("an answer that cannot be read: {count} entries said to be in {bytes} bytes")]
    Count { count: usize, bytes: usize },
    #[error("an answer that cannot be read: a length of {0}")]
    Negative(i32),
    #[error("an answer that cannot be read: tagged field {tag} is not of the {size} bytes it says")]
    Tag { tag: u32, size: u32 },
    #[error("an answer of version {version} to request {key}, whose layout is not known")]
    Layout { key: i16, version: i16 },
    #[error("an answer that cannot be read: {0}")]
    Codec(String),
    #[error("an answer without what was asked for")]
    Lacking,
}

/// Decodes the body of an answer to `R`. Its memory is bounded by the length of the body.
///
/// # Errors
/// If it is not as the version has it, or the version is none that we speak.
pub(crate) fn decode<R: Request>(
    body: &mut Bytes,
    version: i16,
) -> Result<R::Response, AnswerError> {
    let layout = layout(R::KEY, version).ok_or(AnswerError::Layout { key: R::KEY, version })?;
    walk(&mut &**body, layout)?;
    R::Response::decode(body, version)
        .map_err(|error| AnswerError::Codec(error.to_string().trim().to_owned()))
}

type Layout = &'static [Field];

#[derive(Debug)]
enum Field {
    /// Numbers, as many bytes in all.
    Fixed(usize),
    /// A string with a length of 16 bits; -1: null.
    Text,
    /// A string, or bytes, with a length, plus one, as a variable integer; 0: null.
    CompactText,
    /// An array of as many entries as 32 bits say; -1: null.
    Array(Layout),
    /// An array of as many entries as a variable integer says, less one; 0: null.
    CompactArray(Layout),
    /// Tagged fields (KIP-482): the layout of those that are decoded, any others are skipped.
    Tags(&'static [(u32, Layout)]),
}

use Field::{Array, CompactArray, CompactText, Fixed, Tags, Text};

const NO_TAGS: Field = Tags(&[]);

const API_VERSIONS_0: Layout = &[Fixed(2), Array(&[Fixed(6)])];
const FEATURES: Field = CompactArray(&[CompactText, Fixed(4), NO_TAGS]);
const API_VERSIONS_3: Layout = &[
    Fixed(2),
    CompactArray(&[Fixed(6), NO_TAGS]),
    Fixed(4),
    Tags(&[(0, &[FEATURES]), (1, &[Fixed(8)]), (2, &[FEATURES]), (3, &[Fixed(1)])]),
];

const SASL_HANDSHAKE_1: Layout = &[Fixed(2), Array(&[Text])];
/// The layout of an answer without an array.
const SASL_AUTHENTICATE: Layout = &[];

const BROKERS: Field = CompactArray(&[Fixed(4), CompactText, Fixed(4), CompactText, NO_TAGS]);
const IDS: Field = CompactArray(&[Fixed(4)]);
const LEADERS: Field = CompactArray(&[Fixed(14), IDS, IDS, IDS, NO_TAGS]);
const TOPICS_9: Field =
    CompactArray(&[Fixed(2), CompactText, Fixed(1), LEADERS, Fixed(4), NO_TAGS]);
const TOPICS_10: Field =
    CompactArray(&[Fixed(2), CompactText, Fixed(17), LEADERS, Fixed(4), NO_TAGS]);
const METADATA_9: Layout = &[Fixed(4), BROKERS, CompactText, Fixed(4), TOPICS_9, Fixed(4), NO_TAGS];
const METADATA_10: Layout =
    &[Fixed(4), BROKERS, CompactText, Fixed(4), TOPICS_10, Fixed(4), NO_TAGS];
const METADATA_11: Layout = &[Fixed(4), BROKERS, CompactText, Fixed(4), TOPICS_10, NO_TAGS];
const METADATA_13: Layout =
    &[Fixed(4), BROKERS, CompactText, Fixed(4), TOPICS_10, Fixed(2), NO_TAGS];

const PARTITIONS: Field = CompactArray(&[
    Fixed(30),
    CompactArray(&[Fixed(16), NO_TAGS]),
    Fixed(4),
    CompactText,
    Tags(&[(0, &[Fixed(12), NO_TAGS]), (1, &[Fixed(8), NO_TAGS]), (2, &[Fixed(12), NO_TAGS])]),
]);
const FETCH_12: Layout = &[Fixed(10), CompactArray(&[CompactText, PARTITIONS, NO_TAGS]), NO_TAGS];
const FETCH_13: Layout = &[Fixed(10), CompactArray(&[Fixed(16), PARTITIONS, NO_TAGS]), NO_TAGS];
const FETCH_16: Layout =
    &[Fixed(10), CompactArray(&[Fixed(16), PARTITIONS, NO_TAGS]), Tags(&[(0, &[BROKERS])])];

const FIND_COORDINATOR_3: Layout =
    &[Fixed(6), CompactText, Fixed(4), CompactText, Fixed(4), NO_TAGS];
const CLASSIC_MEMBERS: Field = CompactArray(&[
    CompactText,
    CompactText,
    CompactText,
    CompactText,
    CompactText,
    CompactText,
    NO_TAGS,
]);
const DESCRIBE_GROUPS_5: Layout = &[
    Fixed(4),
    CompactArray(&[
        Fixed(2),
        CompactText,
        CompactText,
        CompactText,
        CompactText,
        CLASSIC_MEMBERS,
        Fixed(4),
        NO_TAGS,
    ]),
    NO_TAGS,
];
const DESCRIBE_GROUPS_6: Layout = &[
    Fixed(4),
    CompactArray(&[
        Fixed(2),
        CompactText,
        CompactText,
        CompactText,
        CompactText,
        CompactText,
        CLASSIC_MEMBERS,
        Fixed(4),
        NO_TAGS,
    ]),
    NO_TAGS,
];
const ASSIGNED: Field = CompactArray(&[Fixed(16), CompactText, IDS, NO_TAGS]);
/// Fields of a member that all versions have; then its type, and tags.
macro_rules! consumer_groups {
    ($($more:expr),*) => {
        &[
            Fixed(4),
            CompactArray(&[
                Fixed(2),
                CompactText,
                CompactText,
                CompactText,
                Fixed(8),
                CompactText,
                CompactArray(&[
                    CompactText,
                    CompactText,
                    CompactText,
                    Fixed(4),
                    CompactText,
                    CompactText,
                    CompactArray(&[CompactText]),
                    CompactText,
                    ASSIGNED,
                    NO_TAGS,
                    ASSIGNED,
                    NO_TAGS,
                    $($more,)*
                    NO_TAGS,
                ]),
                Fixed(4),
                NO_TAGS,
            ]),
            NO_TAGS,
        ]
    };
}
const CONSUMER_GROUP_DESCRIBE_0: Layout = consumer_groups!();
const CONSUMER_GROUP_DESCRIBE_1: Layout = consumer_groups!(Fixed(1));
const LIST_GROUPS_5: Layout = &[
    Fixed(6),
    CompactArray(&[CompactText, CompactText, CompactText, CompactText, NO_TAGS]),
    NO_TAGS,
];
const JOIN_GROUP_7: Layout = &[
    Fixed(10),
    CompactText,
    CompactText,
    CompactText,
    CompactText,
    CompactArray(&[CompactText, CompactText, CompactText, NO_TAGS]),
    NO_TAGS,
];
const INIT_PRODUCER_ID_2: Layout = &[Fixed(16), NO_TAGS];
const DESCRIBE_CONFIGS_4: Layout = &[
    Fixed(4),
    CompactArray(&[
        Fixed(2),
        CompactText,
        Fixed(1),
        CompactText,
        CompactArray(&[
            CompactText,
            CompactText,
            Fixed(3),
            CompactArray(&[CompactText, CompactText, Fixed(1), NO_TAGS]),
            Fixed(1),
            CompactText,
            NO_TAGS,
        ]),
        NO_TAGS,
    ]),
    NO_TAGS,
];

/// The layout of a partition: its number, error, offset, time and start of the log; then the leader
/// that it has now (KIP-951).
const WRITTEN: Field = CompactArray(&[
    Fixed(30),
    CompactArray(&[Fixed(4), CompactText, NO_TAGS]),
    CompactText,
    Tags(&[(0, &[Fixed(8), NO_TAGS])]),
]);
const PRODUCE_9: Layout =
    &[CompactArray(&[CompactText, WRITTEN, NO_TAGS]), Fixed(4), Tags(&[(0, &[BROKERS])])];
const PRODUCE_13: Layout =
    &[CompactArray(&[Fixed(16), WRITTEN, NO_TAGS]), Fixed(4), Tags(&[(0, &[BROKERS])])];

/// The layout of an answer as `kafka-protocol` reads it, of the versions that are asked for.
fn layout(key: i16, version: i16) -> Option<Layout> {
    const FETCH: i16 = ApiKey::Fetch as i16;
    const METADATA: i16 = ApiKey::Metadata as i16;
    const API_VERSIONS: i16 = ApiKey::ApiVersions as i16;
    const HANDSHAKE: i16 = ApiKey::SaslHandshake as i16;
    const AUTHENTICATE: i16 = ApiKey::SaslAuthenticate as i16;
    const FIND_COORDINATOR: i16 = ApiKey::FindCoordinator as i16;
    const DESCRIBE_GROUPS: i16 = ApiKey::DescribeGroups as i16;
    const CONSUMER_GROUP_DESCRIBE: i16 = ApiKey::ConsumerGroupDescribe as i16;
    const LIST_GROUPS: i16 = ApiKey::ListGroups as i16;
    const JOIN_GROUP: i16 = ApiKey::JoinGroup as i16;
    const INIT_PRODUCER_ID: i16 = ApiKey::InitProducerId as i16;
    const DESCRIBE_CONFIGS: i16 = ApiKey::DescribeConfigs as i16;
    const PRODUCE: i16 = ApiKey::Produce as i16;
    Some(match (key, version) {
        (API_VERSIONS, 0) => API_VERSIONS_0,
        (API_VERSIONS, 3) => API_VERSIONS_3,
        (HANDSHAKE, 1) => SASL_HANDSHAKE_1,
        (AUTHENTICATE, 0..=2) => SASL_AUTHENTICATE,
        (METADATA, 9) => METADATA_9,
        (METADATA, 10) => METADATA_10,
        (METADATA, 11 | 12) => METADATA_11,
        (METADATA, 13) => METADATA_13,
        (FETCH, 12) => FETCH_12,
        (FETCH, 13..=15) => FETCH_13,
        (FETCH, 16 | 17) => FETCH_16,
        (FIND_COORDINATOR, 3) => FIND_COORDINATOR_3,
        (DESCRIBE_GROUPS, 5) => DESCRIBE_GROUPS_5,
        (DESCRIBE_GROUPS, 6) => DESCRIBE_GROUPS_6,
        (CONSUMER_GROUP_DESCRIBE, 0) => CONSUMER_GROUP_DESCRIBE_0,
        (CONSUMER_GROUP_DESCRIBE, 1) => CONSUMER_GROUP_DESCRIBE_1,
        (LIST_GROUPS, 5) => LIST_GROUPS_5,
        (JOIN_GROUP, 7 | 8) => JOIN_GROUP_7,
        (INIT_PRODUCER_ID, 2..=4) => INIT_PRODUCER_ID_2,
        (DESCRIBE_CONFIGS, 4) => DESCRIBE_CONFIGS_4,
        (PRODUCE, 9..=12) => PRODUCE_9,
        (PRODUCE, 13) => PRODUCE_13,
        _ => return None,
    })
}

/// The fewest bytes that a layout takes; never none for an entry of an array.
fn least(layout: Layout) -> usize {
    let field = |field: &Field| match field {
        Fixed(bytes) => *bytes,
        Text => 2,
        Array(_) => 4,
        CompactText | CompactArray(_) | Tags(_) => 1,
    };
    layout.iter().map(field).sum()
}

fn walk(body: &mut &[u8], layout: Layout) -> Result<(), AnswerError> {
    for field in layout {
        match field {
            Fixed(bytes) => skip(body, *bytes)?,
            Text => match body.try_get_i16().map_err(|_| AnswerError::Short)? {
                -1 => {}
                length => skip(
                    body,
                    usize::try_from(length).map_err(|_| AnswerError::Negative(length.into()))?,
                )?,
            },
            CompactText => {
                let length = variable(body)?;
                skip(body, (length as usize).saturating_sub(1))?;
            }
            Array(entry) => match body.try_get_i32().map_err(|_| AnswerError::Short)? {
                -1 => {}
                count => entries(
                    body,
                    usize::try_from(count).map_err(|_| AnswerError::Negative(count))?,
                    entry,
                )?,
            },
            CompactArray(entry) => {
                let count = variable(body)?;
                entries(body, (count as usize).saturating_sub(1), entry)?;
            }
            Tags(known) => tags(body, known)?,
        }
    }
    Ok(())
}

fn skip(body: &mut &[u8], bytes: usize) -> Result<(), AnswerError> {
    *body = body.get(bytes..).ok_or(AnswerError::Short)?;
    Ok(())
}

fn entries(body: &mut &[u8], count: usize, entry: Layout) -> Result<(), AnswerError> {
    if count > body.len() / least(entry).max(1) {
        return Err(AnswerError::Count { count, bytes: body.len() });
    }
    (0..count).try_for_each(|_| walk(body, entry))
}

fn tags(body: &mut &[u8], known: &[(u32, Layout)]) -> Result<(), AnswerError> {
    for _ in 0..variable(body)? {
        let (tag, size) = (variable(body)?, variable(body)?);
        let before = body.len();
        match known.iter().find(|(known, _)| *known == tag) {
            Some((_, layout)) => walk(body, layout)?,
            None => skip(body, size as usize)?,
        }
        // The decoder goes by what is in it, whatever its size.
        if before - body.len() != size as usize {
            return Err(AnswerError::Tag { tag, size });
        }
    }
    Ok(())
}

/// An unsigned variable integer, read as `kafka-protocol` does: of five bytes at most.
fn variable(body: &mut &[u8]) -> Result<u32, AnswerError> {
    let mut value = 0;
    for shift in [0, 7, 14, 21, 28] {
        let byte = u32::from(body.try_get_u8().map_err(|_| AnswerError::Short)?);
        value |= (byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests;
