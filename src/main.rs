//! The program `pushpull`: everything it does is in the library.

fn main() -> std::process::ExitCode {
    pushpull::cli::run()
}
