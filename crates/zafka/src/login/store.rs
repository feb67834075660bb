//! The file that keeps a user's login: for its owner alone, always whole, and changed by one
//! command at a time.
#![allow(clippy::disallowed_methods, reason = "a driver: it waits for other commands")]

use std::env;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde_json::{Value, json};
use zafka_oidc::Secret;
use zafka_zmtp::curve::{KeyPair, SecretKey};

/// The file's name in its folder.
const FILE: &str = "login.json";
/// The file in the same folder that is locked by the command that changes the login.
const LOCK: &str = "login.lock";
/// Longest wait for the lock: the commands before may ask a provider that is slow.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Size of a file that is written to see whether there is room for a login, in bytes.
const ROOM: usize = 32 * 1024;
/// Time between two looks at the lock.
const LOOK: Duration = Duration::from_millis(20);
/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 256 * 1024;

/// A login.
#[derive(Clone, Debug)]
pub(super) struct Login {
    /// The issuer, and our id there.
    pub(super) issuer: String,
    pub(super) client_id: String,
    /// Certificate authorities to trust instead of the system's (PEM).
    pub(super) ca: Option<PathBuf>,
    /// The access token, and its end in s since the epoch.
    pub(super) access: Secret,
    pub(super) ends: i64,
    /// The token that gets the next one.
    pub(super) refresh: Option<Secret>,
    /// The CURVE key that shows the token: a token lets in one key.
    pub(super) keys: KeyPair,
}

/// The reason why a login cannot be kept or found.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("neither XDG_STATE_HOME nor HOME is set: there is no place to keep a login")]
    NoPlace,
    #[error("not logged in: {} is not there; log in by `zafka login`", .0.display())]
    None(PathBuf),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} can be read by others (chmod 600 {path})", path = .0.display())]
    Readable(PathBuf),
    #[error(
        "{}: another command has it locked for more than {} s",
        path.display(),
        waited.as_secs()
    )]
    Locked { path: PathBuf, waited: Duration },
    #[error("{}: not a login; log in anew by `zafka login`", .0.display())]
    Malformed(PathBuf),
}

/// The right to change a login, until it is dropped.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "it is locked until it is closed")] File);

/// The place of a login.
#[derive(Clone, Debug)]
pub(super) struct Store {
    folder: PathBuf,
}

impl Store {
    /// The user's own, in `$XDG_STATE_HOME/zafka` or `~/.local/state/zafka`.
    pub(super) fn of_user() -> Result<Self, StoreError> {
        // Other values than absolute paths are to be ignored (XDG Base Directory Specification).
        let folder = |name: &str| env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let state = folder("XDG_STATE_HOME");
        let state = state.or_else(|| folder("HOME").map(|home| home.join(".local/state")));
        Ok(Self::at(state.ok_or(StoreError::NoPlace)?.join("zafka")))
    }

    /// Makes a store in this folder.
    pub(super) fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The file.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// Reads the login.
    pub(super) fn read(&self) -> Result<Login, StoreError> {
        let path = self.path();
        let fault = |source| StoreError::Io { path: path.clone(), source };
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::None(path));
            }
            other => other.map_err(fault)?,
        };
        let mode = file.metadata().map_err(fault)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(StoreError::Readable(path));
        }
        let mut text = String::new();
        file.take(MAX_BYTES).read_to_string(&mut text).map_err(fault)?;
        parse(&text).ok_or(StoreError::Malformed(path))
    }

    /// Keeps other commands from changing the login: a refresh token may be good once, so that the
    /// next one must not be lost. Waits for those that were first.
    pub(super) fn lock(&self) -> Result<Lock, StoreError> {
        self.lock_within(PATIENCE)
    }

    /// The same, for this time at the most.
    pub(super) fn lock_within(&self, patience: Duration) -> Result<Lock, StoreError> {
        self.make_folder()?;
        let path = self.folder.join(LOCK);
        let mut options = OpenOptions::new();
        let opened = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
        let end = Instant::now() + patience;
        let mut outcome = opened.and_then(|file| try_lock(&file).map(|is_ours| (file, is_ours)));
        loop {
            let file = match outcome {
                Ok((file, true)) => return Ok(Lock(file)),
                Ok((file, false)) if Instant::now() < end => file,
                Ok(_) => return Err(StoreError::Locked { path, waited: patience }),
                Err(source) => return Err(StoreError::Io { path, source }),
            };
            sleep(LOOK);
            outcome = try_lock(&file).map(|is_ours| (file, is_ours));
        }
    }

    fn make_folder(&self) -> Result<(), StoreError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        made.map_err(|source| StoreError::Io { path: self.folder.clone(), source })
    }

    /// Sees whether a login can be written: to be called before a provider grants what cannot be
    /// had again.
    pub(super) fn try_out(&self, _lock: &Lock) -> Result<(), StoreError> {
        let new = self.new_path();
        let written = write_new(&new, &" ".repeat(ROOM));
        let removed = fs::remove_file(&new);
        written.and(removed).map_err(|source| StoreError::Io { path: self.path(), source })
    }

    fn new_path(&self) -> PathBuf {
        self.folder.join(format!("{FILE}.{}", std::process::id()))
    }

    /// Keeps a login, in place of the one before.
    pub(super) fn write(&self, login: &Login, _lock: &Lock) -> Result<(), StoreError> {
        self.make_folder()?;
        // Others read the one before or this one, never a part.
        let new = self.new_path();
        let written = write_new(&new, &text(login)).and_then(|()| fs::rename(&new, self.path()));
        written.map_err(|source| {
            // It is ours alone, and has a token in it.
            let _ = fs::remove_file(&new);
            StoreError::Io { path: self.path(), source }
        })
    }
}

