//! Words remedies for the command line: the library names a remedy, and knows no options.

use vitstream::{Description, Error, PackageOption, Remedy};
use vitstream_text::phonemizer::PhonemizerError;

/// The remedy for `error`, as the rest of a sentence; `None` if none is known.
pub(crate) fn of(error: &anyhow::Error) -> Option<String> {
    let of_voice =
        || error.chain().find_map(|cause| cause.downcast_ref::<Error>()?.remedy()).as_ref().and_then(words);
    of_voice().or_else(|| error.chain().find_map(of_text).map(str::to_owned))
}

fn of_text(cause: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    use vitstream_text::Error as E;
    let of_phonemizer = |error: &PhonemizerError| match error {
        PhonemizerError::NotInstalled { .. } => {
            Some("or with --espeak; --phonemizer takes any program instead")
        }
        _ => None,
    };
    if let Some(error) = cause.downcast_ref::<PhonemizerError>() {
        return of_phonemizer(error);
    }
    match cause.downcast_ref::<E>()? {
        E::Phonemizer(error) => of_phonemizer(error),
        E::Unsupported { instead, .. } if instead.contains("phonemes or ids") => {
            Some("--phonemes and --ids take them, and so do `phonemes` and `phoneme_ids` in a line of JSON")
        }
        _ => None,
    }
}

fn words(remedy: &Remedy) -> Option<String> {
    Some(match remedy {
        Remedy::SampleRate => "give it with --sample-rate".to_owned(),
        Remedy::Config => "name it with --config".to_owned(),
        Remedy::HParams(missing) => {
            let flags: Vec<String> =
                missing.iter().map(|(name, example)| format!("--hparam \"{name}={example}\"")).collect();
            format!(
                "name the config.json of the training or the voice's JSON with --config, or give each with the voice's own \
                 values, such as {}",
                flags.join(" ")
            )
        }
        Remedy::NoiseInput => {
            "export it with `--noise input`, or speak with --noise-scale 0 and --noise-w 0".to_owned()
        }
        Remedy::AllowNan => "--allow-nan accepts them".to_owned(),
        Remedy::HalfPrecision => {
            "export it with `--precision f16-weights` and open the result, or omit --half-weights".to_owned()
        }
        Remedy::Memory => "--memory-budget allows more".to_owned(),
        Remedy::OtherConfig => "change the JSON, or name another with --config".to_owned(),
        Remedy::SingleGraph => "export it without --package and with --layout single".to_owned(),
        Remedy::Describe(description) => match description {
            Description::Language => "give it with --language".to_owned(),
            Description::Name => "give it with --name".to_owned(),
            Description::Quality => "give it with --quality".to_owned(),
            _ => return None,
        },
        Remedy::NotForPackage { client, option } => {
            let option = match option {
                PackageOption::SingleLayout => "--layout single",
                PackageOption::NoiseInput => "--noise input",
                PackageOption::Opset => "--opset",
                _ => return None,
            };
            format!("leave out {option} or --package {client}")
        }
        _ => return None,
    })
}
