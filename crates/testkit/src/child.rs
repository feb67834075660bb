//! Child processes that do not outlive the test.
//!
//! Each runs in its own process group under `setpriv --pdeathsig KILL` (util-linux), so the
//! kernel kills it when we die, however we die. That signal is sent when the *thread* that
//! started the child ends, and test threads end early, so one thread that lives as long as the
//! process starts them all.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use std::os::unix::process::CommandExt;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

type Job = (Command, Sender<std::io::Result<Child>>);

/// A `Command` that runs `program` bound to the life of this process.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    // Tests that run under `nohup` would hand on that SIGHUP is ignored.
    let env = ["env", "--default-signal=HUP"];
    command.args(["--pdeathsig", "KILL", "--"]).args(env).arg(program);
    command.process_group(0).stdin(Stdio::null());
    command
}

/// Starts a command made by [`command`] on the thread that never ends.
pub fn spawn(command: Command) -> Child {
    static STARTER: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (jobs, queue) = channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, answer) in queue {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(jobs)
    });
    let (answer, result) = channel();
    let name = format!("{command:?}");
    starter.lock().unwrap().send((command, answer)).unwrap();
    match result.recv().unwrap() {
        Ok(child) => child,
        Err(error) => panic!("cannot start {name}: {error} (util-linux's setpriv is needed)"),
    }
}

/// Runs a command to its end; panics with its output unless it succeeds.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A running child with its output in a file. Dropping it kills its process group.
#[derive(Debug)]
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts `command` (see [`command`]), appending both output streams to `log`.
    pub fn start(mut command: Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        Self { child: spawn(command), log: log.to_owned() }
    }

    /// Takes over a child that logs to `log`.
    pub fn adopt(child: Child, log: &Path) -> Self {
        Self { child, log: log.to_owned() }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child's handle, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Returns true while it runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// SIGTERM, without waiting.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// SIGINT, without waiting.
    pub fn interrupt(&mut self) {
        self.signal(Signal::INT);
    }

    /// SIGHUP, without waiting.
    pub fn hang_up(&mut self) {
        self.signal(Signal::HUP);
    }

    /// SIGSTOP: the process stands still, its sockets stay open.
    pub fn stop(&mut self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn cont(&mut self) {
        self.signal(Signal::CONT);
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill9(&mut self) {
        if self.is_running() {
            let _ = kill_process_group(self.id(), Signal::KILL);
            let _ = self.child.wait();
        }
    }

    /// Waits for the exit; `None` at the deadline.
    pub fn wait_exit(&mut self, deadline: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + deadline;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            if Instant::now() >= end {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Everything it has printed.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last 40 lines of the log.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn signal(&mut self, signal: Signal) {
        // A child that has not been waited for keeps its id, so this cannot hit a stranger.
        if self.is_running() {
            kill_process(self.id(), signal).unwrap();
        }
    }

    fn id(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill9();
    }
}
