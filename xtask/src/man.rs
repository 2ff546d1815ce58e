//! `cargo xtask man`: generates manual pages and shell completions from the programs' definitions of their
//! options.
//!
//! A page consists of the help texts of the options and of the file `args.roff` beside their definition. The
//! text of that file before the first `.SH` continues the description; its sections follow the options.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use tools::error::{Context as _, Error, Result};
use tools::workspace;

#[path = "../../bins/pr-ctl/src/args.rs"]
mod pr_ctl;

#[path = "../../bins/pr-helper/src/args.rs"]
#[expect(dead_code, reason = "only the definition of the options is used, not what they are parsed into")]
mod pr_helper;

/// The programs with manual pages.
const PROGRAMS: &[Program] =
    &[program!("pr-ctl", "1", pr_ctl::Args::command), program!("pr-helper", "8", pr_helper::Args::command)];

/// A program with a manual page and completions.
struct Program {
    name: &'static str,
    /// Section of the manual: 1 for commands of all users, 8 for those of administrators.
    section: &'static str,
    command: fn() -> Command,
    /// The content of `args.roff`.
    text: &'static str,
}

macro_rules! program {
    ($name:literal, $section:literal, $command:path) => {
        Program {
            name: $name,
            section: $section,
            command: $command,
            text: include_str!(concat!("../../bins/", $name, "/src/args.roff")),
        }
    };
}
use program;

/// Options of `cargo xtask man`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Change nothing; fail if a file is out of date
    #[arg(long)]
    check: bool,
}

