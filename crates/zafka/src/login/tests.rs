use serde_json::json;
use zafka_testkit::Issuer;

use super::*;

fn args(issuer: &Issuer) -> LoginArgs {
    let scope = vec!["openid".to_owned()];
    LoginArgs { issuer: issuer.name(), client_id: "cli".to_owned(), scope, ca: None }
}

fn store(folder: &tempfile::TempDir) -> Store {
    Store::at(folder.path().join("zafka"))
}

/// Logs in, and returns what was told.
fn log_in(issuer: &Issuer, store: &Store) -> Result<String, String> {
    let mut out = Vec::new();
    let done = login_to(store, &args(issuer), &mut out);
    done.map(|()| String::from_utf8(out).unwrap()).map_err(|error| error.to_string())
}

#[test]
fn a_user_logs_in_and_the_token_is_renewed() {
    let (issuer, folder) = (Issuer::start(), tempfile::tempdir().unwrap());
    let store = store(&folder);
    issuer.grant("alice", 600, &json!({}));
    issuer.answer_polls(&["authorization_pending"]);
    let told = log_in(&issuer, &store).unwrap();
    let page = format!("{}/device", issuer.name());
    assert!(told.starts_with(&format!("open {page} and enter the code WDJB-MJHT\n")), "{told}");
    assert!(told.contains(&format!("or open {page}?user_code=WDJB-MJHT\n")), "{told}");
    assert!(told.contains("and is then renewed"), "{told}");

    let asked = issuer.requests();
    let first = current_in(&store, None).unwrap();
    assert_eq!(issuer.requests(), asked, "a token that is good is not renewed");
    let second = current_in(&store, Some(&first.token)).unwrap();
    assert_ne!(first.token.expose(), second.token.expose());
    assert_eq!(first.keys, second.keys, "the lease is the key's");
    assert_eq!(current_in(&store, None).unwrap().token.expose(), second.token.expose());
    for text in [&told, &format!("{first:?}")] {
        let token = std::str::from_utf8(first.token.expose()).unwrap();
        assert!(!text.contains(token), "{text}");
    }

    // One that will soon have ended is renewed.
    issuer.grant("alice", 5, &json!({}));
    let third = current_in(&store, Some(&second.token)).unwrap();
    assert_ne!(current_in(&store, None).unwrap().token.expose(), third.token.expose());
}

/// Shows what is told to somebody who has the login locked meanwhile.
struct Locking {
    store: Store,
    lock: Option<store::Lock>,
    told: String,
}

impl Write for Locking {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        let text = str::from_utf8(text).unwrap();
        self.told.push_str(text);
        if text.contains("enter the code") {
            self.lock = Some(self.store.lock().unwrap());
        }
        if text.contains("is not kept yet") {
            self.lock = None;
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_was_granted_is_kept_once_another_command_lets_go_of_the_login() {
    let (issuer, folder) = (Issuer::start(), tempfile::tempdir().unwrap());
    let store = store(&folder);
    issuer.grant("alice", 600, &json!({}));
    let mut out = Locking { store: store.clone(), lock: None, told: String::new() };
    login_to(&store, &args(&issuer), &mut out).unwrap();
    let told = out.told;
    let waits = "logged in, but that is not kept yet, and tried again: ";
    assert_eq!(told.matches(waits).count(), 1, "{told}");
    let lock = folder.path().join("zafka/login.lock");
    assert!(told.contains(&format!("{waits}{}: another command has", lock.display())), "{told}");
    assert!(told.contains("logged in; kept in "), "{told}");
    let asked = issuer.requests();
    assert!(current_in(&store, None).is_ok() && issuer.requests() == asked);
}

#[test]
fn nothing_is_asked_for_that_cannot_be_kept() {
    let (issuer, folder) = (Issuer::start(), tempfile::tempdir().unwrap());
    let store = store(&folder);
    log_in(&issuer, &store).unwrap();
    let first = current_in(&store, None).unwrap();
    let asked = issuer.requests();
    // The new file cannot be written: its name is taken by a folder that is not empty.
    let name = format!("zafka/login.json.{}", std::process::id());
    let taken = folder.path().join(name);
    std::fs::create_dir_all(taken.join("x")).unwrap();
    let errors = [
        log_in(&issuer, &store).unwrap_err(),
        current_in(&store, Some(&first.token)).unwrap_err().to_string(),
        for_another_key(&store).unwrap_err().to_string(),
    ];
    for error in errors {
        assert!(error.contains("login.json: "), "{error}");
    }
    assert_eq!(issuer.requests(), asked, "no token is lost");
    std::fs::remove_dir_all(taken).unwrap();
    assert!(current_in(&store, Some(&first.token)).is_ok());
}

#[test]
fn a_login_that_has_ended_is_told() {
    let (issuer, folder) = (Issuer::start(), tempfile::tempdir().unwrap());
    let store = store(&folder);
    let error = current_in(&store, None).unwrap_err();
    assert!(error.to_string().contains("not logged in") && is_over(&error), "{error}");
    log_in(&issuer, &store).unwrap();
    let first = current_in(&store, None).unwrap();
    issuer.forget_refresh_token();
    let error = current_in(&store, Some(&first.token)).unwrap_err();
    let told = error.to_string();
    assert!(is_over(&error), "{told}");
    for part in ["the login at ", "has ended", "invalid_grant", "`zafka login`"] {
        assert!(told.contains(part), "{told}");
    }
    assert!(!told.contains("refresh-token"), "{told}");
    // A provider that is away is not the end.
    issuer.serve(zafka_testkit::issuer::Serving::Status(503));
    let error = current_in(&store, Some(&first.token)).unwrap_err();
    assert!(!is_over(&error) && error.to_string().contains("503"), "{error}");
}

#[test]
fn a_refresh_token_that_another_command_has_used() {
    let (issuer, folder) = (Issuer::start(), tempfile::tempdir().unwrap());
    let store = store(&folder);
    log_in(&issuer, &store).unwrap();
    let first = current_in(&store, None).unwrap();
    let before = store.read().unwrap();
    let second = current_in(&store, Some(&first.token)).unwrap();
    // What it has read is old, and what is there now is not.
    assert_ne!(before.access.expose().as_bytes(), second.token.expose());
    let found = current_in(&store, Some(&first.token)).unwrap();
    assert_eq!(found.token.expose(), second.token.expose());
}

#[test]
fn commands_that_renew_at_once_lose_no_refresh_token() {
    let (issuer, folder) = (Issuer::start(), tempfile::tempdir().unwrap());
    let store = store(&folder);
    log_in(&issuer, &store).unwrap();
    let own = current_in(&store, None).unwrap();
    // The provider takes a refresh token once, and each of them needs one.
    let lock = store.lock().unwrap();
    let commands: Vec<_> = (0..4)
        .map(|_| {
            let store = store.clone();
            std::thread::spawn(move || for_another_key(&store).map_err(|error| error.to_string()))
        })
        .collect();
    drop(lock);
    let mut tokens: Vec<_> =
        commands.into_iter().map(|one| one.join().unwrap().unwrap().0.expose().to_vec()).collect();
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), 4, "each has its own");
    assert!(current_in(&store, Some(&own.token)).is_ok(), "and the last one is kept");
}

