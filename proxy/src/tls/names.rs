//! Which hosts does a certificate cover? Names as in RFC 6125: exact, one wildcard label at the left, IP addresses.

use std::net::IpAddr;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

/// The names of one certificate, in lower case, in its own order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Names(Vec<Name>);

/// One name of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Name {
    /// A host, in lower case.
    Exact(String),
    /// Every host one label below, in lower case, without the `*.`.
    Wildcard(String),
    /// An address.
    Address(IpAddr),
}

impl Names {
    /// The subject alternative names, or the common name of a certificate that has none.
    pub(super) fn of(certificate: &X509Certificate<'_>) -> Names {
        match certificate.subject_alternative_name() {
            Ok(Some(extension)) => Names(extension.value.general_names.iter().filter_map(Name::from_san).collect()),
            _ => Names(certificate.subject().iter_common_name().filter_map(|cn| cn.as_str().ok()).map(name).collect()),
        }
    }

    /// The names, in the certificate's order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Name> {
        self.0.iter()
    }

    /// Whether a client that asks for `host` would accept this certificate.
    pub(super) fn cover(&self, host: &Host) -> bool {
        self.0.iter().any(|name| host.candidates().any(|candidate| candidate == *name))
    }
}

impl Name {
    fn from_san(san: &GeneralName<'_>) -> Option<Name> {
        match san {
            GeneralName::DNSName(dns) => Some(name(dns)),
            GeneralName::IPAddress(bytes) => address(bytes).map(Name::Address),
            _ => None,
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Name::Exact(host) => f.write_str(host),
            Name::Wildcard(parent) => write!(f, "*.{parent}"),
            Name::Address(address) => write!(f, "{address}"),
        }
    }
}

/// What a client asks for: lower case, without port, brackets and the root's dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host(String);

impl Host {
    pub(super) fn new(host: &str) -> Host {
        let unbracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        Host(unbracketed.strip_suffix('.').unwrap_or(unbracketed).to_ascii_lowercase())
    }

    /// The names that cover this host, the most exact first.
    pub(super) fn candidates(&self) -> impl Iterator<Item = Name> {
        let address = self.address();
        let exact = address.map_or_else(|| Name::Exact(self.0.clone()), Name::Address);
        std::iter::once(exact).chain(self.wildcard().filter(|_| address.is_none()))
    }

    /// The address, if the host is one.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.0.parse().ok()
    }

    fn wildcard(&self) -> Option<Name> {
        let (label, parent) = self.0.split_once('.')?;
        (!label.is_empty()).then(|| Name::Wildcard(parent.to_owned()))
    }
}

fn name(text: &str) -> Name {
    let lower = text.to_ascii_lowercase();
    match (lower.parse(), lower.strip_prefix("*.")) {
        (Ok(address), _) => Name::Address(address),
        (_, Some(parent)) => Name::Wildcard(parent.to_owned()),
        _ => Name::Exact(lower),
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(names: &[&str], host: &str, covered: bool) {
        let names = Names(names.iter().map(|text| name(text)).collect());
        assert_eq!(names.cover(&Host::new(host)), covered, "{names:?} and {host}");
    }

    #[test]
    fn names_cover_what_a_client_would_accept() {
        check(&["example.com"], "example.com", true);
        check(&["example.com"], "EXAMPLE.com.", true);
        check(&["Example.COM"], "example.com", true);
        check(&["example.com"], "www.example.com", false);
        check(&["*.example.com"], "www.example.com", true);
        check(&["*.example.com"], "example.com", false);
        check(&["*.example.com"], ".example.com", false);
        check(&["*.example.com"], "a.b.example.com", false);
        check(&["*.0.0.1"], "127.0.0.1", false);
        check(&["127.0.0.1"], "127.0.0.1", true);
        check(&["::1"], "[::1]", true);
        check(&["::1"], "[0:0:0:0:0:0:0:1]", true);
        check(&["10.0.0.1"], "10.0.0.2", false);
        check(&[], "example.com", false);
        check(&["a.test", "b.test"], "b.test", true);
    }
}
