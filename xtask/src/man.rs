//! `cargo xtask man`: manual pages and completions for shells, from the programs' own definitions of their options.
//!
//! A page is made of what the options say of themselves and of what a file beside their definition, `args.roff`, says
//! of the rest: its text before the first `.SH` continues the description, the sections follow the options.

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

/// The programs: one line each.
const PROGRAMS: &[Program] =
    &[program!("pr-ctl", "1", pr_ctl::Args::command), program!("pr-helper", "8", pr_helper::Args::command)];

/// A program that people start.
struct Program {
    name: &'static str,
    /// Section of the manual: 1 for everybody's commands, 8 for those of administrators.
    section: &'static str,
    command: fn() -> Command,
    /// What `args.roff` holds.
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
    /// Change nothing, and fail if a file is not what would be written
    #[arg(long)]
    check: bool,
}

/// Writes the files, or compares them.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    for program in PROGRAMS {
        for (path, content) in program.files()? {
            let place = workspace::root().join(&path);
            if !options.check {
                let directory = place.parent().unwrap_or(&place);
                fs::create_dir_all(directory).context(|| format!("create {}", directory.display()))?;
                fs::write(&place, content).context(|| format!("write {}", place.display()))?;
            } else if fs::read(&place).context(|| format!("read {}", place.display()))? != content {
                return Err(Error::new(format!(
                    "{} is not what the options of {} give: run cargo xtask man",
                    path.display(),
                    program.name
                )));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Program {
    /// All that is written for it: path in the workspace, content.
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
            // None, so that the page depends on nothing but its sources; it must be quoted to count.
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

/// What renders a section of a page.
type Render = fn(&Man, &mut dyn io::Write) -> io::Result<()>;

/// A section, without what precedes its heading: a definition that the title has brought already. Empty, if there is none.
fn section(man: &Man, render: Render) -> io::Result<String> {
    let mut text = Vec::new();
    render(man, &mut text)?;
    let text = String::from_utf8_lossy(&text);
    let Some((_, section)) = text.split_once(".SH ") else { return Ok(String::new()) };
    // There is a space after the last of the options in a synopsis.
    Ok(section.replace(" \n", "\n"))
}

/// A subcommand on its program's page: what it takes, as a heading, what it does, and its own options.
fn about_subcommand(subcommand: &Command) -> io::Result<String> {
    let man = Man::new(subcommand.clone().disable_help_flag(true).disable_version_flag(true));
    let [description, options] = [Man::render_description_section, Man::render_options_section]
        .map(|render: Render| section(&man, render));
    let body =
        |section: String| section.split_once('\n').map(|(_, body)| body.to_owned()).unwrap_or_default();
    // The synopsis of a page has no values of options; the usage has.
    let usage = subcommand.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim().replace('-', "\\-");
    Ok(format!(".SS {usage}\n{}{}", body(description?), body(options?)))
}

/// The text with what is between backticks in bold, as manuals have it.
fn in_bold(page: &str) -> String {
    let mut parts = page.split('`');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for (part, font) in parts.zip([r"\fB", r"\fR"].into_iter().cycle()) {
        text.push_str(font);
        text.push_str(part);
    }
    text
}

/// The text before the first section, and the sections.
fn split_sections(text: &str) -> (&str, &str) {
    let at = if text.starts_with(".SH ") { Some(0) } else { text.find("\n.SH ").map(|at| at + 1) };
    at.and_then(|at| text.split_at_checked(at)).unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_the_text_begins_with_continues_the_description() {
        assert_eq!(split_sections("a\n.SH B\nb\n.SH C\n"), ("a\n", ".SH B\nb\n.SH C\n"));
        assert_eq!(split_sections(".SH B\nb\n"), ("", ".SH B\nb\n"));
        assert_eq!(split_sections("a\n"), ("a\n", ""));
    }

    #[test]
    fn a_page_has_the_options_of_the_program_and_of_its_commands() {
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
            rest = rest.split_once(part).unwrap_or_else(|| panic!("no {part} in its place in:\n{page}")).1;
        }
        assert_eq!(page.matches("Loudly").count(), 1, "{page}");
    }

    #[test]
    fn what_the_help_says_after_the_options_is_on_the_page_too() {
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
