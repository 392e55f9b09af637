//! The program `pushpull`: everything it does is in the library.

fn main() -> std::process::ExitCode {
    #[cfg(feature = "planted-bugs")]
    eprintln!("pushpull: built with `planted-bugs`: it can make mistakes on purpose, and is for tests alone");
    pushpull::cli::run()
}
