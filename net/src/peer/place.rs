//! An address as people write it: `HOST:PORT`, the host a name or a number.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Where a node's native port is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Place {
    /// From `HOST:PORT`; an IPv6 address is in brackets.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let is_bare_v6 = bare == host && host.contains(':');
        if bare.is_empty() || is_bare_v6 {
            return None;
        }
        Some(Self {
            host: bare.to_owned(),
            port: port.parse().ok().filter(|port| *port != 0)?,
        })
    }

    /// The host, where it is a number.
    pub(crate) fn number(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// The port of a shard.
    pub(crate) fn shard(&self, host: IpAddr, shard: u16) -> Option<SocketAddr> {
        let port = self.port.checked_add(1)?.checked_add(shard)?;
        Some(SocketAddr::new(host, port))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_numbers_and_anything_else_is_refused() {
        let place = |text| Place::parse(text).map(|place| (place.host, place.port));
        assert_eq!(place("node-1:7400"), Some(("node-1".into(), 7400)));
        assert_eq!(place("[::1]:7400"), Some(("::1".into(), 7400)));
        for wrong in [
            "", ":", "a", "a:", ":1", "a:0", "a:65536", "::1", "::1:5", "[]:5", "a:b:5",
        ] {
            assert_eq!(place(wrong), None, "{wrong}");
        }
        let place = Place::parse("127.0.0.1:7400").expect("an address");
        let host = place.number().expect("a number");
        let shard = place.shard(host, 2).expect("a port");
        assert_eq!(shard.to_string(), "127.0.0.1:7403");
        assert_eq!(place.shard(host, 60_000), None);
    }
}
