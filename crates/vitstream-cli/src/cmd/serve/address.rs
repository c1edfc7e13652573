//! Addresses for serving.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// Wyoming's usual port for speech synthesis.
pub(super) const WYOMING: u16 = 10_200;

/// An address for serving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A network address.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
    /// Standard input and output.
    Stdio,
    /// Not served.
    Off,
}

impl Address {
    /// The address, if it is a network address.
    pub(super) fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            _ => None,
        }
    }

    /// All addresses of this machine.
    pub(super) fn everywhere(port: u16) -> Self {
        // With IPv6, this also accepts IPv4.
        let any = match std::net::TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)) {
            Ok(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
            Err(_) => SocketAddr::from(([0, 0, 0, 0], port)),
        };
        Self::Tcp(any)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix("tcp://").unwrap_or(text);
        if let Some(path) = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")) {
            return Ok(Self::Unix(path.into()));
        }
        match text {
            "off" => return Ok(Self::Off),
            "stdio" | "stdio://" => return Ok(Self::Stdio),
            _ => {}
        }
        let text = text
            .strip_prefix("localhost:")
            .map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
        text.parse().map(Self::Tcp).map_err(|_| {
            "expected an address with its port such as 127.0.0.1:5000 or [::1]:5000, or off".to_owned()
        })
    }
}

/// Binds a socket at `path`, replacing one that is no longer served.
#[cfg(unix)]
pub(super) fn bind_unix(path: &std::path::Path) -> anyhow::Result<tokio::net::UnixListener> {
    use anyhow::Context as _;
    use std::os::unix::fs::FileTypeExt as _;

    let is_socket = path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path).with_context(|| path.display().to_string())?;
    }
    tokio::net::UnixListener::bind(path).with_context(|| format!("--wyoming unix:{}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart() {
        let parse = |text: &str| text.parse::<Address>();
        assert_eq!(parse("127.0.0.1:80"), Ok(Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 80)))));
        assert_eq!(parse("localhost:80"), parse("127.0.0.1:80"));
        assert_eq!(parse("tcp://127.0.0.1:80"), parse("127.0.0.1:80"));
        assert_eq!(parse("unix:/run/a"), Ok(Address::Unix("/run/a".into())));
        assert_eq!((parse("off"), parse("stdio")), (Ok(Address::Off), Ok(Address::Stdio)));
        for bad in ["", "80", "example.org:80", "127.0.0.1"] {
            assert!(parse(bad).unwrap_err().contains("127.0.0.1:5000"), "{bad}");
        }
    }
}
