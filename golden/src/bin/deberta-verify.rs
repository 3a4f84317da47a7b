//! The `deberta-verify` program.

fn main() -> std::process::ExitCode {
    deberta_golden::cli::main()
}
