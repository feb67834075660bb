//! Messages from lines: what `--topic`, `--key`, `--header` and `--frames` say, with a line as the
//! value.

use zafka_envelope::{Header, InboundPlan, OutgoingMessage};
use zafka_sockets::put_message;

use super::answer::Ids;
use crate::cli::{Frames, SendArgs, UsageError};

/// The frames if nothing else is said.
const DEFAULT: [&str; 4] = ["{id}", "{topic}", "{key}", "{value}"];

/// Lays out messages.
#[derive(Clone, Debug)]
pub(crate) struct Composer {
    plan: InboundPlan,
    topic: String,
    key: Option<String>,
    headers: Vec<(String, String)>,
    ids: Ids,
}

impl Composer {
    /// Follows the arguments; `word` tells the ids of this run from those of others.
    ///
    /// # Errors
    /// Every mistake: the frames, and arguments that no frame carries or that a frame lacks.
    pub(crate) fn new(args: &SendArgs, word: u64) -> Result<Self, UsageError> {
        let plan = plan(args)?;
        let mistakes = mistakes(&plan, args);
        if !mistakes.is_empty() {
            return Err(UsageError(mistakes.join("\n")));
        }
        Ok(Self {
            plan,
            topic: args.topic.clone().unwrap_or_default(),
            key: args.key.clone(),
            headers: args.headers.clone(),
            ids: Ids::new(word),
        })
    }

    /// Returns true if messages have ids.
    pub(super) fn has_id(&self) -> bool {
        self.plan.has_id()
    }

    pub(super) fn ids(&self) -> &Ids {
        &self.ids
    }

    /// A message as it goes over the wire.
    pub(super) fn compose(&self, number: u64, value: &[u8], timestamp: i64) -> Vec<u8> {
        let headers = self.headers.iter();
        let headers: Vec<_> = headers
            .map(|(name, value)| Header { name: name.as_bytes(), value: Some(value.as_bytes()) })
            .collect();
        let frames = self.plan.write(&OutgoingMessage {
            id: self.ids.of(number).as_bytes(),
            topic: &self.topic,
            key: self.key.as_deref().map(str::as_bytes),
            value,
            headers: &headers,
            timestamp,
        });
        let mut message = Vec::new();
        put_message(&mut message, &frames);
        message
    }
}

fn plan(args: &SendArgs) -> Result<InboundPlan, UsageError> {
    let templates = match args.frames.as_slice() {
        // Without answers no id comes back.
        [] if args.push => DEFAULT[1..].iter().map(ToString::to_string).collect(),
        [] => DEFAULT.iter().map(ToString::to_string).collect(),
        given => match Frames::read(given)? {
            Frames::Preset(preset) => return Ok(InboundPlan::preset(preset)),
            Frames::Templates(templates) => templates,
        },
    };
    InboundPlan::parse(&templates).map_err(|mistakes| Frames::mistakes(&mistakes))
}

