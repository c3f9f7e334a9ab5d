use std::sync::Arc;

use guiji_domain::Clock;
use tonic::service::Interceptor;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::{Request, Status};
use tracing::warn;

use super::token::TokenFault;
use super::{Caller, Identity, TokenVerifier};
use crate::error::Problem;

/// Finds out who makes a call, before its body is read, and leaves a [`Caller`] with the request. A call without a
/// token that holds goes no further; it asked nothing yet, so the log has it, not the audit.
#[derive(Clone)]
pub(crate) struct Authenticate {
    verifier: Option<Arc<TokenVerifier>>,
    clock: Arc<dyn Clock>,
}

impl Authenticate {
    /// Without a verifier, everybody is [`Caller::Unnamed`].
    pub(crate) fn new(verifier: Option<Arc<TokenVerifier>>, clock: Arc<dyn Clock>) -> Self {
        Self { verifier, clock }
    }

    fn identity(
        &self,
        verifier: &TokenVerifier,
        request: &Request<()>,
    ) -> Result<Identity, TokenFault> {
        let given = request.metadata().get("authorization").ok_or(TokenFault::Missing)?;
        let text = given.to_str().map_err(|_| TokenFault::Missing)?;
        let (scheme, token) = text.split_once(' ').ok_or(TokenFault::Missing)?;
        // RFC 9110: the name of a scheme is compared without case.
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(TokenFault::Missing);
        }
        verifier.verify(token.trim(), self.clock.now())
    }
}

impl Interceptor for Authenticate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let caller = match &self.verifier {
            None => Caller::Unnamed,
            Some(verifier) => match self.identity(verifier, &request) {
                Ok(identity) => Caller::Known(Arc::new(identity)),
                Err(fault) => {
                    warn!(peer = peer(&request), %fault, "a call was refused: no token that holds");
                    return Err(Problem::from(fault).into());
                }
            },
        };
        request.extensions_mut().insert(caller);
        if let Some(verifier) = &self.verifier {
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
