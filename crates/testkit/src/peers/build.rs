//! Builds the peers of other languages, each once, from the project files under `peers/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Kind;
use crate::child::run;
use crate::jars::{class_path, maven};
use crate::paths::{once, own};

/// The program of a subscriber, and the arguments that come before its own.
pub(super) fn program(kind: Kind) -> (PathBuf, Vec<String>) {
    match kind {
        Kind::Python => (python(), vec![text(own("peers/python/sub.py"))]),
        Kind::Node => ("node".into(), vec![text(node().join("sub.js"))]),
        Kind::GoPebbe => (go("pebbe"), vec![]),
        Kind::GoPure => (go("gozeromq"), vec![]),
        Kind::Java => java_program("Sub"),
        Kind::Rust => (rust(), vec![]),
    }
}

/// The program of a sender, and the arguments that come before its own; none in some languages.
pub(super) fn sender(kind: Kind) -> (PathBuf, Vec<String>) {
    match kind {
        Kind::Python => (python(), vec![text(own("peers/python/send.py"))]),
        Kind::Node => ("node".into(), vec![text(node().join("send.js"))]),
        Kind::GoPebbe => (go("pebbesend"), vec![]),
        Kind::Java => java_program("Send"),
        Kind::GoPure | Kind::Rust => panic!("there is no sender of {kind:?}"),
    }
}

fn text(path: PathBuf) -> String {
    path.to_str().unwrap().to_owned()
}

fn java_program(class: &str) -> (PathBuf, Vec<String>) {
    let libs = maven("jeromq-libs", "peers/java/pom.xml");
    let path = format!("{}:{}", java(&libs).display(), class_path(&libs));
    let flags = ["-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"];
    let mut args: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
    args.extend([path, class.to_owned()]);
    ("java".into(), args)
}
/// The interpreter of a venv with `peers/python/requirements.txt`.
pub fn python() -> PathBuf {
    let requirements = own("peers/python/requirements.txt");
    once("venv", &read(&requirements), |place| {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(place));
        run(Command::new(place.join("bin/python"))
            .args(["-m", "pip", "install", "-q", "-r"])
            .arg(&requirements));
    })
    .join("bin/python")
}

/// The interpreter of a venv with the project's own client, and what checks its types.
pub fn python_with_client() -> PathBuf {
    let client = own("../../clients/python");
    let source = client.join("src/zafka");
    let mut files: Vec<_> =
        fs::read_dir(&source).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.is_file());
    files.extend(["pyproject.toml", "README.md"].map(|file| client.join(file)));
    files.sort();
    let stamp: String = files.iter().map(|file| read(file)).collect();
    once("venv-client", &stamp, |place| {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(place));
        run(Command::new(place.join("bin/python"))
            .args(["-m", "pip", "install", "-q", "mypy==1.*"])
            .arg(&client));
    })
    .join("bin/python")
}

fn node() -> PathBuf {
    let files = ["package.json", "package-lock.json", ".npmrc", "sub.js", "send.js"];
    let source = own("peers/node");
    let stamp: String = files.iter().map(|file| read(&source.join(file))).collect();
    once("peer-node", &stamp, |place| {
        fs::create_dir_all(place).unwrap();
        for file in files {
            fs::copy(source.join(file), place.join(file)).unwrap();
        }
        run(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(place));
    })
}

fn go(name: &str) -> PathBuf {
    let source = own("peers/go");
    let stamp = read(&source.join("go.sum")) + &read(&source.join(name).join("main.go"));
    once(&format!("peer-go-{name}"), &stamp, |place| {
        run(Command::new("go")
            .args(["build", "-o"])
            .arg(place)
            .arg(format!("./{name}"))
            .current_dir(&source));
    })
}

fn java(libs: &Path) -> PathBuf {
    let sources = ["Sub.java", "Send.java"].map(|file| own("peers/java").join(file));
    let stamp: String = sources.iter().map(|source| read(source)).collect();
    once("peer-java", &stamp, |place| {
        let javac = &mut Command::new("javac");
        run(javac.arg("-cp").arg(class_path(libs)).arg("-d").arg(place).args(&sources));
    })
}

fn rust() -> PathBuf {
    let source = own("peers/rust");
    let stamp = read(&source.join("Cargo.lock")) + &read(&source.join("src/main.rs"));
    once("peer-rust", &stamp, |place| {
        // The flags of the test's own build (coverage, sanitizers) are not for the peer.
        run(Command::new("cargo")
            .args(["build", "--release", "--locked"])
            .env("CARGO_TARGET_DIR", place)
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .current_dir(&source));
    })
    .join("release/zafka-testkit-sub")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