/// Arguments and frames that do not fit each other.
fn mistakes(plan: &InboundPlan, args: &SendArgs) -> Vec<String> {
    let mut mistakes = Vec::new();
    match (&args.topic, plan.has_topic()) {
        (None, true) => mistakes.push("--topic: missing; the frames carry a topic".to_owned()),
        (Some(_), false) => mistakes.push("--topic: no frame carries it".to_owned()),
        _ => {}
    }
    if args.key.is_some() && !plan.has_key() {
        mistakes.push("--key: no frame carries it".to_owned());
    }
    for name in plan.header_frames() {
        match args.headers.iter().filter(|(given, _)| given == name).count() {
            0 => mistakes.push(format!("--header {name}=VALUE: missing; a frame carries it")),
            1 => {}
            _ => mistakes.push(format!("--header {name}: found twice; its frame carries one")),
        }
    }
    for (name, _) in &args.headers {
        if !plan.has_any_header() && !plan.header_frames().any(|framed| framed == name) {
            mistakes.push(format!(
                "--header {name}: no frame carries it; add {{header.{name}}} to --frames and to \
                 the route's frames"
            ));
        }
    }
    mistakes
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command, SEND_HELP, docs};

    fn composer(arguments: &[&str]) -> Result<Composer, String> {
        let given = ["zafka", "send", "tcp://127.0.0.1:1"];
        let cli = Cli::try_parse_from([&given, arguments].concat()).unwrap();
        let Command::Send(args) = cli.command else { panic!("{arguments:?}") };
        Composer::new(&args, 0xa).map_err(|error| error.to_string())
    }

    /// Short frames, each with its header of two bytes.
    fn frames(message: &[u8]) -> Vec<String> {
        let (mut rest, mut frames) = (message, Vec::new());
        while let [_, size, after @ ..] = rest {
            let (frame, after) = after.split_at(usize::from(*size));
            frames.push(String::from_utf8_lossy(frame).into_owned());
            rest = after;
        }
        frames
    }

    #[test]
    fn frames_are_the_defaults_or_what_is_said() {
        let id = "000000000000000a-7";
        for (arguments, expected) in [
            (&["--topic", "t"][..], &[id, "t", "", "v"][..]),
            (&["--topic", "t", "--key", "k"], &[id, "t", "k", "v"]),
            (&["--topic", "t", "--push"], &["t", "", "v"]),
            (&["--frames", "{value}"], &["v"]),
            (&["--topic", "t", "--frames", "value"], &["t", "v"]),
            (
                &["--frames", "{header.h}", "--frames", "{value}", "--header", "h=a=b"],
                &["a=b", "v"],
            ),
            (&["--frames", r#"["{id}", "{timestamp}", "{value}"]"#], &[id, "5", "v"]),
            (
                &["--topic", "t", "--frames", "json", "--header", "h=x"],
                &[
                    "t",
                    r#"{"v":1,"topic":"t","partition":0,"offset":0,"timestamp":5,"null_key":true,"headers":[["h","x"]]}"#,
                    "",
                    "v",
                ],
            ),
        ] {
            let composer = composer(arguments).unwrap();
            assert_eq!(frames(&composer.compose(7, b"v", 5)), expected, "{arguments:?}");
        }
    }

    #[test]
    fn what_the_documents_show_fits() {
        let help = SEND_HELP.lines().find_map(|line| line.split_once("| ")).unwrap().1;
        let help = (help.to_owned(), Cli::try_parse_from(docs::words(help)).unwrap().command);
        let mut count = 0;
        for (line, command) in docs::commands().into_iter().chain([help]) {
            let Command::Send(args) = command else { continue };
            assert!(Composer::new(&args, 0).is_ok(), "{line}");
            count += 1;
        }
        assert!(count > 3, "only {count}");
    }

    #[test]
    fn what_does_not_fit_is_told() {
        for (arguments, told) in [
            (&[][..], "--topic: missing; the frames carry a topic"),
            (&["--frames", "{value}", "--topic", "t"], "--topic: no frame carries it"),
            (&["--frames", "{value}", "--key", "k"], "--key: no frame carries it"),
            (&["--frames", "{header.a}{value}"], "--frames: frame 1"),
            (&["--frames", "xml"], "--frames: found \"xml\"; allowed: json"),
            (
                &["--topic", "t", "--header", "trace=1"],
                "--header trace: no frame carries it; add {header.trace} to --frames",
            ),
            (
                &["--frames", "{header.a}", "--frames", "{value}"],
                "--header a=VALUE: missing; a frame carries it",
            ),
            (
                &[
                    "--frames",
                    "{header.a}",
                    "--frames",
                    "{value}",
                    "--header",
                    "a=",
                    "--header",
                    "a=",
                ],
                "--header a: found twice",
            ),
        ] {
            let error = composer(arguments).unwrap_err();
            assert!(error.contains(told), "{arguments:?}: {error}");
        }
        let error = composer(&["--key", "k", "--frames", "{topic}", "--frames", "{value}"]);
        assert_eq!(error.unwrap_err().lines().count(), 2, "every mistake is told");
    }
}
