//! mailferry, the program.

fn main() {}
