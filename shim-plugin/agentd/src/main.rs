//! `pilotfish`: the agent of a node, and the command line that asks it.
#![forbid(unsafe_code)]

mod cli;
mod clock;
mod config;
mod exit;
mod findings;
mod log;
mod replay;
mod run;
mod serve;
mod version;

use clap::Parser;
use clap::error::ErrorKind;
use cli::args::{AgentFlags, Cli, Command, Common};
use config::Config;
use exit::{Exit, Failure};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Standard output or error may be closed; there is nobody else to tell.
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { Exit::Ok } else { Exit::Usage }.into();
        }
    };
    match perform(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            // Several lines where there are several faults.
            let text = failure.to_string();
            let lines: Vec<_> = text.lines().map(flow_model::shown).collect();
            eprintln!("pilotfish: {}", lines.join("\n"));
            failure.exit.into()
        }
    }
}

fn perform(cli: Cli) -> Result<Exit, Failure> {
    let Cli { common, command } = cli;
    let asked = |agent: &AgentFlags| configured(&common, agent);
    // The commands that ask an agent need no more of the configuration than where it answers.
    let socket = || asked(&AgentFlags::default()).map(|(config, _)| config.admin.socket);
    let places = || {
        let (Config { admin, kubernetes, .. }, _) = asked(&AgentFlags::default())?;
        Ok(cli::doctor::Places { socket: admin.socket, kubeconfig: kubernetes.kubeconfig })
    };
    if matches!(command, Command::Agent { .. } | Command::Check { .. } | Command::Doctor(_) | Command::Report(_)) {
        // Before there is another thread.
        run::view::as_the_node();
    }
    match command {
        Command::Agent { print_metrics: true, .. } => cli::output::print(&serve::known::list())?,
        Command::Agent { flags, print_metrics: false } => {
            let (config, warnings) = asked(&flags)?;
            let read = Box::new(move || configured(&common, &flags));
            return Ok(cli::agent::run(config, &warnings, read));
        }
        Command::Check { agent, output } => return cli::check::run(&asked(&agent)?.0, output),
        Command::Status { output } => cli::status::run(&socket()?, output)?,
        Command::Stat(rows) => cli::stat::run(&socket()?, &rows)?,
        Command::Edges(rows) => cli::edges::run(&socket()?, &rows)?,
        Command::Identity { address, output } => return cli::identity::run(&socket()?, &address, output),
        Command::Doctor(args) => return cli::doctor::run(&args, places),
        Command::Timeline(args) => cli::timeline::run(&socket()?, &args)?,
        Command::Tap(args) => cli::tap::run(&socket()?, &args)?,
        Command::Top(args) => cli::top::run(&socket()?, &args)?,
        Command::Report(args) => cli::report::run(&common, &args)?,
        Command::Replay(args) => return replay::run(&args),
        Command::Config { print_default: true } => cli::output::print(&Config::documented_default())?,
        Command::Config { print_default: false } => {
            let (_, warnings) = asked(&AgentFlags::default())?;
            cli::output::print(&warnings.iter().map(|warning| format!("{warning}\n")).collect::<String>())?;
            cli::output::print("The configuration is valid.\n")?;
        }
        Command::Version { output } => cli::version::run(&socket()?, output)?,
        Command::ReadFiles => netns_scanner::helper::serve().map_err(|error| Failure::new(Exit::Software, error))?,
        Command::Completions { shell } => cli::shell::completions(shell)?,
        Command::Man { directory } => cli::shell::man(&directory)?,
    }
    Ok(Exit::Ok)
}

fn configured(common: &Common, agent: &AgentFlags) -> Result<(Config, Vec<String>), Failure> {
    let faults = |faults| Failure::new(Exit::Usage, anyhow::Error::new::<config::Faults>(faults));
    let source = config::read_file(common.config.as_deref()).map_err(faults)?;
    config::load(source.as_ref(), std::env::vars(), &common.flags(agent)).map_err(faults)
}
