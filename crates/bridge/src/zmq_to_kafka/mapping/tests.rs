use regex::Regex;

use super::*;
use crate::template::Fields;

fn template(text: &str) -> Template {
    Template::parse(text, Fields::OfMessage).unwrap()
}

fn pattern(text: &str) -> TopicSelector {
    TopicSelector::Pattern(Regex::new(text).unwrap())
}

fn mapping(topic: &str, allowed: &[&str]) -> Mapping {
    Mapping {
        topic: template(topic),
        rename: Vec::new(),
        allowed: allowed.iter().map(|text| pattern(text)).collect(),
        key: Some(Template::key()),
        partition: None,
        headers: Vec::new(),
        stamp: false,
    }
}

fn record<'a>(topic: &'a str, headers: &[(&'a str, &'a str)]) -> InboundRecord<'a> {
    let header = |(name, value): &(&'a str, &'a str)| InboundHeader {
        name: Cow::Borrowed(name.as_bytes()),
        value: Some(Cow::Borrowed(value.as_bytes())),
    };
    InboundRecord {
        topic: Some(Cow::Borrowed(topic)),
        key: Some(Cow::Borrowed(b"k")),
        value: Some(Cow::Borrowed(b"v")),
        headers: headers.iter().map(header).collect(),
        timestamp: None,
    }
}

