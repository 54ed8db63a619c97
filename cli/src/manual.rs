//! What shells and man(1) want to know of this command, made from its own description.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::builder::{Resettable, Str};
use clap::{Arg, Args, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::{Arguments, output};

/// `dmaring completions`.
#[derive(Debug, Args)]
pub struct CompletionsCommand {
    /// The shell: bash, zsh, fish, elvish or powershell
    #[arg(hide_possible_values = true)]
    shell: Shell,
}

/// `dmaring man`.
#[derive(Debug, Args)]
pub struct ManCommand {
    /// Write the pages of this command and of all its subcommands to a folder, which is made if it is not
    /// there [default: print the page of this command]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl CompletionsCommand {
    /// Prints the script.
    ///
    /// # Errors
    /// What standard output answered.
    pub fn run(self) -> anyhow::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut visible(&Arguments::command()), "dmaring", &mut script);
        output::print(&String::from_utf8(script).context("the script")?)
    }
}

impl ManCommand {
    /// Prints a page, or writes all.
    ///
    /// # Errors
    /// What standard output or the file system answered.
    pub fn run(self) -> anyhow::Result<()> {
        let Some(folder) = &self.folder else {
            let mut page = Vec::new();
            let command = Arguments::command().disable_help_subcommand(true);
            Man::new(command).render(&mut page).context("making the page")?;
            return output::print(&String::from_utf8(page).context("making the page")?);
        };
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        clap_mangen::generate_to(Arguments::command(), folder)
            .with_context(|| format!("cannot write to {}", folder.display()))
    }
}

/// The command as people see it, with what it takes to complete its words: clap_complete (4.6) offers what
/// is hidden as well.
fn visible(command: &Command) -> Command {
    let arguments = command.get_arguments().filter(|argument| !argument.is_hide_set()).map(bare);
    let subcommands = command.get_subcommands().filter(|one| !one.is_hide_set()).map(visible);
    let visible = Command::new(command.get_name().to_owned()).args(arguments).subcommands(subcommands);
    let version = command.get_version().map(|version| Str::from(version.to_owned()));
    visible.about(Resettable::from(command.get_about().cloned())).version(Resettable::from(version))
}

/// Without what ties it to others, some of which are hidden.
fn bare(argument: &Arg) -> Arg {
    let bare = Arg::new(argument.get_id().clone())
        .action(argument.get_action().clone())
        .value_parser(argument.get_value_parser().clone())
        .value_hint(argument.get_value_hint())
        .help(Resettable::from(argument.get_help().cloned()))
        .long(Resettable::from(argument.get_long().map(|long| Str::from(long.to_owned()))))
        .short(argument.get_short())
        .last(argument.is_last_set());
    match argument.get_num_args() {
        Some(number) => bare.num_args(number),
        None => bare,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_command_makes_sense() {
        Arguments::command().debug_assert();
        visible(&Arguments::command()).debug_assert();
    }

    #[test]
    fn what_is_hidden_is_not_completed() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut visible(&Arguments::command()), "dmaring", &mut script);
            let script = String::from_utf8(script).unwrap();
            for hidden in ["count-rows", "no-table", "stages"] {
                assert!(!script.contains(hidden), "{shell}: {hidden}");
            }
            for shown in ["compare", "iodepth", "verify", "kernel-arg", "shell"] {
                assert!(script.contains(shown), "{shell}: {shown}");
            }
        }
    }
}
