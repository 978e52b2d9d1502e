//! The binary: settings, composition, command line. Everything else lives in the rooms below.

mod alarms;
mod cli;
mod control;
mod serve;
mod settings;
mod watchdog;

/// Small allocations by the million are a broker's life; this allocator is faster at them than the C library's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::run()
}
