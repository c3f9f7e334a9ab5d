use std::sync::Arc;

use guiji_domain::Clock;
use tonic::service::Interceptor;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::{Request, Status};
use tracing::warn;

use super::token::TokenFault;
use super::{Caller, ClientCertificates, Identity, Refusals, TokenVerifier};
use crate::error::Problem;

/// Finds out who makes a call, before its body is read, and leaves a [`Caller`] with the request. A call without a
/// token that holds, or a certificate whose owner is known, goes no further: it asked nothing yet, so that the audit has
/// only where it came from ([`Refusals`]). Where a call has both, the token says who asks.
#[derive(Clone)]
pub(crate) struct Authenticate {
    tokens: Option<Arc<TokenVerifier>>,
    certificates: ClientCertificates,
    clock: Arc<dyn Clock>,
    refusals: Arc<Refusals>,
    service: &'static str,
}

impl Authenticate {
    /// Without a verifier and known certificates, everybody is [`Caller::Unnamed`].
    pub(crate) fn new(
        tokens: Option<Arc<TokenVerifier>>,
        certificates: ClientCertificates,
        clock: Arc<dyn Clock>,
        refusals: Arc<Refusals>,
    ) -> Self {
        Self { tokens, certificates, clock, refusals, service: "" }
    }

    /// The same before the calls of a service.
    pub(crate) fn before(&self, service: &'static str) -> Self {
        Self { service: service.rsplit('.').next().unwrap_or(service), ..self.clone() }
    }

    fn identity(&self, request: &Request<()>) -> Result<Identity, TokenFault> {
        match (bearer(request), &self.tokens) {
            (Some(token), Some(verifier)) => verifier.verify(token, self.clock.now()),
            _ if self.certificates.is_empty() => Err(TokenFault::Missing),
            _ => {
                let chain = request.peer_certs().ok_or(TokenFault::Missing)?;
                let own = chain.first().ok_or(TokenFault::Missing)?;
                self.certificates.owner(own, self.clock.now())
            }
        }
    }
}

fn bearer(request: &Request<()>) -> Option<&str> {
    let (scheme, token) =
        request.metadata().get("authorization")?.to_str().ok()?.split_once(' ')?;
    // RFC 9110: the name of a scheme is compared without case.
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

impl Interceptor for Authenticate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let asked = self.tokens.is_some() || !self.certificates.is_empty();
        let caller = if asked {
            let identity = self.identity(&request).map_err(|fault| {
                let peer = peer(&request);
                self.refusals.note(self.service, peer.as_deref(), &fault);
                warn!(peer, %fault, "a call was refused: nobody known makes it");
                Problem::from(fault)
            })?;
            Caller::Known(Arc::new(identity))
        } else {
            Caller::Unnamed
        };
        request.extensions_mut().insert(caller);
        let by_token = bearer(&request).is_some();
        if let Some(verifier) = self.tokens.as_ref().filter(|_| by_token) {
            request.extensions_mut().insert(verifier.watch());
        }
        Ok(request)
    }
}

/// The address of the other end, as far as the connection tells.
fn peer<T>(request: &Request<T>) -> Option<String> {
    let extensions = request.extensions();
    let plain = || extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
    let tls = extensions.get::<TlsConnectInfo<TcpConnectInfo>>();
    let address = tls.and_then(|tls| tls.get_ref().remote_addr()).or_else(plain);
    address.map(|address| address.to_string())
}
