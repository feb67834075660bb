//! The folder of public certificates: which keys are known.
//!
//! A file that is removed takes its key along. One that cannot be read, or is no certificate,
//! leaves what was known of it before for a minute: it may be half written. A folder that cannot be
//! listed leaves what was known for a day, as an issuer does that is away.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use zafka_identity::{Certificate, Claims, ISSUER_KEYS};
use zafka_zmtp::curve::PublicKey;

/// Files that are looked at.
const MAX_FILES: usize = 65_536;
/// The largest certificate that is read, in bytes.
const MAX_BYTES: u64 = 64 * 1024;
/// Time for which a file that became unusable leaves what was known of it: it takes less to write.
const BROKEN_FILE: Duration = Duration::from_secs(60);
/// The extension of certificates' names.
const EXTENSION: &str = "key";

/// A folder and what was read of it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    files: BTreeMap<OsString, File>,
    /// True if the state of the files was logged since it last changed.
    is_told: bool,
}

#[derive(Debug)]
struct File {
    stamp: Stamp,
    known: Option<(PublicKey, Claims)>,
    problem: Option<Problem>,
}

#[derive(Debug)]
struct Problem {
    text: String,
    /// The time since when the file cannot be used.
    since: Instant,
}

/// Something of a file that changes if its content does: device, inode, size, and the times of its
/// content and of its inode in ns.
type Stamp = (u64, u64, u64, i128, i128);

/// The present content of the folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The keys that are known. The issuer is `keys`, and the subject is the file's name without
    /// `.key`; what the certificate's metadata say are claims too.
    pub keys: Vec<(PublicKey, Claims)>,
    /// The faults, by file.
    pub problems: Vec<String>,
}

impl Folder {
    /// A folder of which nothing was read.
    pub fn new(path: PathBuf) -> Self {
        Self { path, files: BTreeMap::new(), is_told: false }
    }

    /// Looks at the folder. Returns what it says, or nothing if nothing changed.
    ///
    /// # Errors
    /// The folder cannot be listed: what was known stays.
    pub fn look(&mut self, now: Instant) -> io::Result<Option<Found>> {
        let changed = self.list(now)? || !self.is_told;
        self.is_told = true;
        Ok(changed.then(|| self.found()))
    }

    /// Has all that it says told with the next look, as if nothing had been told before.
    pub fn tell_again(&mut self) {
        self.is_told = false;
    }

    /// Reads what changed. Returns whether anything did.
    fn list(&mut self, now: Instant) -> io::Result<bool> {
        let mut changed = false;
        let mut names = BTreeSet::new();
        for entry in std::fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            if Path::new(&name).extension().is_none_or(|extension| extension != EXTENSION) {
                continue;
            }
            if names.len() == MAX_FILES {
                let text = format!("more than {MAX_FILES} files named *.{EXTENSION}");
                return Err(io::Error::other(text));
            }
            names.insert(name);
        }
        let before = self.files.len();
        self.files.retain(|name, _| names.contains(name));
        changed |= self.files.len() != before;
        for name in names {
            changed |= self.look_at(name, now);
        }
        Ok(changed)
    }

    /// Reads a file if it changed. Returns whether something else is known now.
    fn look_at(&mut self, name: OsString, now: Instant) -> bool {
        let path = self.path.join(&name);
        // A link counts as what it leads to: that is how Kubernetes puts files in place.
        let stamp = std::fs::metadata(&path).map(|found| {
            let time = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
            let written = time(found.mtime(), found.mtime_nsec());
            let changed = time(found.ctime(), found.ctime_nsec());
            (found.dev(), found.ino(), found.size(), written, changed)
        });
        let stamp = match stamp {
            Ok(stamp) => stamp,
            // It is gone by now, or leads nowhere.
            Err(_) => return self.files.remove(&name).is_some(),
        };
        if let Some(file) = self.files.get_mut(&name).filter(|file| file.stamp == stamp) {
            return file.give_up(now);
        }
        let read = read(&path, stamp.2).map(|certificate| known(&path, certificate));
        let before = self.files.remove(&name);
        let mut file = File { stamp, known: None, problem: None };
        match read {
            Ok(known) => file.known = Some(known),
            Err(problem) => {
                let text = format!("{}: {problem}", path.display());
                let (known, since) = match before {
                    Some(File { known, problem, .. }) => (known, problem.map(|one| one.since)),
                    None => (None, None),
                };
                file.known = known;
                file.problem = Some(Problem { text, since: since.unwrap_or(now) });
                file.give_up(now);
            }
        }
        self.files.insert(name, file);
        true
    }

    fn found(&self) -> Found {
        let mut found = Found::default();
        let mut owners = BTreeMap::new();
        for (name, file) in &self.files {
            if let Some(Problem { text, .. }) = &file.problem {
                let rest =
                    if file.known.is_some() { "; its key is known for a minute more" } else { "" };
                found.problems.push(format!("{text}{rest}"));
            }
            let Some((key, claims)) = &file.known else { continue };
            if let Some(owner) = owners.insert(*key, name) {
                let path = self.path.join(name);
                let owner = owner.display();
                found.problems.push(format!("{}: its key is that of {owner}", path.display()));
                continue;
            }
            found.keys.push((*key, claims.clone()));
        }
        found
    }
}

