//! Typed ways to the thread that owns a source's partitions: each sender has messages of its own
//! kind, and knows neither the other kinds nor the receiver.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// Sends messages of one kind. Clones send to the same receiver.
pub(crate) struct Mailbox<T>(Arc<dyn Fn(T) + Send + Sync>);

impl<T: 'static> Mailbox<T> {
    /// A mailbox whose messages arrive at the receiver of `sender`, in the order they are sent.
    pub(crate) fn new<M: From<T> + Send + 'static>(sender: &Sender<M>) -> Self {
        let sender = sender.clone();
        Self(Arc::new(move |message| {
            // Once the receiving thread has ended, nothing is left to be done about any message.
            let _ = sender.send(M::from(message));
        }))
    }

    /// Sends a message. Never blocks.
    pub(crate) fn send(&self, message: T) {
        (self.0)(message);
    }
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Mailbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mailbox")
    }
}
