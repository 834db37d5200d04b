//! Who must show a certificate.

use std::{fmt, str::FromStr};

use super::in_quotes;
use crate::server;

/// `[server] tls.client_auth`.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct ClientAuth(pub(in crate::config) server::ClientAuth);

impl FromStr for ClientAuth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "optional" => Ok(Self(server::ClientAuth::Optional)),
            "required" => Ok(Self(server::ClientAuth::Required)),
            _ => Err(format!("\"{text}\" will not do: write \"optional\" or \"required\"")),
        }
    }
}

impl fmt::Display for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            server::ClientAuth::Optional => "optional",
            server::ClientAuth::Required => "required",
        })
    }
}

in_quotes! {
    ClientAuth: "\"optional\" or \"required\"";
}
