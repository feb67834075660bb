//! Mistakes in a configuration: their place, what was found, and what is allowed.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use crate::redact::redacted;

/// The reason why a text is not a value, and the values that are. The text itself is not in it: it
/// may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The fault in it, if `allowed` alone would not tell.
    pub why: Option<Cow<'static, str>>,
    /// The values that are allowed.
    pub allowed: Cow<'static, str>,
}

impl Rejected {
    /// Not one of the values that are allowed.
    pub fn allowed(allowed: impl Into<Cow<'static, str>>) -> Self {
        Self { why: None, allowed: allowed.into() }
    }

    /// Not allowed for a reason.
    pub fn because(
        why: impl Into<Cow<'static, str>>,
        allowed: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { why: Some(why.into()), allowed: allowed.into() }
    }

    /// Says it about `text`, of which no credentials are shown.
    pub fn about(&self, text: &str) -> String {
        let text = redacted(text);
        match &self.why {
            Some(why) => format!("found {text:?}: {why}"),
            None => format!("found {text:?}"),
        }
    }
}

/// A value, or the reason why a text is none.
pub type Parsed<T> = Result<T, Rejected>;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Line, from 1; 0 if there is no file.
    pub line: usize,
    /// Column in characters, from 1; 0 if there is no file.
    pub column: usize,
    /// Path of the key, such as `route.to.zmq.slow_peer`; empty for the file as a whole.
    pub key: String,
    /// The value that was found.
    pub found: String,
    /// The values that are allowed; empty if there is nothing to add.
    pub allowed: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}, column {}: ", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.found)?;
        if !self.allowed.is_empty() {
            write!(f, "; allowed: {}", self.allowed)?;
        }
        Ok(())
    }
}

/// Something that is allowed, and yet may not be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Line, from 1; 0 if there is no file.
    pub line: usize,
    /// Path of the key.
    pub key: String,
    /// The place to look at, and the reason.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        write!(f, "{}: {}", self.key, self.text)
    }
}

/// The reason why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source} (-c FILE names another file)", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The file or the command line has mistakes: all of them, sorted by line.
    #[error(
        "{place} has {} mistake{}:{}",
        mistakes.len(),
        if mistakes.len() == 1 { "" } else { "s" },
        List(mistakes)
    )]
    Mistakes {
        /// The file, or what stands in for one.
        place: String,
        /// The mistakes.
        mistakes: Vec<Mistake>,
    },
}

struct List<'a>(&'a [Mistake]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}
