//! The Java helper's pipe: requests by id, answers handed to the thread that waits.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::child::{Running, command, spawn};
use crate::jars;
use crate::paths::RunDir;

type Waiting = Arc<Mutex<HashMap<u64, Sender<Value>>>>;

/// One helper process.
#[derive(Debug)]
pub(crate) struct Pipe {
    input: Mutex<(ChildStdin, u64)>,
    waiting: Waiting,
    process: Mutex<Running>,
    _directory: RunDir,
}

impl Pipe {
    pub(crate) fn start(settings: &[(&str, &str)]) -> Self {
        let directory = RunDir::new("helper");
        let log = directory.join("helper.log");
        let classes = format!(
            "{}:{}:{}",
            jars::helper().display(),
            jars::class_path(&jars::kafka()),
            crate::paths::own("kafka").display()
        );
        let (flags, settings): (Vec<String>, Vec<String>) = settings
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .partition(|setting| setting.starts_with("-D"));
        let mut java = command("java");
        java.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg(format!(
                "-Dlog4j2.configurationFile={}",
                crate::paths::own("kafka/log4j2.properties").display()
            ))
            .args(flags)
            .args(["-cp", &classes, "Helper"])
            .args(settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap());
        let mut child = spawn(java);
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let waiting = Waiting::default();
        let answers = Arc::clone(&waiting);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let answer: Value = serde_json::from_str(&line).unwrap();
                let id = answer["id"].as_u64().unwrap();
                if let Some(waiter) = answers.lock().unwrap().remove(&id) {
                    let _ = waiter.send(answer);
                }
            }
            // Callers that still wait learn that the helper is gone.
            answers.lock().unwrap().clear();
        });
        Self {
            input: Mutex::new((input, 0)),
            waiting,
            process: Mutex::new(Running::adopt(child, &log)),
            _directory: directory,
        }
    }

    /// Asks and waits; an error is Kafka's, as text.
    pub(crate) fn ask(
        &self,
        op: &str,
        mut request: Value,
        deadline: Duration,
    ) -> Result<Value, String> {
        let (sender, answer) = channel();
        {
            let mut input = self.input.lock().unwrap();
            input.1 += 1;
            let id = input.1;
            request["id"] = json!(id);
            request["op"] = json!(op);
            self.waiting.lock().unwrap().insert(id, sender);
            let line = format!("{request}\n");
            if let Err(error) = input.0.write_all(line.as_bytes()) {
                return Err(format!("{op}: the Java helper is gone: {error}\n{}", self.log_tail()));
            }
        }
        let mut answer = answer.recv_timeout(deadline).map_err(|error| {
            format!("{op}: no answer in {deadline:?}: {error}\n{}", self.log_tail())
        })?;
        match answer["error"].as_str() {
            Some(error) => Err(format!("{op}: {error}")),
            None => Ok(answer["ok"].take()),
        }
    }

    fn log_tail(&self) -> String {
        self.process.lock().unwrap().log_tail()
    }
}
