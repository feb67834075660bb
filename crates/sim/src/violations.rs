//! Breaks of what a run is promised.

/// Violations that are kept; the first ones tell the most.
const KEPT: usize = 20;

/// The first violations of a run.
#[derive(Debug, Default)]
pub(crate) struct Violations(Vec<String>);

impl Violations {
    pub(crate) fn add(&mut self, what: String) {
        if self.0.len() < KEPT {
            self.0.push(what);
        }
    }

    pub(crate) fn all(&self) -> &[String] {
        &self.0
    }
}
