//! Key pairs that openssl makes, and their public halves.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

/// The kinds of keys that sign: name, arguments of `openssl genpkey`.
const KINDS: &[(&str, &[&str])] = &[
    ("rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
    ("p256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    ("p384", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]),
    ("p521", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"]),
    ("ed25519", &["-algorithm", "ED25519"]),
    ("other", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
];

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    for (name, arguments) in KINDS {
        openssl(
            folder.path(),
            &[&["genpkey", "-out", &format!("{name}.pem")], *arguments].concat(),
        );
    }
    folder
});

/// A private key, PKCS#8 as PEM.
pub fn private(name: &str) -> PathBuf {
    FOLDER.path().join(format!("{name}.pem"))
}

/// The same key in another form: `arguments` of openssl, with `IN` and `OUT`.
pub fn converted(name: &str, form: &str, arguments: &[&str]) -> PathBuf {
    let out = FOLDER.path().join(format!("{name}.{form}"));
    let (from, to) = (private(name), out.display().to_string());
    let arguments: Vec<_> = arguments
        .iter()
        .map(|argument| match *argument {
            "IN" => from.to_str().unwrap(),
            "OUT" => to.as_str(),
            other => other,
        })
        .collect();
    openssl(FOLDER.path(), &arguments);
    out
}

/// The public half, as ring wants it: of an SubjectPublicKeyInfo the bit string alone.
pub fn public(name: &str) -> Vec<u8> {
    let pem = converted(name, "pub", &["pkey", "-in", "IN", "-pubout", "-out", "OUT"]);
    let pem = std::fs::read_to_string(pem).unwrap();
    let body: String = pem.lines().filter(|line| !line.starts_with("--")).collect();
    let der = STANDARD.decode(body).unwrap();
    // What stands before it has the same length for each key of a kind.
    let head = match name {
        "rsa" => 24,
        "p384" => 23,
        "ed25519" => 12,
        _ => 26,
    };
    der[head..].to_vec()
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let done = Command::new("openssl").args(arguments).current_dir(folder).output().unwrap();
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}