impl File {
    /// Forgets what was known if the file could not be used for too long. Returns whether it did.
    fn give_up(&mut self, now: Instant) -> bool {
        let is_over = |problem: &Problem| now >= problem.since + BROKEN_FILE;
        let gives_up = self.known.is_some() && self.problem.as_ref().is_some_and(is_over);
        if gives_up {
            self.known = None;
        }
        gives_up
    }
}

/// The key of a certificate, and its claims: the file's name is the subject, the metadata the rest.
pub fn known(path: &Path, certificate: Certificate) -> (PublicKey, Claims) {
    let subject = path.file_stem().unwrap_or_default().to_string_lossy();
    let others = certificate.metadata.into_iter().map(|(name, value)| (name, value.into()));
    (certificate.public, Claims::new(ISSUER_KEYS, &subject, others))
}

fn read(path: &Path, size: u64) -> Result<Certificate, String> {
    // A pipe would be read for ever.
    if !std::fs::metadata(path).is_ok_and(|found| found.is_file()) {
        return Err("it is no file".to_owned());
    }
    if size > MAX_BYTES {
        return Err(format!("{size} bytes, a certificate has at most {MAX_BYTES}"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
    let certificate = Certificate::parse(&text).map_err(|error| error.to_string())?;
    if certificate.secret.is_some() {
        return Err("it holds a secret key, which belongs to its owner alone".to_owned());
    }
    Ok(certificate)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use zafka_zmtp::curve::{KeyPair, SecretKey};

    use super::*;

    fn keys(number: u8) -> KeyPair {
        KeyPair::new(SecretKey::from_bytes([number; 32]))
    }

    fn public_text(number: u8, metadata: &str) -> String {
        let text = Certificate::public_text(&keys(number));
        text.replace("metadata\n", &format!("metadata\n{metadata}"))
    }

    fn subjects(found: &Found) -> Vec<&str> {
        found.keys.iter().map(|(_, claims)| claims.subject()).collect()
    }

    #[test]
    fn a_folder_changes() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        let mut folder = Folder::new(directory.path().to_owned());
        assert_eq!(folder.look(Instant::now()).unwrap(), Some(Found::default()), "an empty one");
        fs::write(file("plc-7.key"), public_text(1, "    site = \"north\"\n")).unwrap();
        fs::write(file("plc-8.key"), public_text(2, "")).unwrap();
        fs::write(file("relay.key_secret"), "not read").unwrap();
        fs::write(file("README"), "not read").unwrap();
        let found = folder.look(Instant::now()).unwrap().unwrap();
        assert_eq!((subjects(&found), found.problems.len()), (vec!["plc-7", "plc-8"], 0));
        let site = [("site".to_owned(), "north".into())];
        assert_eq!(found.keys[0], (keys(1).public(), Claims::new(ISSUER_KEYS, "plc-7", site)));
        assert_eq!(folder.look(Instant::now()).unwrap(), None, "nothing changed");

        fs::rename(file("plc-8.key"), file("gone")).unwrap();
        assert_eq!(subjects(&folder.look(Instant::now()).unwrap().unwrap()), ["plc-7"]);
        fs::write(file("plc-7.key"), "half of a certi").unwrap();
        let found = folder.look(Instant::now()).unwrap().unwrap();
        assert_eq!(subjects(&found), ["plc-7"], "what was known stays");
        assert!(found.problems[0].contains("plc-7.key: "), "{:?}", found.problems);
        fs::remove_file(file("plc-7.key")).unwrap();
        assert_eq!(folder.look(Instant::now()).unwrap(), Some(Found::default()));
    }

    #[test]
    fn files_that_are_no_public_certificates() {
        let directory = tempfile::tempdir().unwrap();
        let mut folder = Folder::new(directory.path().to_owned());
        let texts = [
            ("a.key", public_text(1, "")),
            ("b.key", public_text(1, "")),
            ("c.key", Certificate::secret_text(&keys(3))),
            ("d.key", "#".repeat(70_000)),
            ("e.key", String::new()),
        ];
        for (name, text) in &texts {
            fs::write(directory.path().join(name), text).unwrap();
        }
        fs::create_dir(directory.path().join("f.key")).unwrap();
        let found = folder.look(Instant::now()).unwrap().unwrap();
        assert_eq!(subjects(&found), ["a"]);
        let problems = found.problems.join("\n");
        for part in [
            "b.key: its key is that of a.key",
            "c.key: it holds a secret key",
            "d.key: 70000 bytes",
            "e.key: no public-key",
            "f.key: ",
        ] {
            assert!(problems.contains(part), "{part}: {problems}");
        }
        let secret = keys(3).secret().expose_z85();
        assert!(!problems.contains(&secret));
    }

    #[test]
    fn a_folder_that_is_not_there() {
        assert!(Folder::new("/nowhere/keys.d".into()).look(Instant::now()).is_err());
    }

    #[test]
    fn a_key_whose_file_became_unusable_is_known_for_a_minute() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        let (mut folder, start) = (Folder::new(directory.path().to_owned()), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for (name, number) in [("a.key", 1), ("b.key", 2), ("c.key", 3)] {
            fs::write(file(name), public_text(number, "")).unwrap();
        }
        assert_eq!(subjects(&folder.look(start).unwrap().unwrap()), ["a", "b", "c"]);
        fs::write(file("a.key"), "").unwrap();
        fs::write(file("b.key"), "half of a certi").unwrap();
        let found = folder.look(at(10)).unwrap().unwrap();
        assert_eq!(subjects(&found), ["a", "b", "c"]);
        assert!(found.problems[0].contains("known for a minute more"), "{:?}", found.problems);
        // One that changes and stays unusable has no more time by that.
        fs::write(file("b.key"), "half of a certific").unwrap();
        assert_eq!(subjects(&folder.look(at(60)).unwrap().unwrap()), ["a", "b", "c"]);
        assert_eq!(folder.look(at(69)).unwrap(), None);
        let found = folder.look(at(70)).unwrap().unwrap();
        assert_eq!(subjects(&found), ["c"]);
        assert!(found.problems.len() == 2 && !found.problems[0].contains("minute"));
        assert_eq!(folder.look(at(80)).unwrap(), None, "told once");
        fs::write(file("a.key"), public_text(1, "")).unwrap();
        assert_eq!(subjects(&folder.look(at(90)).unwrap().unwrap()), ["a", "c"]);
    }

    #[test]
    fn a_folder_that_is_back_is_told_of_again() {
        let directory = tempfile::tempdir().unwrap();
        let (path, away) = (directory.path().join("keys.d"), directory.path().join("away"));
        fs::create_dir(&path).unwrap();
        fs::write(path.join("a.key"), public_text(1, "")).unwrap();
        let (mut folder, now) = (Folder::new(path.clone()), Instant::now());
        assert_eq!(subjects(&folder.look(now).unwrap().unwrap()), ["a"]);
        fs::rename(&path, &away).unwrap();
        assert!(folder.look(now).is_err());
        fs::rename(&away, &path).unwrap();
        assert_eq!(folder.look(now).unwrap(), None, "it is known as before");
        folder.tell_again();
        assert_eq!(subjects(&folder.look(now).unwrap().unwrap()), ["a"]);
    }
}
