//! Consumer clients, supplied with tokens if they need them.

use std::sync::Arc;

use rdkafka::ClientConfig;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::Consumer;

use crate::client::{Client, SourceContext, plain};
use crate::error::StartError;
use crate::security::{self, Bearer, Supplied};

/// Makes a client, supplied with tokens if there is a provider of them.
pub(crate) fn create(
    settings: &ClientConfig,
    mut context: SourceContext,
    tokens: Option<&Arc<Bearer>>,
) -> Result<Arc<Client>, StartError> {
    let (wanted, receiver) = security::wanted();
    if tokens.is_some() {
        context.set_tokens_wanted(wanted);
    }
    let client = Client::from_config_and_context(settings, context);
    let client = client.map(Arc::new).map_err(|error| StartError::Client(plain(&error)))?;
    if let Some(provider) = tokens {
        security::keep_supplied(&client, provider, receiver)?;
    }
    Ok(client)
}

impl Supplied for Client {
    type Context = SourceContext;

    fn native(&self) -> &rdkafka::client::Client<SourceContext> {
        self.client()
    }

    fn refused(&self, reason: &str) {
        self.context().refused(reason);
    }
}
