//! `vitstream voices`: lists published and installed voices, and installs them.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::voices::{self, Entry, Name, Offer, Voices};

/// List Piper's published voices, or install one by name
///
/// Voices are stored in this user's data folder. The list comes from the Hugging Face hub, or from
/// VITSTREAM_VOICES_URL if set; HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, HF_HUB_DOWNLOAD_TIMEOUT, HTTPS_PROXY,
/// NO_PROXY and SSL_CERT_FILE are honoured.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    /// Only voices of this language, such as `de`, `de_DE` or `German`
    #[arg(long, value_name = "LANGUAGE")]
    language: Option<String>,

    /// Print a list of JSON objects
    #[arg(long)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Install voices, and print their paths
    Get {
        /// A name from the list, such as `en_US-lessac-medium`; `facebook/mms-tts-LANGUAGE`, with a
        /// three-letter code of ISO 639-3; or any repository of the hub as hf:OWNER/REPO, with @REVISION and
        /// :FILE if needed
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

pub(crate) fn run(args: &Args, quiet: bool) -> Result<()> {
    let voices = Voices::from_env()?;
    match &args.command {
        None => list(&voices, args),
        Some(Command::Get { names }) => {
            let names: Vec<Name> = names.iter().map(|name| Name::parse(name)).collect::<Result<_>>()?;
            for name in &names {
                let path = match voices.find(name)? {
                    Some(path) => path,
                    None => get(&voices, &voices.offer(name)?, quiet)?,
                };
                writeln!(io::stdout(), "{}", path.display())?;
            }
            Ok(())
        }
    }
}

/// An entry of the list as JSON.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    entry: &'a Entry,
    size_bytes: u64,
    /// Its path, if it is installed.
    path: Option<PathBuf>,
}

fn list(voices: &Voices, args: &Args) -> Result<()> {
    let index = voices.index()?;
    let mut lines = Vec::new();
    for entry in index.of_language(args.language.as_deref()) {
        // A folder that cannot be read must not hide the published voices.
        let path = voices.find_published(entry).unwrap_or_default();
        lines.push(Line { entry, size_bytes: entry.size(), path });
    }
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &lines).map_err(io::Error::from)?;
        writeln!(out)?;
        return Ok(());
    }
    if lines.is_empty() {
        let language = args.language.as_deref().unwrap_or_default();
        bail!("no published voice speaks {language:?}; `vitstream voices` lists all");
    }
    let longest = |of: fn(&Entry) -> &str| {
        lines.iter().map(|line| of(line.entry).chars().count()).max().unwrap_or_default()
    };
    let (keys, languages) = (longest(|entry| &entry.key), longest(|entry| &entry.language.name_english));
    for Line { entry, size_bytes, path } in &lines {
        let speakers = match entry.num_speakers {
            0 | 1 => String::new(),
            n => format!("{n} speakers"),
        };
        let here = if path.is_some() { "here" } else { "" };
        let line = format!(
            "{:keys$}  {:languages$}  {:6}  {:>10}  {speakers:13}  {here}",
            entry.key,
            entry.language.name_english,
            entry.quality,
            HumanBytes(*size_bytes).to_string(),
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn get(voices: &Voices, offer: &Offer, quiet: bool) -> Result<PathBuf> {
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let style =
        ProgressStyle::with_template("{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left")
            .context("bar")?;
    let bar = ProgressBar::with_draw_target(Some(offer.size()), target).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    let path = voices.get(offer, &mut |bytes| bar.set_position(bytes));
    bar.finish_and_clear();
    path
}

/// The voice meant by `path`, which may be a name. If it is not installed, a terminal user is asked whether
/// to install it; otherwise it is an error that says how to install it.
pub(crate) fn resolve(path: &Path, quiet: bool) -> Result<PathBuf> {
    voices::resolve(path, |voices, name| {
        let shown = path.display();
        if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
            bail!(
                "{shown}: no such file or folder, and no voice of this name is installed; try `vitstream voices get {shown}`"
            );
        }
        let offer = voices.offer(name).with_context(|| {
            format!(
                "{shown}: no such file or folder, and no voice of this name is installed or can be downloaded"
            )
        })?;
        eprint!("The voice {shown} is not installed. Download it ({})? [Y/n] ", HumanBytes(offer.size()));
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        match answer.trim().to_lowercase().as_str() {
            "" | "y" | "yes" => get(voices, &offer, quiet),
            _ => bail!("{shown} is not installed"),
        }
    })
}