fn target(mapping: &Mapping, record: &InboundRecord<'_>) -> Result<Target<'static>, MappingError> {
    let Target { topic, partition, key } = mapping.target(record, None)?;
    let key = key.map(|key| Cow::Owned(key.into_owned()));
    Ok(Target { topic: Cow::Owned(topic.into_owned()), partition, key })
}

#[test]
fn topics_are_made_of_templates_and_judged_by_the_list() {
    let edge = mapping("edge.{topic}", &["^edge\\.[a-z]+$"]);
    let cases = [
        ("kiln", Ok("edge.kiln")),
        ("Kiln", Err(MappingError::NotAllowed("edge.Kiln".to_owned()))),
        ("", Err(MappingError::NotAllowed("edge.".to_owned()))),
        ("a/b", Err(MappingError::BadTopic("edge.a/b".to_owned()))),
        ("a\nb", Err(MappingError::BadTopic("edge.a\\nb".to_owned()))),
    ];
    for (topic, expected) in cases {
        let found = target(&edge, &record(topic, &[])).map(|target| target.topic.into_owned());
        assert_eq!(found, expected.map(str::to_owned), "{topic}");
    }
    // The pattern has to match all of the name, whatever its anchors.
    let loose = mapping("{topic}", &["edge"]);
    assert!(target(&loose, &record("edge", &[])).is_ok());
    assert!(target(&loose, &record("edge.x", &[])).is_err());
    let all = mapping("{topic}", &[".*"]);
    let internal = target(&all, &record("__consumer_offsets", &[]));
    assert_eq!(internal, Err(MappingError::NotAllowed("__consumer_offsets".to_owned())));
    let long = "x".repeat(250);
    assert!(matches!(target(&all, &record(&long, &[])), Err(MappingError::BadTopic(_))));
    assert_eq!(target(&all, &record("..", &[])), Err(MappingError::BadTopic("..".to_owned())));
}

#[test]
fn the_first_rename_that_matches_counts() {
    let mut edge = mapping("{topic}", &[".*"]);
    let rename = |from, to, groups| Rename {
        from,
        to: Template::parse(to, Fields::Groups(groups)).unwrap(),
    };
    edge.rename = vec![
        rename(pattern("^sensor\\.(.+)\\.(.+)$"), "edge.{2}.{1}", 2),
        rename(pattern("^sensor\\.(.+)$"), "edge.{1}", 1),
        rename(TopicSelector::Name("old".to_owned()), "new", 0),
    ];
    for (topic, expected) in [
        ("sensor.a.b", "edge.b.a"),
        ("sensor.a", "edge.a"),
        ("old", "new"),
        ("older", "older"),
        ("a.sensor.b", "a.sensor.b"),
    ] {
        assert_eq!(target(&edge, &record(topic, &[])).unwrap().topic, expected, "{topic}");
    }
}

#[test]
fn keys_partitions_and_headers_come_from_fields() {
    let mut mapping = mapping("t", &[]);
    mapping.key = Some(template("{header.tenant}/{key}"));
    mapping.partition = Some(template("{header.p}"));
    mapping.headers = vec![
        ("origin".to_owned(), template("{topic}")),
        ("none".to_owned(), template("{header.x}")),
    ];
    let message = record("kiln", &[("tenant", "acme"), ("p", "3")]);
    let found = target(&mapping, &message).unwrap();
    let key = Some(b"acme/k".to_vec());
    let key = key.map(Cow::Owned);
    assert_eq!(found, Target { topic: "t".into(), partition: Some(3), key });
    let added = mapping.added_headers(&message);
    assert_eq!(added, [("origin".to_owned(), Some(b"kiln".to_vec())), ("none".to_owned(), None)]);
    assert_eq!(target(&mapping, &record("kiln", &[])).unwrap().partition, None);
    for wrong in ["-1", "+1", "1 ", "x", "2147483648"] {
        let found = target(&mapping, &record("kiln", &[("p", wrong)]));
        assert_eq!(found, Err(MappingError::BadPartition(wrong.to_owned())));
    }
    mapping.key = Some(Template::key());
    let nameless = InboundRecord { key: None, ..record("kiln", &[]) };
    assert_eq!(target(&mapping, &nameless).unwrap().key, None, "one field passes null through");
}

#[test]
fn what_a_message_may_not_say_is_refused() {
    let mut mapping = mapping("{header.t}", &["^[a-z]+$"]);
    assert_eq!(target(&mapping, &record("x", &[])), Err(MappingError::NoHeader("t".to_owned())));
    let own = target(&mapping, &record("x", &[("t", "t"), ("zafka.peer", "me")]));
    assert_eq!(own, Err(MappingError::OwnHeader("zafka.peer".to_owned())));
    mapping.topic = Template::topic();
    let nowhere = InboundRecord { topic: None, ..record("", &[]) };
    assert_eq!(target(&mapping, &nowhere), Err(MappingError::NoTopic));
    let early = InboundRecord { timestamp: Some(-7), ..record("x", &[]) };
    assert_eq!(target(&mapping, &early), Err(MappingError::Timestamp(-7)));
    let mut header = record("x", &[("t", "t")]);
    header.headers[0].name = Cow::Borrowed(b"\xff");
    assert_eq!(target(&mapping, &header), Err(MappingError::HeaderName("\\xff".to_owned())));
}

#[test]
fn mistakes_of_templates_are_named() {
    for (text, fields, expected) in [
        (
            "a{",
            Fields::OfMessage,
            "a brace without its partner at character 2; for the brace itself write it twice",
        ),
        (
            "}",
            Fields::OfMessage,
            "a brace without its partner at character 1; for the brace itself write it twice",
        ),
        ("{value}", Fields::OfMessage, "unknown field `value`; allowed: topic, key, header.NAME"),
        ("{2}", Fields::Groups(1), "unknown field `2`; allowed: 1 to 1"),
        (
            "{1}",
            Fields::Groups(0),
            "unknown field `1`; allowed: none: the name is no pattern, or its pattern has no group",
        ),
    ] {
        assert_eq!(Template::parse(text, fields).unwrap_err().to_string(), expected);
    }
    assert_eq!(template("{{a}}").constant().as_deref(), Some("{a}"));
}

#[test]
fn a_topic_stands_alone_if_nothing_else_is_made_of_a_message() {
    let alone = mapping("edge.kiln", &[]);
    assert_eq!(alone.topic_alone(), Some("edge.kiln"));
    assert_eq!(Mapping { key: None, ..alone.clone() }.topic_alone(), Some("edge.kiln"));
    for other in [
        mapping("edge.{topic}", &[]),
        Mapping { key: Some(template("k{key}")), ..alone.clone() },
        Mapping { key: Some(template("k")), ..alone.clone() },
        Mapping { partition: Some(template("1")), ..alone.clone() },
        Mapping { headers: vec![("h".to_owned(), template("v"))], ..alone.clone() },
        Mapping { stamp: true, ..alone },
    ] {
        assert_eq!(other.topic_alone(), None, "{other:?}");
    }
}
