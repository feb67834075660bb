//! A SUB socket of one connection, for looking at what an endpoint publishes.

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::sleep;
use zafka_zmtp::{Event, SocketType};

use crate::client_link::{ClientLink, Dropped, EventStream};
use crate::config::EndpointConfig;
use crate::connect::Connector;

/// An event of a SUB socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubEvent {
    /// The handshake is done, and the subscriptions are on their way.
    Connected,
    /// The connection could not be made or was lost, and why; it is tried again.
    Disconnected(String),
    /// A message, frame by frame.
    Message(Vec<Bytes>),
}

/// A SUB socket that connects to one endpoint, and connects again if the connection is lost.
///
/// A task of its own connects and reads, so that it makes progress even if the next event is not
/// waited for.
#[derive(Debug)]
pub struct SubSocket {
    events: EventStream<SubEvent>,
}

impl SubSocket {
    /// A socket that subscribes to `prefixes`; it begins at once, on the runtime that it is made
    /// on.
    pub fn new(to: impl Into<EndpointConfig>, prefixes: Vec<Vec<u8>>) -> Self {
        let to = to.into();
        Self { events: EventStream::spawn(|events| run(to, prefixes, events)) }
    }

    /// The next event. Waits as long as there is none; may be dropped at any time without losing
    /// one.
    pub async fn next(&mut self) -> SubEvent {
        self.events.next().await
    }
}

/// Connects and reads until the receiver of the events has gone.
async fn run(to: EndpointConfig, prefixes: Vec<Vec<u8>>, events: mpsc::Sender<SubEvent>) {
    let mut connector = Connector::new(to.endpoint);
    loop {
        let reason = match connector.attempt().await {
            Ok(stream) => {
                let mut link = ClientLink::new(stream, SocketType::Sub, to.mechanism.clone());
                prefixes.iter().for_each(|prefix| link.connection.subscribe(prefix));
                let Ok(reason) = serve(&mut link, &events).await else { return };
                if link.connection.is_ready() {
                    connector.succeeded();
                }
                reason
            }
            Err(error) => error.to_string(),
        };
        if events.send(SubEvent::Disconnected(reason)).await.is_err() {
            return;
        }
        sleep(connector.next_pause()).await;
    }
}

/// Serves the connection to its end, and gives the reason for that.
async fn serve(link: &mut ClientLink, events: &mpsc::Sender<SubEvent>) -> Result<String, Dropped> {
    loop {
        if let Err(reason) = link.wait().await {
            return Ok(reason);
        }
        let ended = link.read().err();
        while let Some(event) = link.connection.poll_event() {
            let event = match event {
                Event::Ready(_) => SubEvent::Connected,
                Event::Message(frames) => SubEvent::Message(frames),
                Event::Subscribe(_)
                | Event::Cancel(_)
                | Event::TooLarge(_)
                | Event::Messages(_)
                | Event::Authenticate(_) => continue,
            };
            events.send(event).await.map_err(|_| Dropped)?;
        }
        if let Some(reason) = ended {
            return Ok(reason);
        }
    }
}
