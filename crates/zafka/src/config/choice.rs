//! Keys whose values are a few words.

use std::fmt;

use super::mistake::{Parsed, Rejected};

/// Words that stand for values.
pub trait Words: fmt::Debug + Sync {
    /// The words, in the order in which the manual names them.
    fn words(&self) -> Vec<&'static str>;
}

/// Words and their values, and words that come with a later version.
#[derive(Debug)]
pub struct Choice<T: 'static> {
    /// The words there are.
    pub now: &'static [(&'static str, T)],
    /// The words that are not there yet.
    pub later: &'static [&'static str],
}

impl<T: fmt::Debug + Sync> Words for Choice<T> {
    fn words(&self) -> Vec<&'static str> {
        self.now.iter().map(|(word, _)| *word).collect()
    }
}

impl<T: Copy> Choice<T> {
    /// The value of a word.
    ///
    /// # Errors
    /// Another word.
    pub fn read(&self, text: &str) -> Parsed<T> {
        if let Some((_, value)) = self.now.iter().find(|(word, _)| *word == text) {
            return Ok(*value);
        }
        let words: Vec<_> = self.now.iter().map(|(word, _)| format!("{word:?}")).collect();
        let allowed = words.join(", ");
        if self.later.contains(&text) {
            return Err(Rejected::because("not available in this version", allowed));
        }
        Err(Rejected::allowed(allowed))
    }
}
