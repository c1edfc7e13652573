//! Reads a settings file: the options of `serve` under their names.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::{ArgAction, CommandFactory as _, FromArgMatches as _, Parser};
use toml::Value;
use vitstream::read_file;

use super::Args;

/// Limit on the bytes of a settings file.
const MAX_SETTINGS: u64 = 1 << 20;

/// The key for the positional arguments, which have no name on the command line.
const VOICES: &str = "voices";

/// The options of `serve`, with later ones taking precedence.
#[derive(Parser)]
#[command(name = "serve", args_override_self = true)]
struct Overriding {
    #[command(flatten)]
    args: Args,
    /// Given before `serve`, and already applied.
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
    /// Given before `serve`, and already applied.
    #[arg(short, long)]
    quiet: bool,
}

/// The settings in the file at `path`, followed by the words of the command line.
pub(super) fn with(path: &Path, words: impl IntoIterator<Item = OsString>) -> Result<Args> {
    let named = || path.display().to_string();
    let bytes = read_file(path, MAX_SETTINGS)?;
    let text = vitstream_text::utf8(&bytes).with_context(named)?;
    let table: toml::Table = text.parse().with_context(named)?;
    let mut all = vec![OsString::from("serve")];
    all.extend(options(&table).with_context(named)?.into_iter().map(OsString::from));
    // The file's settings must be valid by themselves.
    if let Err(error) = Overriding::try_parse_from(&all) {
        let reason = error.to_string();
        let reason = reason.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        bail!("{}: {reason}", named());
    }
    all.extend(words);
    // The command line alone was accepted before, so this is accepted too.
    Ok(Overriding::from_arg_matches(&Overriding::command().get_matches_from(all))?.args)
}

/// The settings as command-line options.
fn options(table: &toml::Table) -> Result<Vec<String>> {
    let command = Overriding::command();
    let mut options = Vec::new();
    for (key, value) in table {
        let values = match value {
            Value::Array(values) => &values[..],
            value => std::slice::from_ref(value),
        };
        if key == VOICES {
            for value in values {
                match value.as_str() {
                    // On the command line, a word that begins like this is an option.
                    Some(voice) if voice.starts_with('-') => bail!("{key}: {voice}: write ./{voice}"),
                    Some(voice) => options.push(voice.to_owned()),
                    None => bail!("{key}: expected strings, found {}", value.type_str()),
                }
            }
            continue;
        }
        let known = command.get_arguments().find(|known| known.get_long() == Some(key));
        let Some(known) = known
            .filter(|known| !["settings", "help", "quiet", "verbose"].contains(&known.get_id().as_str()))
        else {
            bail!(
                "{key}: no such setting; `vitstream serve --help` lists the options; write them without the leading dashes"
            );
        };
        let is_flag = !known.get_action().takes_values();
        for value in values {
            match value {
                Value::Boolean(set) if is_flag => options.extend(set.then(|| format!("--{key}"))),
                _ if is_flag => bail!("{key}: expected true or false, found {}", value.type_str()),
                Value::String(text) => options.push(format!("--{key}={text}")),
                Value::Integer(number) => options.push(format!("--{key}={number}")),
                Value::Float(number) => options.push(format!("--{key}={number}")),
                other => bail!("{key}: expected a string or a number, found {}", other.type_str()),
            }
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::super::Address;
    use super::*;

    fn read(text: &str, words: &[&str]) -> Result<Args> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        with(file.path(), words.iter().map(OsString::from))
    }

    #[test]
    fn the_command_line_counts_more() {
        let text = "voices = [\"/a\", \"b\"]\nhttp = \"127.0.0.1:1\"\nmax-load = 0.5\nmemory = 7\nwyoming-lan = false\n\
                    allow-origin = [\"https://a.org\", \"https://b.org\"]";
        let args = read(text, &["--memory", "9", "-v"]).unwrap();
        assert_eq!((args.memory, args.capacity.max_load, args.wyoming_lan), (9, 0.5, false));
        assert_eq!(args.voices, ["/a", "b"].map(std::path::PathBuf::from));
        assert_eq!(args.allow_origin.len(), 2);
        assert_eq!(args.http, Address::Tcp(([127, 0, 0, 1], 1).into()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, words) in [
            ("voices = \"-q\"", "write ./-q"),
            ("voices = [1]", "voices: expected strings, found integer"),
            ("voices = \"a\"\nmemry = 1", "memry: no such setting"),
            ("voices = \"a\"\nwyoming-lan = 1", "wyoming-lan: expected true or false"),
            ("voices = \"a\"\nmemory = \"much\"", "'much'"),
            ("voices = \"a\"\nmemory = {}", "memory: expected a string or a number, found table"),
            ("voices = \"a\"\nsettings = \"x\"", "settings: no such setting"),
            ("voices", "TOML"),
        ] {
            let error = format!("{:#}", read(text, &[]).err().unwrap());
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
