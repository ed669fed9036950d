//! Who asks, in words: why this address counts as the client's, and what certificate it has been shown.

use http::{HeaderMap, HeaderName};
use waypost_config::value::Cidr;

use super::ReplyTold;
use crate::context::{RequestContext, last_hop};
use crate::downstream::Downstream;
use crate::reply::Cause;
use crate::snapshot::ListenerView;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// Fields in which proxies name the client.
const CLAIMS: [&str; 3] = [FORWARDED_FOR, "forwarded", "x-real-ip"];

/// Why the client has the address that it has. `headers` are as they came.
pub(super) fn client(listener: &ListenerView, context: &RequestContext, headers: &HeaderMap) -> String {
    let peer = context.peer.ip().to_canonical();
    let believed = &listener.config.trusted_proxies;
    let claim = CLAIMS.into_iter().find(|name| headers.contains_key(HeaderName::from_static(name)));
    let end = if listener.config.proxy_protocol {
        "as its PROXY protocol header says"
    } else {
        "the other end of the connection"
    };
    match claim {
        None if context.trusted => format!("{end}: one of trusted_proxies, but it names nobody"),
        None => end.to_owned(),
        Some(claim) if !context.trusted => {
            format!("{end}: its {claim} is not believed, {}", stranger(listener, believed))
        }
        Some(FORWARDED_FOR) if last_hop(headers).is_none() => {
            format!("{end}: one of trusted_proxies, but the end of its {FORWARDED_FOR} is no address")
        }
        Some(FORWARDED_FOR) if believed.iter().any(|network| network.contains(context.client_ip)) => {
            format!(
                "from {FORWARDED_FOR} of {peer}: all that can be read there are trusted_proxies, and it is the first"
            )
        }
        Some(FORWARDED_FOR) => {
            format!("from {FORWARDED_FOR} of {peer}: the last there that is none of trusted_proxies")
        }
        Some(claim) => {
            format!("{end}: one of trusted_proxies, but who asks is read in {FORWARDED_FOR} and not in {claim}")
        }
    }
}

/// Why nobody's word counts here, or not this one's.
fn stranger(listener: &ListenerView, believed: &[Cidr]) -> String {
    let networks: Vec<_> = believed.iter().map(ToString::to_string).collect();
    match &networks[..] {
        [] => format!("for `{}` has no trusted_proxies", listener.name),
        _ => format!("for the trusted_proxies of `{}` are {}", listener.name, networks.join(", ")),
    }
}

/// The certificate that the client has been shown, and what is amiss with it.
pub(super) fn certificate(downstream: &Downstream) -> Option<String> {
    let (tls, store) = (downstream.tls.as_ref()?, downstream.certificates.as_ref()?);
    let shown = store.shown(tls.sni.as_deref());
    let told = format!("{}, for {}", shown.cert.display(), shown.names.join(", "));
    Some(match &tls.sni {
        Some(sni) if !store.has_name_for(sni) => format!("{told}: the first one, because none is for {sni}"),
        _ => told,
    })
}

/// Why this host is not to be asked for over this connection (RFC 9110 section 15.5.20).
pub(super) fn misdirected(downstream: &Downstream, context: &RequestContext, cause: Cause) -> ReplyTold {
    let opened_for = downstream.tls.as_ref().and_then(|tls| tls.sni.as_deref()).unwrap_or("no name");
    let detail = format!(
        "the connection was opened for {opened_for}, and the certificate that was shown then is not for {}; over a \
         connection of its own it would be answered",
        context.host
    );
    ReplyTold { detail, ..cause.into() }
}
