//! mailferry, the program; see the library for all of it.

use std::process::ExitCode;

fn main() -> ExitCode {
    mailferry::cli::run()
}
