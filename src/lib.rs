//! wharf
pub mod clock;
pub mod metrics;
pub mod oci;
pub mod pull;
pub mod server;
pub mod store;
pub mod upstream;
