//! The `wharf` program: everything it does is in the library's [`wharf::cli`].

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    wharf::cli::run(std::env::args_os())
}
