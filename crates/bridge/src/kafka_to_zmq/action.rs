//! The actions that the state of a route asks of its task.

use std::sync::Arc;

use zafka_kafka::{Assignment, RevokeDone};

/// Assignments with the next offset to be read.
pub type Positions = Vec<(Arc<Assignment>, i64)>;

/// An action; they are carried out in order.
#[derive(Debug)]
pub enum Action {
    /// Commit these.
    Commit(Positions),
    /// Let commits of this go below those before.
    AllowRewind(Arc<Assignment>),
    /// Fetch no more of this until it is restarted.
    Pause(Arc<Assignment>),
    /// Read this again from `offset` on, unless another generation than `known` has begun; then
    /// tell by [`super::state::RouteState::handle_restarted`].
    Restart {
        /// The partition.
        assignment: Arc<Assignment>,
        /// The newest generation that the route knows.
        known: u32,
        /// The position that was delivered.
        offset: i64,
    },
    /// Give these back to the group.
    Release {
        /// The answer.
        done: RevokeDone,
        /// Their delivered positions.
        positions: Positions,
    },
    /// Commit these, leave the group, and close the socket.
    Stop(Positions),
}
