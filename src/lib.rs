//! wharf: a pull-through cache for container images, at the edge of a site.
pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod metrics;
pub mod oci;
pub mod pull;
pub mod server;
pub mod store;
pub mod upstream;
