//! Who asks, and what they may: bearer tokens, client certificates, roles, scopes.
//!
//! The decisions are apart from the transport: [`method`] has the one table of which role may make which call,
//! [`claims`] turns a token's claims into an [`Identity`], [`reach`] says which cameras and times an identity sees.
//! [`token`] checks signatures and times, [`certificate`] knows the owners of certificates, [`interceptor`] takes the token out of a request before its body is read.

mod certificate;
mod claims;
mod interceptor;
pub(crate) mod jwt;
mod keys;
mod method;
mod mint;
mod reach;
mod refusals;
mod revoked;
mod role;
mod token;

pub use certificate::{ClientCertificate, ClientCertificates};
pub use claims::Rights;
pub(crate) use claims::{Caller, Identity};
pub(crate) use interceptor::Authenticate;
pub use keys::{KeyError, TokenKeys};
pub(crate) use method::Method;
pub use mint::{TokenScope, TokenSigner, TokenSpec, new_signing_key};
pub(crate) use reach::{Reach, Scope, View};
pub(crate) use refusals::Refusals;
pub use revoked::RevokedTokens;
pub use role::Role;
pub(crate) use token::TokenWatch;
pub use token::{TokenSettings, TokenVerifier};
