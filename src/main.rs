//! mailferry, the program. All of its code is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    mailferry::cli::run()
}