#[tokio::test]
async fn another_key_gets_tokens_of_its_own() {
    let (issuer, folder) = (Issuer::start(), tempfile::tempdir().unwrap());
    let store = store(&folder);
    issuer.grant("alice", 600, &json!({}));
    log_in(&issuer, &store).unwrap();
    let own = current_in(&store, None).unwrap();
    let mut other = AnotherKey { store: store.clone(), last: None };
    let first = other.token().await.unwrap();
    assert_ne!(first.expose(), own.token.expose());
    assert_eq!(other.token().await.unwrap().expose(), first.expose(), "it is good for a while");
    assert_eq!(current_in(&store, None).unwrap().token.expose(), own.token.expose());
    // The refresh token was used, and the next one is kept.
    let next = current_in(&store, Some(&own.token)).unwrap();
    assert_ne!(next.token.expose(), first.expose());
    // One whose end is near is not shown for long.
    issuer.grant("alice", 1, &json!({}));
    let mut short = AnotherKey { store: store.clone(), last: None };
    let first = short.token().await.unwrap();
    assert_ne!(short.token().await.unwrap().expose(), first.expose());
    issuer.forget_refresh_token();
    let error = short.token().await.unwrap_err();
    assert!(is_over(&error), "{error}");
}

#[test]
fn logins_that_do_not_begin_or_end_without_a_token() {
    let (issuer, folder) = (Issuer::start(), tempfile::tempdir().unwrap());
    let store = store(&folder);
    for (error, part) in [
        ("access_denied", "the login was denied at the provider"),
        ("expired_token", "the code was not entered in time"),
        ("invalid_client", "refuses a token to client \"cli\": invalid_client"),
    ] {
        issuer.answer_polls(&[error]);
        let told = log_in(&issuer, &store).unwrap_err();
        assert!(told.contains(part), "{told}");
    }
    use zafka_testkit::issuer::Serving;
    for (serving, part) in [
        (Serving::OtherIssuer, "the document is about the issuer"),
        (Serving::Redirect, "a redirect, which is not followed"),
        (Serving::Garbage, "no discovery document"),
        (Serving::Status(404), "status 404"),
        (Serving::Huge, "larger than 1 MiB"),
    ] {
        issuer.serve(serving);
        let told = log_in(&issuer, &store).unwrap_err();
        assert!(told.contains(part), "{serving:?}: {told}");
    }
    let mut elsewhere = args(&issuer);
    elsewhere.issuer = "http://id.example.com/realm".to_owned();
    let told = login_to(&store, &elsewhere, &mut Vec::new()).unwrap_err().to_string();
    assert!(told.contains("http only for a loopback address"), "{told}");
    assert!(!store.path().exists());
}
