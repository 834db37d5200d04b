//! `wharf healthcheck`: for Docker's `HEALTHCHECK` and for scripts.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use clap::Args;
use tokio::runtime;

use super::{ConfigFile, Failure, load, say};
use crate::{
    admin,
    config::{Config, Overrides, parse_address},
};

/// Below the usual timeouts of those who ask.
const DEADLINE: Duration = Duration::from_secs(3);

/// Ask a running wharf whether it is ready: exit 0 when it is, 1 when not
#[derive(Args, Debug)]
pub(super) struct Healthcheck {
    #[command(flatten)]
    config: ConfigFile,
    /// The admin address to ask, instead of the configured one
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    admin: Option<SocketAddr>,
}

impl Healthcheck {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let address = match self.admin {
            Some(address) => address,
            None => configured(&load(&self.config.sources(Overrides::default()))?.config)?,
        };
        let failed = |sentence: String| Failure::Failed(sentence);
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(format!("cannot start: {error}")))?;
        let said = runtime
            .block_on(admin::ask_ready(address, DEADLINE))
            .map_err(|error| failed(error.to_string()))?;
        say(&said);
        Ok(())
    }
}

fn configured(config: &Config) -> Result<SocketAddr, Failure> {
    let address = config.admin.ok_or_else(|| {
        Failure::Usage(
            "admin.listen is \"off\", so there is nobody to ask: write an address there".to_owned(),
        )
    })?;
    Ok(reachable(address, IpAddr::V4(Ipv4Addr::LOCALHOST)))
}

/// `address`, with `host` in place of "every address of this machine".
pub(super) fn reachable(address: SocketAddr, host: IpAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V6(ip) if ip.is_unspecified() && host.is_loopback() => {
            (Ipv6Addr::LOCALHOST, address.port()).into()
        }
        ip if ip.is_unspecified() => (host, address.port()).into(),
        _ => address,
    }
}
