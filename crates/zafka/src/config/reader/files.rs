//! Keys that name files and folders, and secrets, which a file may hold.

use std::fs;
use std::path::PathBuf;

use toml::de::DeValue;
use zafka_kafka::config::Secret;

use super::super::expand::expand;
use super::super::keys::Key;
use super::{Table, path};
use crate::redact::redacted;
use crate::secret_file::Exposed;

impl Table<'_, '_> {
    /// A path of a folder; relative ones start at the file's directory.
    pub fn folder(&self, key: &Key) -> Option<PathBuf> {
        let path = self.reader.directory.join(self.text(key, |text| Ok(text.to_owned()))?);
        if path.is_dir() {
            return Some(path);
        }
        self.mistake(key, format!("{}: no folder", path.display()), key.kind.to_string());
        None
    }

    /// A path of a file that can be read; relative ones start at the file's directory.
    pub fn path(&self, key: &Key) -> Option<PathBuf> {
        let text = self.text(key, |text| Ok(text.to_owned()))?;
        let path = self.reader.directory.join(&text);
        let opened = fs::File::open(&path).and_then(|file| file.metadata());
        let why = match opened {
            Ok(metadata) if metadata.is_file() => return Some(path),
            Ok(_) => "not a file".to_owned(),
            Err(error) => format!("cannot be read: {error}"),
        };
        // A variable may hold the secret itself though its file is wanted.
        let shown = match self.raw(key).and_then(|value| value.get_ref().as_str()) {
            Some(raw) if raw != text => raw.to_owned(),
            _ => path.display().to_string(),
        };
        self.mistake(key, format!("{}: {why}", redacted(&shown)), "a file that can be read");
        None
    }

    /// The path of a file with a password or a token, which others should not have access to: other
    /// programs may have made it.
    pub fn secret_path(&self, key: &Key) -> Option<PathBuf> {
        let path = self.path(key)?;
        if let Some(exposed) = Exposed::look(&path) {
            self.warn(key, format!("{exposed}; better is {}", exposed.remedy()));
        }
        Some(path)
    }

    /// The path of a file with a private key, which others may not have access to.
    pub fn private_key_path(&self, key: &Key) -> Option<PathBuf> {
        let path = self.path(key)?;
        match Exposed::look(&path) {
            None => Some(path),
            Some(exposed) => {
                self.mistake(key, exposed.to_string(), exposed.remedy());
                None
            }
        }
    }

    /// A secret: by `key`, or the content of the file that `file_key` names, without one newline at
    /// its end.
    pub fn secret(&self, key: &Key, file_key: &Key) -> Option<Secret> {
        if self.has(file_key) {
            if self.has(key) {
                self.mistake(file_key, format!("`{}` is there too", key.name), "one of the two");
                return None;
            }
            let path = self.secret_path(file_key)?;
            let Ok(text) = fs::read_to_string(&path) else {
                self.mistake(file_key, format!("{} is not UTF-8", path.display()), "a text file");
                return None;
            };
            let text = text.strip_suffix('\n').unwrap_or(&text);
            let text = text.strip_suffix('\r').unwrap_or(text);
            if text.is_empty() {
                self.mistake(
                    file_key,
                    format!("{} is empty", path.display()),
                    "a file that holds the secret",
                );
                return None;
            }
            return Some(Secret::new(text));
        }
        let value = self.raw(key)?;
        let DeValue::String(raw) = value.get_ref() else {
            self.mistake(key, "found a value that is not a text", "a text");
            return None;
        };
        match expand(raw, self.reader.variable) {
            Ok(text) if text.is_empty() => {
                self.mistake(key, "empty", "a text, \"${VARIABLE}\"");
                None
            }
            Ok(text) => {
                if !raw.contains("${") {
                    let plain = (value.span(), path(self.section, key.name));
                    *self.reader.plain_secret.borrow_mut() = Some(plain);
                }
                Some(Secret::new(text))
            }
            Err(wrong) => {
                self.mistake(key, wrong.why.unwrap_or_default(), wrong.allowed);
                None
            }
        }
    }
}
