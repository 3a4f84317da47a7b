//! The `deberta-convert` program.

fn main() -> std::process::ExitCode {
    deberta_converters::cli::main()
}
