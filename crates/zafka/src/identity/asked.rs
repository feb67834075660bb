//! Tokens that are asked about, for whoever asks.

#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::sleep_until;
use zafka_identity::{Answered, Failed, Failure, Question, Questions, Verified, Wanted};
use zafka_zmtp::curve::PublicKey;

/// The questions, and the signal that there may be another one.
#[derive(Debug)]
pub struct Asked<T> {
    questions: Mutex<Questions<T>>,
    changed: Notify,
}

impl<T: Clone> Asked<T> {
    /// Nothing is asked yet.
    pub fn new(questions: Questions<T>) -> Self {
        Self { questions: Mutex::new(questions), changed: Notify::new() }
    }

    /// Has a token asked about. `keep`: what it takes to ask.
    pub fn want(&self, key: PublicKey, verified: &Verified, keep: impl FnOnce() -> T) -> Wanted {
        let wanted = self.questions.lock().want(key, verified, keep, Instant::now());
        self.changed.notify_one();
        wanted
    }

    /// Takes note that a lease has begun, or goes on, by this token.
    pub fn handle_begun(&self, key: PublicKey, token: T) {
        self.questions.lock().handle_begun(key, token, Instant::now());
        self.changed.notify_one();
    }

    /// Forgets the token of a lease that is over. The directory may be locked meanwhile, as in
    /// [`Self::want`]: it is never locked behind the questions.
    pub fn handle_ended(&self, key: &PublicKey) {
        self.questions.lock().handle_ended(key);
    }

    /// Asks about each lease at once.
    pub fn ask_again(&self) {
        self.questions.lock().ask_again(Instant::now());
        self.changed.notify_one();
    }

    /// Begins to ask anew: what was under way has nobody any more who would report its outcome.
    pub fn begin_again(&self) {
        self.questions.lock().forget_questions(Instant::now());
        self.changed.notify_one();
    }

    /// Forgets the tokens of leases that do not live. The directory may be locked meanwhile.
    pub fn retain(&self, lives: impl Fn(&PublicKey) -> bool) {
        self.questions.lock().retain_leased(lives);
    }

    /// Returns the next question, if its time has come.
    pub fn poll(&self) -> Option<Question<T>> {
        self.questions.lock().poll_question(Instant::now())
    }

    /// Waits until there may be another question.
    pub async fn next_may_be(&self) {
        let due = self.questions.lock().poll_timeout();
        tokio::select! {
            () = self.changed.notified() => {}
            () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {}
        }
    }

    /// Takes note of an answer other than no.
    pub fn handle_answer(&self, question: &Question<T>) -> Option<Answered<T>> {
        self.questions.lock().handle_answer(question, Instant::now())
    }

    /// Takes note that the token is not good. Returns it if it still waits for its first answer.
    pub fn handle_no(&self, question: &Question<T>) -> Option<Box<Verified>> {
        self.questions.lock().handle_no(question, Instant::now())
    }

    /// Takes note that there was no answer.
    pub fn handle_failure(&self, question: &Question<T>, failure: Failure) -> Option<Failed> {
        self.questions.lock().handle_failure(question, failure, Instant::now())
    }

    /// Returns the peers about which nobody has told anything for so long that their leases are to
    /// end.
    pub fn take_unanswered(&self, now: Instant) -> Vec<PublicKey> {
        self.questions.lock().take_unanswered(now)
    }

    /// Returns the number of peers that wait, and about which at least `failures` questions in a
    /// row have failed.
    pub fn unanswered(&self, failures: u32) -> usize {
        self.questions.lock().unanswered(failures)
    }

    /// Returns the number of peers that wait for their first answer, and of the leases that are
    /// asked about.
    pub fn counts(&self) -> (usize, usize) {
        self.questions.lock().counts()
    }
}
