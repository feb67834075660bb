//! Open files: each connection is one, and peers may not take the last, which brokers and the admin
//! server need.

use std::os::fd::RawFd;

use rustix::process::{Resource, getrlimit};

use crate::stream::Stream;

/// Files that peers leave free, or a quarter of all if the limit is low.
const RESERVE: u64 = 256;

/// The limit of open files, if a connection is beyond what peers may take of it. The system gives
/// each file the lowest number that is free, so its number shows how many there are at the least.
pub(crate) fn beyond_limit(stream: &Stream) -> Option<u64> {
    let limit = getrlimit(Resource::Nofile).current?;
    is_beyond(stream.descriptor(), limit).then_some(limit)
}

/// Connections that may wait for their handshake at the same time: an eighth of the files that may
/// be open, if that is less than `most`.
pub(crate) fn share_of_waiting(most: usize) -> usize {
    let share = getrlimit(Resource::Nofile).current.map(|limit| limit / 8);
    share.and_then(|share| usize::try_from(share).ok()).map_or(most, |share| share.min(most))
}

fn is_beyond(descriptor: RawFd, limit: u64) -> bool {
    let free = limit - RESERVE.min(limit / 4);
    u64::try_from(descriptor).is_ok_and(|descriptor| descriptor >= free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_files_are_kept_free() {
        for (limit, last) in [(1_048_576, 1_048_319), (1024, 767), (256, 191), (4, 2), (0, -1)] {
            assert!(!is_beyond(last, limit), "{last} of {limit}");
            assert!(is_beyond(last + 1, limit), "{} of {limit}", last + 1);
        }
    }
}
