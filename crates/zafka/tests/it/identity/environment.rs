//! The environment of a relay: it names no proxy that is asked.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use zafka_testkit::Issuer;
use zafka_testkit::issuer::AUDIENCE;

use super::Keys;
use crate::program::run_with;

#[test]
fn a_proxy_of_the_environment_is_not_asked_for_the_keys_of_an_issuer() {
    let (issuer, keys) = (Issuer::start(), Keys::make(&["relay"], &[]));
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.set_nonblocking(true).unwrap();
    let url = format!("http://{}", proxy.local_addr().unwrap());
    let rules = format!(
        "[[identity.issuer]]\nissuer = {:?}\naudience = [{AUDIENCE:?}]\n\
         [[identity.access]]\nwho = {{ sub = \"alice\" }}\nread = [\"t\"]",
        issuer.name()
    );
    let toml = format!(
        "[kafka]\nbootstrap_servers = [\"127.0.0.1:9092\"]\n{}[[route]]\nname = \"r\"\n\
         from.kafka = {{ topics = [\"t\"] }}\nto.zmq = {{ socket = \"pub\", \
         bind = [\"tcp://*:5556\"] }}\n",
        keys.toml(&rules)
    );
    let [file, token] = ["zafka.toml", "token"].map(|name| keys.path(name));
    fs::write(&file, toml).unwrap();
    fs::write(&token, issuer.token("alice", 600, &json!({}))).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let [file, token] = [&file, &token].map(|path| path.to_str().unwrap());
    let names =
        ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let mut environment: Vec<_> = names.iter().map(|name| (*name, &*url)).collect();
    environment.extend([("NO_PROXY", ""), ("no_proxy", "")]);
    let arguments = ["access", "-c", file, "--token-file", token];
    let (exit, out, err) = run_with(&arguments, &environment);
    assert!(exit.success() && out.contains("the token is taken"), "{out}{err}");
    assert_eq!(proxy.accept().map(drop).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
}
