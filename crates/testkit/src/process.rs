//! The zafka binary as a child, and its admin endpoint.

use std::fs;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::child::{Running, command};
use crate::http;
use crate::paths::RunDir;
use crate::ports::free_port;

/// A running zafka. Dropping it kills it.
#[derive(Debug)]
pub struct Zafka {
    process: Running,
    admin: Option<u16>,
    directory: RunDir,
}

impl Zafka {
    /// `zafka run -c FILE` with this configuration; an `[admin]` table on a free port is added
    /// unless the text has one. `bin` is `env!("CARGO_BIN_EXE_zafka")`.
    pub fn run(bin: &str, config: &str) -> Self {
        Self::run_with(bin, config, &[])
    }

    /// Runs as [`Self::run`] does, with environment variables (`RUST_LOG` is not set otherwise).
    pub fn run_with(bin: &str, config: &str, environment: &[(&str, &str)]) -> Self {
        Self::run_in(bin, config, environment, "")
    }

    /// Runs as [`Self::run_with`] does, with a control socket at this path.
    pub fn run_with_control(
        bin: &str,
        config: &str,
        environment: &[(&str, &str)],
        control: &Path,
    ) -> Self {
        Self::run_in(bin, config, environment, &format!("control = {control:?}\n"))
    }

    fn run_in(bin: &str, config: &str, environment: &[(&str, &str)], admin: &str) -> Self {
        assert!(!config.contains("[admin]"), "the harness adds [admin] itself");
        let port = free_port();
        let directory = RunDir::new("zafka");
        let file = directory.join("zafka.toml");
        fs::write(&file, with_admin(config, port) + admin).unwrap();
        let args = ["run", "-c", file.to_str().unwrap()];
        Self::start(bin, &args, environment, Some(port), directory)
    }

    /// Any command line, such as `["relay", "kafka://...", "pub+tcp://..."]`; without an admin
    /// endpoint.
    pub fn spawn(bin: &str, args: &[&str]) -> Self {
        Self::start(bin, args, &[], None, RunDir::new("zafka"))
    }

    fn start(
        bin: &str,
        args: &[&str],
        environment: &[(&str, &str)],
        admin: Option<u16>,
        directory: RunDir,
    ) -> Self {
        assert!(Path::new(bin).exists(), "{bin} is not there");
        let mut zafka = command(bin);
        zafka.args(args).envs(environment.iter().copied());
        let process = Running::start(zafka, &directory.join("zafka.log"));
        Self { process, admin, directory }
    }

    /// Puts another configuration into its file, and asks it by SIGHUP to take that.
    pub fn reload(&mut self, config: &str) {
        let text = with_admin(config, self.admin.expect("started by run"));
        fs::write(self.directory.join("zafka.toml"), text).unwrap();
        self.process.hang_up();
    }

    /// The process: signals, log, exit.
    pub fn process(&mut self) -> &mut Running {
        &mut self.process
    }

    /// SIGKILL.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// SIGTERM, without waiting.
    pub fn terminate(&mut self) {
        self.process.terminate();
    }

    /// Waits for the exit; panics with the log's tail at the deadline.
    pub fn wait_exit(&mut self, deadline: Duration) -> ExitStatus {
        match self.process.wait_exit(deadline) {
            Some(status) => status,
            None => panic!("zafka still runs after {deadline:?}:\n{}", self.process.log_tail()),
        }
    }

    /// Everything it has printed, on both streams.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The admin endpoint, `127.0.0.1:port`.
    pub fn admin_address(&self) -> String {
        format!("127.0.0.1:{}", self.admin.expect("started by run"))
    }

    /// GET on the admin endpoint: status code and body, or why there was no answer.
    pub fn get(&self, path: &str) -> std::io::Result<(u16, String)> {
        http::get(&self.admin_address(), path)
    }

    /// `/status`, or `None` while there is no answer.
    pub fn status(&self) -> Option<Value> {
        let (code, body) = self.get("/status").ok()?;
        (code == 200).then(|| serde_json::from_str(&body).expect("/status is JSON"))
    }

    /// Polls `/status` until `condition` holds and gives that status; panics with the last status
    /// and the log's tail at the deadline, or when zafka has ended.
    pub fn wait_status(
        &mut self,
        what: &str,
        deadline: Duration,
        mut condition: impl FnMut(&Value) -> bool,
    ) -> Value {
        let end = Instant::now() + deadline;
        loop {
            let status = self.status();
            if let Some(status) = status.as_ref().filter(|status| condition(status)) {
                return status.clone();
            }
            self.fail_at(end, what, &format!("{status:#?}"));
        }
    }

    /// Waits until `/readyz` answers 200.
    pub fn wait_ready(&mut self) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = self.get("/readyz");
            if answer.as_ref().is_ok_and(|(code, _)| *code == 200) {
                return;
            }
            self.fail_at(end, "zafka to be ready", &format!("{answer:?}"));
        }
    }

    /// Waits until the log holds `text`.
    pub fn wait_log(&mut self, text: &str, deadline: Duration) {
        let end = Instant::now() + deadline;
        while !self.log().contains(text) {
            self.fail_at(end, &format!("{text:?} in the log"), "");
        }
    }

    fn fail_at(&mut self, end: Instant, what: &str, last: &str) {
        let running = self.process.is_running();
        if !running || Instant::now() >= end {
            let tail = self.process.log_tail();
            panic!("gave up waiting for {what} (zafka runs: {running}); last: {last}\n{tail}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A configuration with an admin endpoint.
fn with_admin(config: &str, port: u16) -> String {
    format!("{config}\n[admin]\nbind = \"127.0.0.1:{port}\"\n")
}
