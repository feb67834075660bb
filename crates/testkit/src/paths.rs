//! Paths: this crate's own files, and what tests make under `target/testkit`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

/// A file of this crate, such as `kafka/pom.xml`.
pub fn own(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// `target/testkit`, made on first use; `CARGO_TARGET_DIR` is honored.
pub fn home() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    let home = workspace.canonicalize().unwrap().join(target).join("testkit");
    fs::create_dir_all(&home).unwrap();
    home
}

/// Runs `make` once for each content of `stamp`, across test binaries: a lock file keeps the
/// others waiting, and `<name>.stamp` remembers. Returns `target/testkit/<name>`.
pub fn once(name: &str, stamp: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let place = home().join(name);
    let stamp_file = home().join(format!("{name}.stamp"));
    let _lock = lock(&home().join(format!("{name}.lock")));
    if !place.exists() || fs::read_to_string(&stamp_file).ok().as_deref() != Some(stamp) {
        make(&place);
        fs::write(&stamp_file, stamp).unwrap();
    }
    place
}

/// Takes an exclusive lock on `path`, held until the file is dropped.
fn lock(path: &Path) -> File {
    let file = File::create(path).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    file
}

/// A directory for one run, `target/testkit/run/<pid>-<n>-<name>`. It is removed when dropped,
/// but kept when the thread panics, so that logs can be read.
#[derive(Debug)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// Makes the directory, and the first time sweeps what earlier runs left.
    pub fn new(name: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        static SWEEP: Once = Once::new();
        SWEEP.call_once(sweep);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = home().join("run").join(format!("{}-{number}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file or directory in it.
    pub fn join(&self, relative: &str) -> PathBuf {
        self.0.join(relative)
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = fs::write(self.0.join("failed"), "");
        } else {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// Removes the directories of processes that are gone, but not of failed runs less than a day old.
fn sweep() {
    let Ok(entries) = fs::read_dir(home().join("run")) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.split('-').next().unwrap_or_default();
        let alive = Path::new("/proc").join(owner).exists();
        let failed = fs::metadata(entry.path().join("failed")).and_then(|m| m.modified());
        let recent = failed.is_ok_and(|at| at.elapsed().is_ok_and(|age| age.as_secs() < 86_400));
        if !alive && !recent {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
