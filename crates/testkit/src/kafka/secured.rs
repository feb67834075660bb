//! One Kafka node with TLS, mutual TLS, SCRAM, PLAIN, OAUTHBEARER and ACLs.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::broker::Broker;
use super::config::write;
use super::{CLUSTER_ID, KafkaOptions};
use crate::admin::Admin;
use crate::issuer::Issuer;
use crate::oidc::{Certificates, Oidc};
use crate::paths::{RunDir, own};
use crate::ports::free_port;

/// The password of "zafka" and "mallory", by SCRAM and PLAIN.
pub const PASSWORD: &str = "correct horse";

/// The provider whose tokens a node takes.
#[derive(Debug)]
pub struct Provider {
    /// `iss` of its tokens.
    pub issuer: String,
    /// The address of its keys.
    pub jwks_url: String,
    /// Its token endpoint.
    pub token_url: String,
}

impl From<&Oidc> for Provider {
    fn from(oidc: &Oidc) -> Self {
        let issuer = oidc.issuer();
        Self { jwks_url: format!("{issuer}/jwks"), issuer, token_url: oidc.token_url() }
    }
}

impl From<&Issuer> for Provider {
    fn from(issuer: &Issuer) -> Self {
        let (jwks_url, token_url) = (issuer.jwks_url(), issuer.token_url());
        Self { issuer: issuer.name(), jwks_url, token_url }
    }
}

/// A node that refuses everything that was not allowed ([`Admin::allow`]): "zafka" and "mallory" by
/// password or certificate, "zafka" by token. With a provider of its own.
#[derive(Debug)]
pub struct SecuredKafka {
    node: SecuredNode,
    /// The identity provider that the node trusts.
    pub oidc: Oidc,
}

/// The node itself.
#[derive(Debug)]
pub struct SecuredNode {
    broker: Broker,
    admin: Arc<Admin>,
    ports: [u16; 3],
    /// The CA, and the clients' certificates.
    pub certificates: Certificates,
}

impl SecuredKafka {
    /// Starts the provider (tokens live 60 s) and the node.
    pub fn start() -> Self {
        Self::start_with(60, KafkaOptions::default())
    }

    /// Starts as [`Self::start`] does, with another life of tokens and other settings.
    pub fn start_with(token_seconds: u32, options: KafkaOptions) -> Self {
        let certificates = Certificates::make();
        let oidc = Oidc::start(&certificates, token_seconds);
        let node = SecuredNode::start(certificates, &Provider::from(&oidc), options);
        Self { node, oidc }
    }
}

impl Deref for SecuredKafka {
    type Target = SecuredNode;

    fn deref(&self) -> &SecuredNode {
        &self.node
    }
}

impl DerefMut for SecuredKafka {
    fn deref_mut(&mut self) -> &mut SecuredNode {
        &mut self.node
    }
}

impl SecuredNode {
    /// Starts a node that takes the tokens of a provider, which runs.
    pub fn start(certificates: Certificates, provider: &Provider, options: KafkaOptions) -> Self {
        let [oauth, sasl, mtls] = [free_port(), free_port(), free_port()];
        let [internal, controller] = [free_port(), free_port()];
        let directory = RunDir::new("kafka-secured");
        let properties = directory.join("node.properties");
        write(
            &own("kafka/secured.properties"),
            &properties,
            &[
                ("OAUTH", oauth.to_string()),
                ("SASL", sasl.to_string()),
                ("MTLS", mtls.to_string()),
                ("INTERNAL", internal.to_string()),
                ("CONTROLLER", controller.to_string()),
                ("DATA_DIR", directory.join("data").display().to_string()),
                ("TLS_DIR", certificates.directory().display().to_string()),
                ("PASSWORD", PASSWORD.to_owned()),
                ("ISSUER", provider.issuer.clone()),
                ("JWKS", provider.jwks_url.clone()),
            ],
            &options.properties,
        );
        let mut jvm_args = options.jvm_args;
        jvm_args.push(format!(
            "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={},{}",
            provider.jwks_url, provider.token_url
        ));
        let mut format_args = options.format_args;
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            for user in ["zafka", "mallory"] {
                format_args.push("--add-scram".to_owned());
                format_args.push(format!("{mechanism}=[name={user},password={PASSWORD}]"));
            }
        }
        let admin = Arc::new(Admin::connect(&format!("127.0.0.1:{internal}")));
        let mut broker = Broker::new(directory, properties, jvm_args);
        broker.format(&admin, CLUSTER_ID, &format_args);
        broker.launch();
        broker.wait_ready(&admin, 1);
        Self { broker, admin, ports: [oauth, sasl, mtls], certificates }
    }

    /// SASL_SSL with OAUTHBEARER, `host:port`.
    pub fn oauth(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    /// SASL_SSL with SCRAM-SHA-256, SCRAM-SHA-512 and PLAIN.
    pub fn sasl(&self) -> String {
        format!("127.0.0.1:{}", self.ports[1])
    }

    /// SSL; the client must have a certificate of the CA.
    pub fn mtls(&self) -> String {
        format!("127.0.0.1:{}", self.ports[2])
    }

    /// A super user, past all security.
    pub fn admin(&self) -> &Arc<Admin> {
        &self.admin
    }

    /// Makes a topic that `user` may read, as a member of `group`.
    pub fn create_topic_for(&self, user: &str, topic: &str, partitions: i32, group: &str) {
        self.admin.create_topic(topic, partitions, &[]);
        self.admin.allow(user, "read", "topic", topic);
        self.admin.allow(user, "read", "group", group);
    }

    /// SIGKILL.
    pub fn kill9(&mut self) {
        self.broker.process().kill9();
    }

    /// Starts it again on the same ports and data, and waits until it answers.
    pub fn restart(&mut self) {
        self.broker.terminate();
        self.broker.launch();
        self.broker.wait_ready(&self.admin, 1);
    }

    /// SIGSTOP: its connections stay, and nothing is answered.
    pub fn stop_process(&mut self) {
        self.broker.process().stop();
    }

    /// SIGCONT.
    pub fn cont(&mut self) {
        self.broker.process().cont();
    }

    /// The broker's log so far.
    pub fn log(&mut self) -> String {
        self.broker.process().log()
    }

    /// The end of the broker's log, which names the clients that it refused.
    pub fn log_tail(&mut self) -> String {
        self.broker.process().log_tail()
    }
}
