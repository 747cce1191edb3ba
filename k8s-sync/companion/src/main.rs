//! `pilotfish-companion`: the companion as a process.
#![forbid(unsafe_code)]

mod program;

use clap::Parser;
use program::args::{Args, Command};
use program::exit::Failure;
use program::{api_service, credential, kubectl, load, run, secrets};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version, too, come this way.
            let _ = error.print();
            return if error.use_stderr() { program::exit::Exit::Usage.into() } else { ExitCode::SUCCESS };
        }
    };
    let done = match args.command {
        Command::Kubectl { command } => {
            // What it found is its exit code.
            match kubectl::kubectl(&command).and_then(|(text, code)| print(&text).map(|()| code)) {
                Ok(code) => return ExitCode::from(code),
                Err(failure) => Err(failure),
            }
        }
        Command::Serve { config } => run::serve(&config),
        Command::Secrets(args) => secrets::secrets(&args).and_then(|text| print(&text)),
        Command::Load(args) => load::load(&args).and_then(|text| print(&text)),
        Command::Join(args) => credential::join(&args).and_then(|text| print(&text)),
        Command::Metrics => print(&companion::serve::known_metrics()),
        Command::ApiService(args) => api_service::api_service(&args).and_then(|text| print(&text)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("pilotfish-companion: {failure}");
            failure.exit.into()
        }
    }
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::software(format!("print: {error}")))
}
