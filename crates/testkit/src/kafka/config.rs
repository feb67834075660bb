//! The options of a node, and its templates filled in.

use std::fs;
use std::path::Path;

/// Choices for a node; `KafkaOptions::default()` suits most tests.
#[derive(Debug, Clone, Default)]
pub struct KafkaOptions {
    /// The port given to clients instead of the node's own: that of a proxy in front of it.
    pub advertised_port: Option<u16>,
    /// Lines added to the broker's properties; a later line wins over the template's.
    pub properties: Vec<(String, String)>,
    /// Lines added to `kafka-storage format`, such as `--add-scram`.
    pub format_args: Vec<String>,
    /// The cluster's id, if two clusters are to meet.
    pub cluster_id: Option<String>,
    /// Flags for the broker's JVM.
    pub jvm_args: Vec<String>,
}

impl KafkaOptions {
    /// Advertises `port` to clients.
    pub fn advertise(mut self, port: u16) -> Self {
        self.advertised_port = Some(port);
        self
    }

    /// Sets a broker property.
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// Fills `@NAME@` in `template` and writes it with the added properties.
pub(crate) fn write(
    template: &Path,
    target: &Path,
    values: &[(&str, String)],
    added: &[(String, String)],
) {
    let mut text = fs::read_to_string(template).unwrap();
    for (name, value) in values {
        text = text.replace(&format!("@{name}@"), value);
    }
    let open = text.split('@').find(|part| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
    });
    assert!(open.is_none(), "{open:?} was left open in {}", template.display());
    // Later lines win when Java reads properties, so added ones go to the end.
    for (name, value) in added {
        text.push_str(&format!("{name}={value}\n"));
    }
    fs::write(target, text).unwrap();
}
