//! The binary: settings, composition, command line. Everything else lives in the rooms below.

mod alarms;
mod boot_definitions;
mod cli;
mod control;
mod engine_room;
mod oauth;
mod serve;
mod settings;
mod supervisor;
mod tls;
mod traces;
mod watchdog;

/// Small allocations by the million are a broker's life; this allocator is faster at them than the C library's. What
/// the evaluations of rules take of it is counted.
#[global_allocator]
static ALLOCATOR: millpond_engine::Allocator<mimalloc::MiMalloc> =
    millpond_engine::Allocator::new(mimalloc::MiMalloc);

fn main() -> std::process::ExitCode {
    cli::run()
}
