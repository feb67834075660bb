//! The health of identity besides that of issuers: what keeps peers out that did nothing wrong.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde::Serialize;

/// Problems of files that are listed.
const PROBLEMS_SHOWN: usize = 100;

/// The health of identity, as its tasks see it.
#[derive(Debug, Default)]
pub struct Health(Mutex<HealthStatus>);

/// The health at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HealthStatus {
    /// Files in the folder of keys that are not used, and why; the first hundred.
    pub file_problems: Vec<String>,
    /// The number of them.
    pub file_problems_total: usize,
    /// The reason why the folder of keys cannot be listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder_problem: Option<String>,
    /// True if it could not be listed for so long that its keys are not known any more.
    pub folder_given_up: bool,
    /// Tasks that failed, and why.
    pub failing_tasks: BTreeMap<String, String>,
}

impl Health {
    /// Takes note of the files in the folder of keys that are not used.
    pub fn set_files(&self, problems: &[String]) {
        let mut status = self.0.lock();
        status.file_problems = problems.iter().take(PROBLEMS_SHOWN).cloned().collect();
        status.file_problems_total = problems.len();
    }

    /// Takes note of whether the folder of keys can be listed. `given_up`: what was known of it is
    /// not known any more.
    pub fn set_folder(&self, problem: Option<String>, given_up: bool) {
        let mut status = self.0.lock();
        status.folder_given_up = problem.is_some() && (given_up || status.folder_given_up);
        status.folder_problem = problem;
    }

    /// Takes note of a task that failed, or that has gone on for a while since.
    pub fn set_task(&self, task: &str, failure: Option<String>) {
        let mut status = self.0.lock();
        match failure {
            Some(failure) => drop(status.failing_tasks.insert(task.to_owned(), failure)),
            None => drop(status.failing_tasks.remove(task)),
        }
    }

    /// Returns it as it is now.
    pub fn status(&self) -> HealthStatus {
        self.0.lock().clone()
    }

    /// Returns the reasons why peers are kept out that did nothing wrong.
    pub fn reasons(&self) -> Vec<String> {
        let status = self.0.lock();
        let mut reasons = Vec::new();
        if let (true, Some(problem)) = (status.folder_given_up, &status.folder_problem) {
            reasons.push(format!("the folder of keys cannot be listed: {problem}"));
        }
        for (task, failure) in &status.failing_tasks {
            reasons.push(format!("internal error: {task}: {failure}"));
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_come_and_go() {
        let health = Health::default();
        health.set_folder(Some("not there".to_owned()), false);
        assert_eq!(health.reasons(), Vec::<String>::new(), "what was known holds");
        health.set_folder(Some("not there".to_owned()), true);
        health.set_folder(Some("not there".to_owned()), false);
        assert_eq!(health.reasons().len(), 1, "until it is back");
        health.set_folder(None, false);
        health.set_task("the watch", Some("panicked".to_owned()));
        assert_eq!(health.reasons(), ["internal error: the watch: panicked"]);
        health.set_task("the watch", None);
        assert_eq!(health.reasons(), Vec::<String>::new());
    }

    #[test]
    fn problems_of_files_are_bounded_and_counted() {
        let health = Health::default();
        let problems: Vec<_> = (0..PROBLEMS_SHOWN + 5).map(|number| number.to_string()).collect();
        health.set_files(&problems);
        let status = health.status();
        assert_eq!(status.file_problems.len(), PROBLEMS_SHOWN);
        assert_eq!(status.file_problems_total, PROBLEMS_SHOWN + 5);
    }
}
