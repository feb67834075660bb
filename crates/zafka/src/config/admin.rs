//! `[admin]`.

use std::net::SocketAddr;

use super::AdminConfig;
use super::keys;
use super::mistake::Rejected;
use super::reader::Table;
use crate::hosts::Host;

/// The admin server's configuration.
pub fn admin(table: &Table<'_, '_>, top: &Table<'_, '_>) -> Option<AdminConfig> {
    let bind = table.text(&keys::ADMIN_BIND, |text| {
        text.parse().map_err(|_| Rejected::allowed("IP:PORT such as \"127.0.0.1:9644\""))
    });
    if let Some(text) = bind.and_then(bind_warning) {
        table.reader().warn(&table.span_of(&keys::ADMIN_BIND), "admin.bind", text);
    }
    let hosts = table.readable(&keys::ADMIN_HOSTS, |text| {
        Host::parse(text).ok_or_else(|| {
            Rejected::allowed(
                "a host's name or address without a port, such as \"relay.example.org\"",
            )
        })
    });
    let control = table.text(&keys::ADMIN_CONTROL, |text| {
        let path = table.reader().directory.join(text);
        if text.is_empty() { Err(Rejected::allowed("a path")) } else { Ok(path) }
    });
    if control.is_some() && !top.has(&keys::IDENTITY) {
        let found = "`[identity]` is missing";
        table.mistake(&keys::ADMIN_CONTROL, found, "only together with `[identity]`");
    }
    let hosts = hosts.into_iter().map(|(host, _)| host).collect();
    Some(AdminConfig { bind: bind?, hosts, control })
}

/// Returns a warning for an address that other machines reach.
pub fn bind_warning(bind: SocketAddr) -> Option<String> {
    let text =
        || format!("{bind} is no loopback address, and the admin server has no authentication");
    (!bind.ip().is_loopback()).then(text)
}
