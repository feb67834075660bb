//! Keycloak from Maven on HTTP on the loopback, with the realm of the book's example.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::child::{Running, command, run};
use crate::http::HttpRequest;
use crate::jars;
use crate::paths::{RunDir, once, own};
use crate::ports::free_port;

/// The first start of an unpacked one builds itself anew.
const STARTS: Duration = Duration::from_secs(240);
const ADMIN: &str = "admin";

/// A Keycloak with the realm "edge". Dropping it kills it.
#[derive(Debug)]
pub struct Keycloak {
    process: Running,
    port: u16,
    _directory: RunDir,
}

impl Keycloak {
    /// Starts it with tokens of people that live `seconds`, and waits until the realm answers.
    pub fn start(seconds: u32) -> Self {
        let distribution = distribution();
        let directory = RunDir::new("keycloak");
        let realm =
            fs::read_to_string(own("../../docs/examples/keycloak/edge-realm.json")).unwrap();
        let life = "\"access.token.lifespan\": ";
        let realm = realm.replacen(&format!("{life}\"300\""), &format!("{life}\"{seconds}\""), 1);
        let import = distribution.join("data/import");
        fs::create_dir_all(&import).unwrap();
        fs::write(import.join("edge-realm.json"), realm).unwrap();
        let port = free_port();
        let mut keycloak = command(distribution.join("bin/kc.sh"));
        keycloak
            .args(["start-dev", "--import-realm", "--http-host=127.0.0.1", "--db=dev-mem"])
            .args(["--cache=local", &format!("--http-port={port}")])
            .env("KC_BOOTSTRAP_ADMIN_USERNAME", ADMIN)
            .env("KC_BOOTSTRAP_ADMIN_PASSWORD", ADMIN)
            .env("JAVA_OPTS_KC_HEAP", "-Xms64m -Xmx384m")
            .env("JAVA_OPTS_APPEND", "-XX:TieredStopAtLevel=1");
        let process = Running::start(keycloak, &directory.join("keycloak.log"));
        let mut keycloak = Self { process, port, _directory: directory };
        keycloak.wait_ready();
        keycloak
    }

    /// The issuer; discovery is below it.
    pub fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}/realms/edge", self.port)
    }

    /// The token endpoint.
    pub fn token_url(&self) -> String {
        format!("{}/protocol/openid-connect/token", self.issuer())
    }

    /// The address of its keys.
    pub fn jwks_url(&self) -> String {
        format!("{}/protocol/openid-connect/certs", self.issuer())
    }

    /// The answer of the token endpoint to a form.
    pub fn token(&self, form: &str) -> Value {
        self.post_form("/realms/edge/protocol/openid-connect/token", form)
    }

    /// Lets a device in, as this user does in a browser. `page` has the code in it.
    pub fn approve(&self, page: &str, user: &str, password: &str) {
        let script = own("keycloak/approve.py");
        let output =
            Command::new("python3").arg(script).args([page, user, password]).output().unwrap();
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(out.contains("Device Login Successful"), "{out}{err}");
    }

    /// Makes a client by the admin's interface.
    pub fn create_client(&self, client: &Value) {
        self.admin("POST", "clients", client);
    }

    /// Takes a new key to sign with. The ones before still verify.
    pub fn rotate(&self) {
        let key = json!({
            "name": "newer", "providerId": "rsa-generated",
            "providerType": "org.keycloak.keys.KeyProvider",
            "config": { "priority": ["900"], "enabled": ["true"], "active": ["true"],
                        "algorithm": ["RS256"] },
        });
        self.admin("POST", "components", &key);
    }

    /// Ends all sessions of a user.
    pub fn log_out(&self, user: &str) {
        let (_, found) =
            self.admin("GET", &format!("users?username={user}&exact=true"), &json!(null));
        let id = found[0]["id"].as_str().unwrap().to_owned();
        self.admin("POST", &format!("users/{id}/logout"), &json!({}));
    }

    fn admin(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let form =
            format!("grant_type=password&client_id=admin-cli&username={ADMIN}&password={ADMIN}");
        let granted = self.post_form("/realms/master/protocol/openid-connect/token", &form);
        let token = granted["access_token"].as_str().unwrap_or_else(|| panic!("{granted}"));
        let path = format!("/admin/realms/edge/{path}");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, answer) = self.request(method, &path, "application/json", Some(token), &body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        (status, serde_json::from_str(&answer).unwrap_or(Value::Null))
    }

    fn post_form(&self, path: &str, form: &str) -> Value {
        let kind = "application/x-www-form-urlencoded";
        let (_, answer) = self.request("POST", path, kind, None, form);
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{path}: {error}: {answer}"))
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        bearer: Option<&str>,
        body: &str,
    ) -> (u16, String) {
        self.try_request(method, path, kind, bearer, body).unwrap_or_else(|error| {
            panic!("{method} {path}: {error}:\n{}", self.process.log_tail())
        })
    }

    fn try_request(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        bearer: Option<&str>,
        body: &str,
    ) -> std::io::Result<(u16, String)> {
        let bearer = bearer.map(|token| format!("Authorization: Bearer {token}\r\n"));
        let headers = format!("{}Content-Type: {kind}\r\n", bearer.unwrap_or_default());
        let request = HttpRequest { method, path, headers: &headers, body };
        request.send(&format!("127.0.0.1:{}", self.port), Duration::from_secs(60))
    }

    fn wait_ready(&mut self) {
        let end = Instant::now() + STARTS;
        let path = "/realms/edge/.well-known/openid-configuration";
        while !self
            .try_request("GET", path, "text/plain", None, "")
            .is_ok_and(|(code, _)| code == 200)
        {
            let running = self.process.is_running();
            if !running || Instant::now() >= end {
                panic!("Keycloak did not start:\n{}", self.process.log_tail());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// The unpacked distribution.
fn distribution() -> PathBuf {
    let archives = jars::maven("keycloak-archive", "keycloak/pom.xml");
    let stamp = fs::read_to_string(own("keycloak/pom.xml")).unwrap();
    once("keycloak", &stamp, |place| unpack(&archives, place))
}

fn unpack(archives: &Path, place: &Path) {
    let mut found = fs::read_dir(archives).unwrap().map(|entry| entry.unwrap().path());
    let archive = found.next().expect("Maven copied an archive");
    let _ = fs::remove_dir_all(place);
    fs::create_dir_all(place).unwrap();
    run(Command::new("tar")
        .args(["--strip-components=1", "-xzf"])
        .arg(archive)
        .arg("-C")
        .arg(place));
}
