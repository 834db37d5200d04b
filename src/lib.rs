//! wharf
pub mod oci;
