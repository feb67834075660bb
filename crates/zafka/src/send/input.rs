//! Lines of standard input or of a file, read by a thread of its own: typing may take any time.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek};
use std::path::{Path, PathBuf};
use std::thread;

use tokio::sync::mpsc;

/// Bytes read at a time.
const READ_BYTES: usize = 64 * 1024;
/// The longest line in bytes: what a relay takes of a message unless it is told otherwise.
const LINE_MAX: usize = 16 << 20;
/// Batches of lines that wait to be taken, besides the one that is being read.
const BATCHES: usize = 2;

/// The reason why there is no further line.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {name}: {source}")]
pub(crate) struct InputError {
    name: String,
    source: io::Error,
}

/// Lines that were at hand together, without their line feeds.
pub(super) type Batch = Vec<Vec<u8>>;

/// Lines as they come.
#[derive(Debug)]
pub(crate) struct Input {
    batches: mpsc::Receiver<Result<Batch, InputError>>,
    /// Bytes of all there is to read, if that is known.
    size: Option<u64>,
}

impl Input {
    /// Standard input.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn stdin() -> io::Result<Self> {
        start(None, |out| {
            let mut lines = LineReader::new("standard input".to_owned(), out);
            lines.read_all(&mut io::stdin().lock());
        })
    }

    /// A file, so many times.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(crate) fn file(path: &Path, repeat: u64) -> Result<Self, InputError> {
        let failed = |source| InputError { name: path.display().to_string(), source };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        let size = metadata.is_file().then(|| metadata.len().saturating_mul(repeat));
        let path: PathBuf = path.to_owned();
        start(size, move |out| {
            let mut lines = LineReader::new(path.display().to_string(), out);
            let mut reader = BufReader::with_capacity(READ_BYTES, file);
            for time in 0..repeat {
                if time > 0
                    && let Err(error) = reader.rewind()
                {
                    return lines.fail(error);
                }
                if !lines.read_all(&mut reader) {
                    return;
                }
            }
        })
        .map_err(failed)
    }

    /// The next lines; `None` at the end. Waits as long as there are none; may be dropped at any
    /// time without losing one.
    pub(super) async fn next(&mut self) -> Option<Result<Batch, InputError>> {
        self.batches.recv().await
    }

    /// Bytes of all there is to read, if that is known.
    pub(super) fn size(&self) -> Option<u64> {
        self.size
    }
}

fn start(
    size: Option<u64>,
    read: impl FnOnce(mpsc::Sender<Result<Batch, InputError>>) + Send + 'static,
) -> io::Result<Input> {
    let (out, batches) = mpsc::channel(BATCHES);
    // It ends with the input, with the receiver of the lines, or with the process.
    thread::Builder::new().name("input".to_owned()).spawn(move || read(out))?;
    Ok(Input { batches, size })
}

/// Takes an input apart.
struct LineReader {
    name: String,
    out: mpsc::Sender<Result<Batch, InputError>>,
    /// The line that has not ended.
    open: Vec<u8>,
    count: u64,
}

impl LineReader {
    fn new(name: String, out: mpsc::Sender<Result<Batch, InputError>>) -> Self {
        Self { name, out, open: Vec::new(), count: 0 }
    }

    /// Hands over all lines up to the end. Returns whether there may be more.
    fn read_all(&mut self, reader: &mut impl BufRead) -> bool {
        loop {
            let piece = match reader.fill_buf() {
                Ok(piece) => piece,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.fail(error);
                    return false;
                }
            };
            let size = piece.len();
            let mut lines = self.split(piece);
            reader.consume(size);
            if size == 0 && !self.open.is_empty() {
                // The last line may lack its line feed.
                lines.push(std::mem::take(&mut self.open));
            }
            self.count += lines.len() as u64;
            if self.open.len() > LINE_MAX || lines.iter().any(|line| line.len() > LINE_MAX) {
                let text = format!("a line after line {} is longer than 16 MiB", self.count);
                self.fail(io::Error::new(io::ErrorKind::InvalidData, text));
                return false;
            }
            if !lines.is_empty() && self.out.blocking_send(Ok(lines)).is_err() {
                return false;
            }
            if size == 0 {
                return true;
            }
        }
    }

    /// The lines that end in this piece; what follows stays open.
    fn split(&mut self, piece: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        let mut parts = piece.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            self.open.extend_from_slice(part);
            if parts.peek().is_some() {
                lines.push(std::mem::take(&mut self.open));
            }
        }
        lines
    }

    fn fail(&mut self, source: io::Error) {
        // A receiver that has gone needs no reason.
        let _ = self.out.blocking_send(Err(InputError { name: self.name.clone(), source }));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// All lines of what comes in these pieces, or why there are no more.
    fn read(pieces: &[&[u8]]) -> Result<Vec<String>, String> {
        let (out, mut batches) = mpsc::channel(100);
        let text = pieces.concat();
        let capacity = pieces.first().map_or(1, |piece| piece.len());
        let mut reader = BufReader::with_capacity(capacity, io::Cursor::new(text));
        let mut lines = LineReader::new("it".to_owned(), out);
        assert!(lines.read_all(&mut reader));
        drop(lines);
        let mut all = Vec::new();
        while let Ok(batch) = batches.try_recv() {
            let lines = batch.map_err(|error| error.to_string())?;
            all.extend(lines.into_iter().map(|line| String::from_utf8(line).unwrap()));
        }
        Ok(all)
    }

    #[test]
    fn lines_end_with_line_feeds_or_with_the_input() {
        for (text, expected) in [
            ("", &[][..]),
            ("a", &["a"]),
            ("a\n", &["a"]),
            ("a\n\nbc\r\nd", &["a", "", "bc\r", "d"]),
            ("\n", &[""]),
        ] {
            for size in 1..=text.len().max(1) {
                let pieces: Vec<_> = text.as_bytes().chunks(size).collect();
                assert_eq!(read(&pieces).unwrap(), expected, "{text:?} by {size}");
            }
        }
    }

    #[test]
    fn a_line_is_bounded() {
        let (out, mut batches) = mpsc::channel(100);
        let mut lines = LineReader::new("it".to_owned(), out);
        let text = io::Cursor::new([b"a\n".to_vec(), vec![b'x'; LINE_MAX + 1]].concat());
        assert!(!lines.read_all(&mut BufReader::with_capacity(READ_BYTES, text)));
        assert_eq!(batches.try_recv().unwrap().unwrap(), [b"a"]);
        let error = batches.try_recv().unwrap().unwrap_err().to_string();
        assert_eq!(error, "cannot read it: a line after line 1 is longer than 16 MiB");
    }

    #[tokio::test]
    async fn a_file_is_read_as_often_as_asked_for() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"a\nb").unwrap();
        let mut input = Input::file(file.path(), 3).unwrap();
        assert_eq!(input.size(), Some(9));
        let mut lines = Vec::new();
        while let Some(batch) = input.next().await {
            lines.extend(batch.unwrap());
        }
        assert_eq!(lines.concat(), b"ababab");
    }

    #[test]
    fn a_file_that_cannot_be_read() {
        let error = Input::file(Path::new("/nowhere/at/all"), 1).unwrap_err().to_string();
        assert!(error.starts_with("cannot read /nowhere/at/all: "), "{error}");
        assert!(Input::file(Path::new("/"), 1).is_err());
    }
}
