//! wharf: a pull-through cache for container images that stands on a site's own network.
//!
//! A pull in one page: [`server`] reads a request's path into the specification's names ([`oci`]) and asks [`pull`].
//! `pull` answers from the [`store`] what is kept and fresh. A tag that is not fresh is confirmed by one `HEAD` at the
//! registry ([`upstream`]) for all who wait; a manifest or blob that is not kept is fetched once, by a task that belongs to
//! no client, into a file that every reader follows. What is complete is verified, then kept by rename.
//!
//! A list is served as it is, and resolved here to the platform of the host that asks: what that platform needs of it is
//! fetched before the host asks for it, and of platforms that the site does not run nothing is kept.
//!
//! Layers, each naming only those to its right (`tests/layering.rs` holds this):
//!
//! ```text
//! main → cli → app → { server, admin } → pull → { upstream, store } → oci        metrics, config, clock, documents, lately, memory, on_demand: leaves
//! ```
//!
//! What must always hold stands in `ARCHITECTURE.md`, with the test of each promise.

#![deny(unsafe_code)]

pub mod admin;
pub mod app;
pub mod bundle;
pub mod cli;
pub mod clock;
pub mod config;
pub mod documents;
pub mod lately;
pub mod memory;
pub mod metrics;
pub mod oci;
pub mod on_demand;
pub mod pull;
pub mod server;
pub mod store;
pub mod upstream;
