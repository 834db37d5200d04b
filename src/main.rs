//! The `wharf` program: everything it does is in the library's [`wharf::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    wharf::cli::run(std::env::args_os())
}
