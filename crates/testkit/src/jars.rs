//! Jars by Maven and our Java helper by javac, once for all test binaries.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::child::run;
use crate::paths::{once, own};

/// The directory with the jars that `pom` (relative to this crate) asks for.
pub fn maven(name: &str, pom: &str) -> PathBuf {
    let pom = own(pom);
    once(name, &fs::read_to_string(&pom).unwrap(), |place| {
        let _ = fs::remove_dir_all(place);
        run(Command::new("mvn")
            .args(["-q", "-B", "-f"])
            .arg(&pom)
            .arg("dependency:copy-dependencies")
            .arg(format!("-DoutputDirectory={}", place.display())));
    })
}

/// Kafka's jars.
pub fn kafka() -> PathBuf {
    maven("kafka-libs", "kafka/pom.xml")
}

/// The compiled classes of `java/*.java`.
pub fn helper() -> PathBuf {
    let sources = ["Helper.java", "AdminOps.java", "ProduceOps.java", "ReadOps.java", "Jmx.java"]
        .map(|f| own("java").join(f));
    let stamp: String = sources.iter().map(|f| fs::read_to_string(f).unwrap()).collect();
    let libs = kafka();
    once("helper-classes", &stamp, |place| {
        run(Command::new("javac")
            .args(["-nowarn", "-cp"])
            .arg(class_path(&libs))
            .arg("-d")
            .arg(place)
            .args(&sources));
    })
}

/// All jars of a directory as a class path.
pub fn class_path(libs: &Path) -> String {
    format!("{}/*", libs.display())
}