/// Writes the files, or compares them.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    for program in PROGRAMS {
        for (path, content) in program.files()? {
            let destination = workspace::root().join(&path);
            if !options.check {
                let directory = destination.parent().unwrap_or(&destination);
                fs::create_dir_all(directory).context(|| format!("create {}", directory.display()))?;
                fs::write(&destination, content).context(|| format!("write {}", destination.display()))?;
            } else if fs::read(&destination).context(|| format!("read {}", destination.display()))? != content
            {
                return Err(Error::new(format!(
                    "{} does not match the options of {}: run cargo xtask man",
                    path.display(),
                    program.name
                )));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Program {
    /// Returns the path in the workspace and the content of each generated file.
    fn files(&self) -> Result<Vec<(PathBuf, Vec<u8>)>> {
        let directory = Path::new("bins").join(self.name);
        let page = directory.join("man").join(format!("{}.{}", self.name, self.section));
        let mut files = vec![(page, self.page().context(|| "write a manual page".into())?.into_bytes())];
        for (shell, file) in [
            (Shell::Bash, format!("{}.bash", self.name)),
            (Shell::Fish, format!("{}.fish", self.name)),
            (Shell::Zsh, format!("_{}", self.name)),
        ] {
            let mut content = Vec::new();
            clap_complete::generate(shell, &mut (self.command)(), self.name, &mut content);
            files.push((directory.join("completions").join(file), content));
        }
        Ok(files)
    }

    fn page(&self) -> io::Result<String> {
        let command = (self.command)().subcommand_value_name("COMMAND");
        let man = Man::new(command.clone())
            .title(self.name.to_uppercase())
            .section(self.section)
            // An empty date, so that the page depends only on its sources. It must be quoted, or the default
            // applies.
            .date("\"\"")
            .manual("SCSI persistent reservations");
        let (description, sections) = split_sections(self.text);
        let mut page = Vec::new();
        man.render_title(&mut page)?;
        for render in
            [Man::render_name_section, Man::render_synopsis_section, Man::render_description_section]
        {
            page.extend(b".SH ");
            page.extend(section(&man, render)?.as_bytes());
        }
        page.extend(description.as_bytes());
        page.extend(b".SH ");
        page.extend(section(&man, Man::render_options_section)?.as_bytes());
        if command.has_subcommands() {
            page.extend(b".SH COMMANDS\n");
        }
        for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
            page.extend(about_subcommand(subcommand)?.as_bytes());
        }
        page.extend(sections.as_bytes());
        Ok(in_bold(&String::from_utf8_lossy(&page)))
    }
}

/// A function that renders a section of a page.
type Render = fn(&Man, &mut dyn io::Write) -> io::Result<()>;

/// Returns a section without the definition before its heading, which the title has brought already. Empty if
/// there is none.
fn section(man: &Man, render: Render) -> io::Result<String> {
    let mut text = Vec::new();
    render(man, &mut text)?;
    let text = String::from_utf8_lossy(&text);
    let Some((_, section)) = text.split_once(".SH ") else { return Ok(String::new()) };
    // clap_mangen leaves a space after the last option of a synopsis.
    Ok(section.replace(" \n", "\n"))
}

/// Returns the part of a page about a subcommand: its usage as heading, its description and its options.
fn about_subcommand(subcommand: &Command) -> io::Result<String> {
    let man = Man::new(subcommand.clone().disable_help_flag(true).disable_version_flag(true));
    let [description, options] = [Man::render_description_section, Man::render_options_section]
        .map(|render: Render| section(&man, render));
    let body =
        |section: String| section.split_once('\n').map(|(_, body)| body.to_owned()).unwrap_or_default();
    // Unlike the synopsis of a page, the usage shows the values of options.
    let usage = subcommand.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim().replace('-', "\\-");
    Ok(format!(".SS {usage}\n{}{}", body(description?), body(options?)))
}

/// Replaces backticks by bold font, as is usual in manual pages.
fn in_bold(page: &str) -> String {
    let mut parts = page.split('`');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for (part, font) in parts.zip([r"\fB", r"\fR"].into_iter().cycle()) {
        text.push_str(font);
        text.push_str(part);
    }
    text
}

/// Splits a text into the part before the first section, and the sections.
fn split_sections(text: &str) -> (&str, &str) {
    let at = if text.starts_with(".SH ") { Some(0) } else { text.find("\n.SH ").map(|at| at + 1) };
    at.and_then(|at| text.split_at_checked(at)).unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn text_before_sections_continues_description() {
        assert_eq!(split_sections("a\n.SH B\nb\n.SH C\n"), ("a\n", ".SH B\nb\n.SH C\n"));
        assert_eq!(split_sections(".SH B\nb\n"), ("", ".SH B\nb\n"));
        assert_eq!(split_sections("a\n"), ("a\n", ""));
    }

    #[test]
    fn page_has_options_of_program_and_commands() {
        let command = || {
            let sub = Command::new("show")
                .about("Shows it")
                .arg(clap::Arg::new("all").long("all").value_name("WHAT").required(true).help("All `of` it"));
            Command::new("prog")
                .about("Does it")
                .arg(clap::arg!(--loud "Loudly").global(true))
                .subcommand(sub)
        };
        let program = Program { name: "prog", section: "1", command, text: "More.\n.SH FILES\nNone.\n" };
        let page = program.page().unwrap();
        let mut rest = page.as_str();
        for part in [
            ".TH PROG 1",
            ".SH NAME",
            "prog \\- Does it",
            ".SH DESCRIPTION",
            "More.",
            ".SH OPTIONS",
            "\\-\\-loud",
            ".SH COMMANDS",
            ".SS show \\-\\-all <WHAT>\n",
            "Shows it",
            "\\-\\-all",
            "All \\fBof\\fR it",
            ".SH FILES",
        ] {
            rest =
                rest.split_once(part).unwrap_or_else(|| panic!("no {part} in its destination in:\n{page}")).1;
        }
        assert_eq!(page.matches("Loudly").count(), 1, "{page}");
    }

    #[test]
    fn page_has_all_words_of_help_epilogue() {
        for program in PROGRAMS {
            let page = program.page().unwrap();
            let page = [r"\fB", r"\fI", r"\fR"].iter().fold(page, |page, font| page.replace(font, ""));
            let page = page.replace(r"\-", "-").to_lowercase();
            let words = |text: &str| -> BTreeSet<String> {
                text.split(|c: char| !c.is_alphanumeric() && c != '-').map(str::to_owned).collect()
            };
            let help = (program.command)().get_after_help().map(ToString::to_string).unwrap_or_default();
            let help = words(&help.to_lowercase());
            let missing: Vec<_> = help.difference(&words(&page)).cloned().collect();
            assert_eq!(missing, <[String; 0]>::default(), "{}", program.name);
        }
    }
}