/// Locks a file unless another process has. Returns whether it did.
fn try_lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Writes a file for its owner alone; one that an interrupted process has left is replaced.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn text(login: &Login) -> String {
    let refresh = login.refresh.as_ref().map(Secret::expose);
    let mut text = json!({
        "issuer": login.issuer,
        "client_id": login.client_id,
        "ca": login.ca,
        "access_token": login.access.expose(),
        "ends": login.ends,
        "refresh_token": refresh,
        "curve_secret_key": login.keys.secret().expose_z85(),
    })
    .to_string();
    text.push('\n');
    text
}

fn parse(text: &str) -> Option<Login> {
    let fields: Value = serde_json::from_str(text).ok()?;
    let field = |name: &str| fields.get(name).and_then(Value::as_str);
    Some(Login {
        issuer: field("issuer")?.to_owned(),
        client_id: field("client_id")?.to_owned(),
        ca: field("ca").map(PathBuf::from),
        access: Secret::new(field("access_token")?),
        ends: fields.get("ends")?.as_i64()?,
        refresh: field("refresh_token").map(Secret::new),
        keys: KeyPair::new(SecretKey::from_z85(field("curve_secret_key")?).ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::new_key;

    fn login(access: &str) -> Login {
        Login {
            issuer: "https://id/realm".to_owned(),
            client_id: "cli".to_owned(),
            ca: Some("ca.pem".into()),
            access: Secret::new(access),
            ends: 17,
            refresh: Some(Secret::new("REFRESH")),
            keys: new_key(),
        }
    }

    #[test]
    fn a_login_is_kept_for_its_owner_alone() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::at(home.path().join("state/zafka"));
        let none = store.read().unwrap_err().to_string();
        assert!(none.starts_with("not logged in: ") && none.contains("`zafka login`"), "{none}");
        let lock = store.lock().unwrap();
        store.write(&login("FIRST"), &lock).unwrap();
        let second = login("SECOND");
        store.write(&second, &lock).unwrap();
        let read = store.read().unwrap();
        assert_eq!((read.access.expose(), read.ends, &read.keys), ("SECOND", 17, &second.keys));
        assert_eq!(read.refresh.as_ref().map(Secret::expose), Some("REFRESH"));
        assert_eq!((read.issuer.as_str(), read.ca), ("https://id/realm", Some("ca.pem".into())));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&store.path()), mode(&store.folder)), (0o600, 0o700));
        let names: Vec<_> = fs::read_dir(&store.folder).unwrap().collect();
        assert_eq!(names.len(), 2, "the login and its lock");
        for shown in [format!("{second:?}"), format!("{store:?}")] {
            assert!(!shown.contains("SECOND") && !shown.contains("REFRESH"), "{shown}");
        }
    }

    #[test]
    fn a_file_that_is_no_login() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::at(home.path().to_owned());
        store.write(&login("TOKEN"), &store.lock().unwrap()).unwrap();
        let whole = fs::read_to_string(store.path()).unwrap();
        fs::set_permissions(store.path(), fs::Permissions::from_mode(0o640)).unwrap();
        let error = store.read().unwrap_err().to_string();
        assert!(error.contains("can be read by others (chmod 600 "), "{error}");
        fs::set_permissions(store.path(), fs::Permissions::from_mode(0o600)).unwrap();
        for text in ["", "[]", &whole.replace("access_token", "x"), &whole[..whole.len() / 2]] {
            fs::write(store.path(), text).unwrap();
            let error = store.read().unwrap_err().to_string();
            assert!(error.contains("not a login") && !error.contains("TOKEN"), "{error}");
        }
    }
}
