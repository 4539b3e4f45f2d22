//! The `berth` command: reads the command line, calls one function, says how it ended.

// See `berth::say`.
#![deny(clippy::print_stderr)]

mod cli;
mod commands;
mod exit;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    // The kernel's makefile starts this executable again to pack the payload.
    if let Some(code) = berth_kernel_config::payload_role() {
        return code;
    }
    let outcome = match Cli::parse().command {
        Command::Check(arguments) => commands::check(&arguments),
        Command::Build(arguments) => commands::build(&arguments),
        Command::Run(arguments) => commands::run(&arguments),
        Command::Test(arguments) => commands::test(&arguments),
        Command::Inspect(arguments) => commands::inspect(&arguments),
        Command::Diff(arguments) => commands::diff(&arguments),
        Command::Verify(arguments) => commands::verify(&arguments),
        Command::Bundle(arguments) => commands::bundle(&arguments),
        Command::Publish(arguments) => commands::publish(&arguments),
        Command::Keys(arguments) => commands::keys::run(&arguments),
        Command::Sign(arguments) => commands::keys::sign(&arguments),
        Command::Kernel(arguments) => commands::kernel(&arguments),
        Command::Delta(cli::Delta::Create(arguments)) => commands::delta_create(&arguments),
        Command::Delta(cli::Delta::Apply(arguments)) => commands::delta_apply(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            berth::say(&failure);
            failure.code()
        }
    }
}
