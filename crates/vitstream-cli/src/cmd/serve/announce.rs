//! Announces the Wyoming server on the network, so that Home Assistant finds it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use mdns_sd::{ServiceDaemon, ServiceInfo};

/// The service that Home Assistant looks for.
const SERVICE: &str = "_wyoming._tcp.local.";

/// Limit on the time for the farewell message: without it, clients notice a little later.
const FAREWELL: Duration = Duration::from_millis(500);

/// An announcement, which lasts until it is dropped.
pub(super) struct Announcement {
    daemon: ServiceDaemon,
    name: String,
}

impl Announcement {
    /// Announces the server at `address` as `name`. If the name is already taken, a number is appended.
    pub(super) fn new(name: &str, address: &SocketAddr) -> Result<Self> {
        let announce = || -> mdns_sd::Result<Self> {
            let daemon = ServiceDaemon::new()?;
            // A host name of one label: letters, digits and dashes.
            let host =
                name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect::<String>();
            let host = format!("{host}.local.");
            let service = match address.ip() {
                // All current and future addresses of this machine.
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
