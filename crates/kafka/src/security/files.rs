//! The files of TLS, which are renewed while the program runs.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::{authorities, files};
use crate::config::{Security, Tls};

/// The marks by which two states of the files differ, without reading them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(Vec<Option<Mark>>);

/// Device, inode, size and time of the last change, in seconds and nanoseconds.
type Mark = (u64, u64, u64, i64, i64);

impl Stamp {
    /// Looks at the files now: one call of the system for each.
    pub(crate) fn of(tls: &Tls) -> Self {
        let security = Security { tls: Some(tls.clone()), sasl: None };
        let system = authorities(tls).filter(|_| tls.ca.is_none());
        let paths = files(&security).chain(&system);
        let mark = |path| {
            let file = fs::metadata(path).ok()?;
            Some((file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
        };
        Self(paths.map(mark).collect())
    }
}
