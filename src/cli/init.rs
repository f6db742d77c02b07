//! `counterfoil init`: a project's first manifest and workflow.

use std::path::PathBuf;

use super::exit::{self, Failure};
use super::scaffold;
use super::terminal::Terminal;

/// Writes a commented counterfoil.toml, whose workloads run at once, and a GitHub workflow that checks every
/// pull request.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Replace files that are there already.
    #[arg(long)]
    force: bool,
    /// The project's folder.
    #[arg(default_value = ".", value_name = "DIR")]
    folder: PathBuf,
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments, terminal: &Terminal) -> Result<i32, Failure> {
    let written = scaffold::run(&arguments.folder, arguments.force)?;
    for path in written {
        terminal.out(&format!(
            "wrote {}\n",
            arguments.folder.join(path).display()
        ));
    }
    terminal.note("next: `counterfoil record` stores the first baselines, `counterfoil check` holds against them");
    Ok(exit::OK)
}
