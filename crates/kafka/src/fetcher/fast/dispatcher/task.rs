//! The task of the dispatcher: it hands it commands, events and answers with the time, and executes
//! its actions.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};
use tokio::time::sleep_until;

use super::super::broker::{BrokerCommand, FetchTask};
use super::super::fetch_session::FetchSession;
use super::super::{BrokerEvent, FetcherCommand, FetcherContext};
use super::{Dispatcher, DispatcherAction, TaskNumber};
use crate::guard::Panicked;
use crate::health::FetchHealth;
use crate::metadata::{Metadata, MetadataError, MetadataHandle};

/// A handle that has asked, and the answer to it.
type AskedMetadata = (MetadataHandle, Result<Metadata, MetadataError>);

/// The task's own.
pub(in super::super) struct DispatcherTask {
    context: Arc<FetcherContext>,
    dispatcher: Dispatcher,
    commands: UnboundedReceiver<FetcherCommand>,
    events: UnboundedReceiver<BrokerEvent>,
    events_tx: UnboundedSender<BrokerEvent>,
    tasks: JoinSet<()>,
    numbers: HashMap<Id, TaskNumber>,
    brokers: HashMap<TaskNumber, UnboundedSender<BrokerCommand>>,
    metadata: MetadataHandle,
    pending: Option<JoinHandle<AskedMetadata>>,
}

impl DispatcherTask {
    pub(in super::super) fn new(
        context: Arc<FetcherContext>,
        commands: UnboundedReceiver<FetcherCommand>,
    ) -> Self {
        let (events_tx, events) = unbounded_channel();
        Self {
            dispatcher: Dispatcher::new(context.reporter.route(), context.refresh),
            metadata: context.connections.metadata.clone(),
            context,
            commands,
            events,
            events_tx,
            tasks: JoinSet::new(),
            numbers: HashMap::new(),
            brokers: HashMap::new(),
            pending: None,
        }
    }

    /// Runs until the command channel closes, then stops the broker tasks.
    pub(in super::super) async fn run(mut self) {
        loop {
            let (due, _) = self.dispatcher.poll_timeout(Instant::now());
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.dispatcher.handle_command(command, Instant::now()),
                    None => break,
                },
                Some(event) = self.events.recv() => {
                    self.dispatcher.handle_broker_event(event, Instant::now());
                }
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
                answered = answered(&mut self.pending), if self.pending.is_some() => {
                    self.pending = None;
                    self.answered(answered);
                }
                () = sleep_until(due.into()) => {}
            }
            // Many may come back at once: they are placed and reported together.
            let now = Instant::now();
            while let Ok(command) = self.commands.try_recv() {
                self.dispatcher.handle_command(command, now);
            }
            while let Ok(event) = self.events.try_recv() {
                self.dispatcher.handle_broker_event(event, now);
            }
            self.dispatcher.handle_timeout(now);
            while let Some(action) = self.dispatcher.poll_action() {
                self.execute(action);
            }
            self.report(self.dispatcher.health());
        }
        if let Some(pending) = self.pending {
            pending.abort();
        }
        self.tasks.shutdown().await;
        self.context.health.set_fetch(FetchHealth::default());
    }

    fn answered(&mut self, answered: Result<AskedMetadata, JoinError>) {
        match answered {
            Ok((metadata, answer)) => {
                self.metadata = metadata;
                self.dispatcher.handle_metadata(answer);
            }
            Err(ended) => {
                // Canceled only with the runtime.
                if let Some(panicked) = Panicked::of_task("the task that asks for metadata", ended)
                {
                    self.dispatcher.handle_metadata(Err(MetadataError::Panicked(panicked)));
                }
            }
        }
    }

    fn report(&self, health: FetchHealth) {
        // In a group the connection of the membership is what counts.
        let is_connected = health.is_connected && self.context.alone;
        self.context.health.set_fetch(FetchHealth { is_connected, ..health });
    }

    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(failure) => failure.id(),
        };
        let Some(number) = self.numbers.remove(&id) else { return };
        self.brokers.remove(&number);
        // Tasks are canceled only once nothing is fetched any more.
        if let Err(ended) = ended
            && let Some(panicked) = Panicked::of_task("the task of a broker", ended)
        {
            self.dispatcher.handle_panic(number, &panicked, Instant::now());
        }
    }

    fn execute(&mut self, action: DispatcherAction) {
        match action {
            DispatcherAction::StartBroker { broker, number, address } => {
                let (commands_tx, commands) = unbounded_channel();
                let broker = FetchTask {
                    id: broker,
                    address,
                    context: Arc::clone(&self.context),
                    session: FetchSession::new(self.context.options.clone()),
                    commands,
                    events: self.events_tx.clone(),
                    probing: false,
                };
                self.numbers.insert(self.tasks.spawn(broker.run()).id(), number);
                self.brokers.insert(number, commands_tx);
            }
            DispatcherAction::StopBroker { number } => drop(self.brokers.remove(&number)),
            DispatcherAction::Send { number, command } => {
                if let Some(commands) = self.brokers.get(&number) {
                    // A task that panicked is replaced by its successor.
                    let _ = commands.send(command);
                }
            }
            DispatcherAction::FetchMetadata { topics, leave } => {
                if leave {
                    self.metadata.leave();
                }
                let mut metadata = self.metadata.clone();
                self.pending = Some(tokio::spawn(async move {
                    let answer = metadata.ask(&topics).await;
                    (metadata, answer)
                }));
            }
            DispatcherAction::Fault(fault) => self.context.faults.send(fault),
            DispatcherAction::Report(reason) => self.context.reporter.report(&reason),
        }
    }
}

async fn answered(
    pending: &mut Option<JoinHandle<AskedMetadata>>,
) -> Result<AskedMetadata, JoinError> {
    match pending {
        Some(pending) => pending.await,
        // The branch is off while nothing is pending.
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::super::super::testing::{context, options};
    use super::super::BrokerTask;
    use super::*;
    use crate::config::Isolation;
    use crate::fetcher::FetchFault;
    use crate::mailbox::Mailbox;

    #[tokio::test]
    async fn the_panic_of_a_brokers_task_is_reported() {
        let (faults, _faults) = channel::<FetchFault>();
        let (records, _records) = tokio::sync::mpsc::channel(1);
        let options = options(Isolation::ReadCommitted);
        let context = Arc::new(context(None, options, records, Mailbox::new(&faults)));
        let mut task = DispatcherTask::new(context, unbounded_channel().1);
        let address = "broker-1:9092".to_owned();
        task.dispatcher.brokers.insert(1, BrokerTask { number: 7, address });
        let id = task.tasks.spawn(async { panic!("a mistake") }).id();
        task.numbers.insert(id, 7);
        let ended = task.tasks.join_next_with_id().await.unwrap();
        task.ended(ended);
        assert!(task.dispatcher.brokers.is_empty());
        let Some(DispatcherAction::Report(reason)) = task.dispatcher.poll_action() else {
            panic!("no report")
        };
        assert!(reason.contains("internal error") && reason.contains("a mistake"), "{reason}");
    }
}
