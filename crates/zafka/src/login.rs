//! A user's login at a provider: `zafka login`, and the token of it for commands that connect.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

mod keeper;
mod store;

use std::io::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;
use zafka_identity::claimed_end;
use zafka_oidc::{DeviceCode, LoginClient, LoginTokens, Polling};
use zafka_zmtp::Token;
use zafka_zmtp::curve::KeyPair;

use crate::cli::{CommandError, LoginArgs, output_error};
use crate::identity::wall_clock;
use crate::random::new_key;
use crate::time_text::end_text;
use store::{Login, Store, StoreError};

pub use keeper::Keeper;

/// The life that a token has to have left to be shown, in s: a handshake takes its time.
const LEFT: i64 = 10;
/// Time after which the user is told that a login is not kept yet.
const TELL: Duration = Duration::from_secs(2);
/// Time between two attempts to keep it.
const PAUSE: Duration = Duration::from_millis(500);
/// The life of a token that does not state its own, in s.
const UNKNOWN_LIFE: i64 = 60;

/// A key and a token that lets it in.
#[derive(Debug)]
pub struct LoggedIn {
    /// The key.
    pub keys: KeyPair,
    /// The token.
    pub token: Token,
    /// Its end, in s since the epoch.
    pub ends: i64,
}

impl LoggedIn {
    /// The key, and the token that it shows.
    pub fn shown(&self) -> (KeyPair, Token) {
        (self.keys.clone(), self.token.clone())
    }
}

/// The reason why a login cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the login at {issuer} has ended: {reason}; log in anew by `zafka login`")]
struct Ended {
    issuer: String,
    reason: String,
}

/// Logs a user in by the device flow, and keeps what came of it.
///
/// # Errors
/// The provider did not let the user in, or the login cannot be kept.
pub fn login(args: &LoginArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    // First, so that no user does something in vain.
    let store = Store::of_user()?;
    login_to(&store, args, out)
}

fn login_to(store: &Store, args: &LoginArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    store.try_out(&store.lock()?)?;
    // What is read later may be read from another folder.
    let ca = args.ca.as_deref().map(std::path::absolute).transpose()?;
    let client = LoginClient::discover(&args.issuer, &args.client_id, ca.as_deref())?;
    let code = client.device_code(&args.scope)?;
    let mut tell = |text: String| out.write_all(text.as_bytes()).and_then(|()| out.flush());
    tell(invitation(&code)).map_err(output_error)?;
    let tokens = wait(&client, &code)?;
    let ends = end_of(&tokens, wall_clock());
    let login = Login {
        issuer: args.issuer.clone(),
        client_id: args.client_id.clone(),
        ca,
        access: tokens.access,
        ends,
        refresh: tokens.refresh,
        // The leases of an earlier login may be another user's.
        keys: new_key(),
    };
    // Whether that is seen is no reason to lose it.
    keep(store, &login, |text| drop(tell(text)));
    let path = store.path();
    let mut text = format!("logged in; kept in {} (mode 0600)\n", path.display());
    let end = end_text(ends);
    match &login.refresh {
        Some(_) => text.push_str(&format!("the token ends {end}, and is then renewed\n")),
        None => text.push_str(&format!(
            "the token ends {end}, and the provider gave none to renew it by: then log in anew\n"
        )),
    }
    tell(text).map_err(|error| output_error(error).into())
}

/// Keeps a login, however long that takes: what a provider has granted is not granted again. So
/// there is no deadline, but the user, who is told of it and may stop it.
fn keep(store: &Store, login: &Login, mut tell: impl FnMut(String)) {
    let mut told = None;
    loop {
        let locked = store.lock_within(TELL);
        let Err(error) = locked.and_then(|lock| store.write(login, &lock)) else { return };
        let error = error.to_string();
        if told.as_ref() != Some(&error) {
            tell(format!("logged in, but that is not kept yet, and tried again: {error}\n"));
            told = Some(error);
        }
        sleep(PAUSE);
    }
}

fn invitation(code: &DeviceCode) -> String {
    let DeviceCode { user_code, verification_uri, verification_uri_complete, .. } = code;
    let mut text = format!("open {verification_uri} and enter the code {user_code}\n");
    if let Some(complete) = verification_uri_complete {
        text.push_str(&format!("or open {complete}\n"));
    }
    text
}

/// Waits until the user has let us in: at most as long as the code is good.
fn wait(client: &LoginClient, code: &DeviceCode) -> Result<LoginTokens, CommandError> {
    let mut polling = Polling::new(code, Instant::now());
    loop {
        sleep(polling.poll_at()?.saturating_duration_since(Instant::now()));
        let polled = client.poll(code)?;
        if let Some(tokens) = polling.handle(polled, Instant::now())? {
            return Ok(tokens);
        }
    }
}

