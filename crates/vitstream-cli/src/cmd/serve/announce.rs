//! Tells the network where Wyoming is spoken, so that Home Assistant finds it by itself.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use mdns_sd::{ServiceDaemon, ServiceInfo};

/// What Home Assistant looks for.
const SERVICE: &str = "_wyoming._tcp.local.";

/// How long those who listen are waited for at the end: they would learn it a little later by themselves.
const FAREWELL: Duration = Duration::from_millis(500);

/// It lasts until it is dropped.
pub(super) struct Announcement {
    daemon: ServiceDaemon,
    name: String,
}

impl Announcement {
    /// That what is at `address` goes by `name`. Should somebody else have the name already, a number is put behind it.
    pub(super) fn new(name: &str, address: &SocketAddr) -> Result<Self> {
        let announce = || -> mdns_sd::Result<Self> {
            let daemon = ServiceDaemon::new()?;
            // The one label that a host may have: letters, digits and dashes.
            let host =
                name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect::<String>();
            let host = format!("{host}.local.");
            let service = match address.ip() {
                // All that this machine has, and gets.
                ip if ip.is_unspecified() => {
                    ServiceInfo::new(SERVICE, name, &host, "", address.port(), None)?.enable_addr_auto()
                }
                ip => ServiceInfo::new(SERVICE, name, &host, ip, address.port(), None)?,
            };
            let name = service.get_fullname().to_owned();
            daemon.register(service)?;
            Ok(Self { daemon, name })
        };
        announce().with_context(|| format!("cannot announce {name:?} on the network"))
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        if let Ok(done) = self.daemon.unregister(&self.name) {
            let _ = done.recv_timeout(FAREWELL);
        }
        let _ = self.daemon.shutdown();
    }
}
