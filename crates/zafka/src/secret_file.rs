//! Files that hold secrets, and their permissions. One rule for all, which is that of ssh.
//!
//! Only its owner may read or change a file of ours. A file of another owner, such as one that
//! Kubernetes mounts, may be for our group too, or we could not read it; never for all users.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// A file with a secret that others have access to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposed {
    path: PathBuf,
    mode: u32,
    access: &'static str,
}

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, mode, access } = self;
        write!(f, "{} {access} (mode {mode:04o})", path.display())
    }
}

impl Exposed {
    /// Looks at a file. `None` if it is as it should be, or cannot be looked at.
    pub fn look(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        let mode = found.mode() & 0o7777;
        let access = access_of_others(mode, found.uid() == geteuid().as_raw())?;
        Some(Self { path: path.to_owned(), mode, access })
    }

    /// The remedy.
    pub fn remedy(&self) -> String {
        format!("a file of its owner alone (chmod 600 {})", self.path.display())
    }
}

/// The access that others have, if they have some. `is_ours`: we own the file.
fn access_of_others(mode: u32, is_ours: bool) -> Option<&'static str> {
    let group = if is_ours { mode & 0o060 } else { 0 };
    match (mode & 0o006, group) {
        (0, 0) => None,
        (others, _) if others & 0o004 != 0 => Some("can be read by every user of this machine"),
        (0, group) if group & 0o040 != 0 => Some("can be read by its group"),
        (0, _) => Some("can be changed by its group"),
        _ => Some("can be changed by every user of this machine"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn access_that_others_have() {
        let (every, group) = ("every user of this machine", "its group");
        for (mode, ours, theirs) in [
            (0o600, "", ""),
            (0o400, "", ""),
            (0o711, "", ""),
            (0o640, group, ""),
            (0o440, group, ""),
            (0o620, group, ""),
            (0o644, every, every),
            (0o604, every, every),
            (0o602, every, every),
            (0o666, every, every),
        ] {
            for (is_ours, part) in [(true, ours), (false, theirs)] {
                let found = access_of_others(mode, is_ours);
                assert_eq!(found.is_some(), !part.is_empty(), "{mode:o} {is_ours}");
                assert!(found.unwrap_or_default().contains(part), "{mode:o} {is_ours}: {found:?}");
            }
        }
    }

    #[test]
    fn a_file_of_ours() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert_eq!(Exposed::look(&path), None, "it is not there");
        fs::write(&path, "secret").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let exposed = Exposed::look(&path).unwrap();
        assert!(exposed.to_string().ends_with("/key can be read by its group (mode 0640)"));
        assert!(exposed.remedy().contains("chmod 600 /"));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(Exposed::look(&path), None);
    }
}