/// Returns the key and a token of the user's login, renewed if need be.
///
/// # Errors
/// There is no login, or the provider gives no other token.
pub fn current() -> Result<LoggedIn, CommandError> {
    current_in(&Store::of_user()?, None)
}

/// The token of the login in a store: another one than the one that was shown, if any.
fn current_in(store: &Store, shown: Option<&Token>) -> Result<LoggedIn, CommandError> {
    let is_good = |login: &Login| {
        let is_new = shown.is_none_or(|shown| shown.expose() != login.access.expose().as_bytes());
        is_new && wall_clock() + LEFT < login.ends
    };
    let login = store.read()?;
    if is_good(&login) {
        return Ok(logged_in(login));
    }
    let lock = store.lock()?;
    // Another command may have been first.
    let login = store.read()?;
    if is_good(&login) {
        return Ok(logged_in(login));
    }
    store.try_out(&lock)?;
    let tokens = refresh(&login)?;
    let ends = end_of(&tokens, wall_clock());
    let refresh = tokens.refresh.or_else(|| login.refresh.clone());
    let login = Login { access: tokens.access, ends, refresh, ..login };
    store.write(&login, &lock)?;
    Ok(logged_in(login))
}

/// Asks the provider for the next tokens.
fn refresh(login: &Login) -> Result<LoginTokens, CommandError> {
    let ended = |reason: &str| Ended { issuer: login.issuer.clone(), reason: reason.to_owned() };
    let refresh = login.refresh.as_ref();
    let refresh = refresh.ok_or_else(|| ended("its token cannot be renewed"))?;
    let client = LoginClient::discover(&login.issuer, &login.client_id, login.ca.as_deref())?;
    client.refresh(refresh).map_err(|error| match error.is_refusal() {
        true => ended(&error.to_string()).into(),
        false => error.into(),
    })
}

/// Tokens of the user's login for another key than the login's own. A token lets in one key: so
/// none of them is kept with the login.
#[derive(Debug)]
pub struct AnotherKey {
    store: Store,
    /// The last one, and the time at which the next one is wanted, in s since the epoch.
    last: Option<(Token, i64)>,
}

impl AnotherKey {
    /// Returns the proof for the login that the user has now.
    ///
    /// # Errors
    /// There is no login.
    pub fn of_user() -> Result<Self, CommandError> {
        let store = Store::of_user()?;
        store.read()?;
        Ok(Self { store, last: None })
    }

    /// The token: another one after three quarters of its life.
    ///
    /// # Errors
    /// The provider gives none.
    pub async fn token(&mut self) -> Result<Token, CommandError> {
        let now = wall_clock();
        if let Some((token, renew)) = &self.last
            && now < *renew
        {
            return Ok(token.clone());
        }
        let store = self.store.clone();
        // It asks the provider, which may take 20 s.
        let asked = spawn_blocking(move || for_another_key(&store)).await;
        let (token, ends) = asked.unwrap_or_else(|error| Err(error.into()))?;
        let renew = now.saturating_add(ends.saturating_sub(now) / 4 * 3);
        self.last = Some((token.clone(), renew));
        Ok(token)
    }
}

/// A new token, which is not kept, and its end.
fn for_another_key(store: &Store) -> Result<(Token, i64), CommandError> {
    let lock = store.lock()?;
    let mut login = store.read()?;
    store.try_out(&lock)?;
    let tokens = refresh(&login)?;
    let ends = end_of(&tokens, wall_clock());
    if tokens.refresh.is_some() {
        login.refresh = tokens.refresh;
        store.write(&login, &lock)?;
    }
    Ok((Token::new(tokens.access.expose().as_bytes().to_vec()), ends))
}

fn logged_in(login: Login) -> LoggedIn {
    let token = Token::new(login.access.expose().as_bytes().to_vec());
    LoggedIn { keys: login.keys, token, ends: login.ends }
}

/// The end of a token: its own word, or else the provider's.
fn end_of(tokens: &LoginTokens, now: i64) -> i64 {
    let said = tokens.life.and_then(|life| i64::try_from(life.as_secs()).ok());
    claimed_end(tokens.access.expose().as_bytes())
        .unwrap_or_else(|| now.saturating_add(said.unwrap_or(UNKNOWN_LIFE)))
}

/// Returns true if an error says that the provider gives no token any more.
fn is_over(error: &CommandError) -> bool {
    let of_store = error.downcast_ref::<StoreError>();
    error.is::<Ended>() || of_store.is_some_and(|error| !matches!(error, StoreError::Locked { .. }))
}

#[cfg(test)]
mod tests;
