//! Integration tests: wharf against a scripted registry, over real sockets on 127.0.0.1.
//!
//! Each module is a promise. None sleeps, none uses a fixed port, and what a test starts ends with it.

mod access;
mod accounts;
mod bad_input;
mod broken_uplink;
mod budget;
mod clients;
mod commands;
mod composed;
mod cve;
mod dialling;
mod disk_fails;
mod documents;
mod export;
mod fairness;
mod fake_hub;
mod fake_hub_faults;
mod floods;
mod freshness;
mod http2;
mod import;
mod index_is_disposable;
mod inventory;
mod limits;
mod lists;
mod memory;
mod metrics;
mod modes;
mod never_wrong;
mod one_download;
mod one_pull;
mod own_accounts;
mod pieces;
mod platforms;
mod prefetch;
mod ranges;
mod registries;
mod rot;
mod shared;
mod stale;
mod support;
mod survives;
mod tls;
mod volumes;
mod wear;
