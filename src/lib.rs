//! wharf
pub mod clock;
pub mod metrics;
pub mod oci;
pub mod upstream;
