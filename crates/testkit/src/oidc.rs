//! An OpenID Connect provider (mock-oauth2-server from Maven) on HTTPS, and the certificates that
//! it and the secured Kafka use.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::child::{Running, command, run};
use crate::jars;
use crate::paths::{RunDir, own};
use crate::ports::free_port;

/// A CA, what it signed, and a CA that signed nothing: PEM files made by openssl.
#[derive(Debug)]
pub struct Certificates(RunDir);

impl Certificates {
    /// Makes new ones.
    pub fn make() -> Self {
        let directory = RunDir::new("certificates");
        let script = own("identity/make-certificates.sh");
        run(Command::new("sh").arg(script).current_dir(directory.path()));
        Self(directory)
    }

    /// The CA that signed the servers' and clients' certificates.
    pub fn ca(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    /// A CA that none of the servers is of.
    pub fn other_ca(&self) -> PathBuf {
        self.0.join("other-ca.pem")
    }

    /// Certificate and key of the client "zafka" or "mallory", which is its Kafka user too.
    pub fn client(&self, name: &str) -> (PathBuf, PathBuf) {
        (self.0.join(&format!("client-{name}.pem")), self.0.join(&format!("client-{name}.key")))
    }

    pub(crate) fn directory(&self) -> &Path {
        self.0.path()
    }
}

/// The provider. Client "zafka" gets a token for the audience "kafka", "wrong-audience" one for
/// another; any secret is taken. For "exchange", which has to sign, it exchanges whatever looks
/// like a token for one of the same subject for "kafka". Its issuers "edge" and "long" give tokens
/// to peers of a relay, which live 5 s and 300 s; those of "steady" live 300 s, too. Dropping it
/// kills it.
#[derive(Debug)]
pub struct Oidc {
    process: Running,
    port: u16,
    libs: PathBuf,
    directory: RunDir,
}

impl Oidc {
    /// Starts it with tokens that live `token_seconds`, and waits until it listens.
    pub fn start(certificates: &Certificates, token_seconds: u32) -> Self {
        let libs = jars::maven("oidc-libs", "identity/pom.xml");
        let directory = RunDir::new("oidc");
        let template = fs::read_to_string(own("identity/provider.json")).unwrap();
        let text = template
            .replace("@TLS_DIR@", certificates.directory().to_str().unwrap())
            .replace("@TOKEN_SECONDS@", &token_seconds.to_string());
        fs::write(directory.join("provider.json"), text).unwrap();
        let port = free_port();
        let process = launch(&libs, &directory, port);
        let mut oidc = Self { process, port, libs, directory };
        oidc.wait_ready();
        oidc
    }

    /// The issuer, `https://127.0.0.1:port/zafka`; discovery is below it.
    pub fn issuer(&self) -> String {
        self.issuer_of("zafka")
    }

    /// Another one of its issuers.
    pub fn issuer_of(&self, name: &str) -> String {
        format!("https://127.0.0.1:{}/{name}", self.port)
    }

    /// The token endpoint.
    pub fn token_url(&self) -> String {
        format!("{}/token", self.issuer())
    }

    /// The process, to stop or to kill.
    pub fn process(&mut self) -> &mut Running {
        &mut self.process
    }

    /// Starts it again on the same port. Its signing keys are the same ones, if its issuers are
    /// asked in the same order.
    pub fn restart(&mut self) {
        self.process.kill9();
        self.process = launch(&self.libs, &self.directory, self.port);
        self.wait_ready();
    }

    /// The same with signing keys that it makes then, under the same ids: the key of an issuer has
    /// the issuer's name.
    pub fn restart_with_other_keys(&mut self) {
        let path = self.directory.join("provider.json");
        let mut settings: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        settings["tokenProvider"] = json!({ "keyProvider": { "algorithm": "RS256" } });
        fs::write(path, settings.to_string()).unwrap();
        self.restart();
    }

    fn wait_ready(&mut self) {
        let end = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let running = self.process.is_running();
            if !running || Instant::now() >= end {
                panic!("the provider did not start:\n{}", self.process.log_tail());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn launch(libs: &Path, directory: &RunDir, port: u16) -> Running {
    let mut java = command("java");
    java.args(["-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
        .arg(jars::class_path(libs))
        .arg("no.nav.security.mock.oauth2.StandaloneMockOAuth2ServerKt")
        .env("SERVER_HOSTNAME", "127.0.0.1")
        .env("SERVER_PORT", port.to_string())
        .env("JSON_CONFIG_PATH", directory.join("provider.json"));
    Running::start(java, &directory.join("oidc.log"))
}
