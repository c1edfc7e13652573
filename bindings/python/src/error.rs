//! Converts errors to Python's exceptions, with remedies in Python's terms.

use pyo3::prelude::*;
use vitstream::{Description, ErrorKind, PackageOption, Remedy, message_with_causes};
use vitstream_text::phonemizer::PhonemizerError;

/// An error that becomes one of the package's exceptions.
pub(crate) struct Failure {
    kind: &'static str,
    message: String,
    path: Option<String>,
    remedy: Option<String>,
}

impl Failure {
    pub(crate) fn request(message: impl Into<String>) -> Self {
        Self { kind: "request", message: message.into(), path: None, remedy: None }
    }
}

impl From<vitstream::Error> for Failure {
    fn from(error: vitstream::Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::Io => "io",
            ErrorKind::Input => "input",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::Request => "request",
            ErrorKind::Output => "output",
            ErrorKind::Runtime => "runtime",
            ErrorKind::Interrupted => "interrupted",
            _ => "internal",
        };
        Self {
            kind,
            message: message_with_causes(&error),
            path: error.path().map(|path| path.to_string_lossy().into_owned()),
            remedy: error.remedy().as_ref().and_then(of_voice),
        }
    }
}

impl From<PhonemizerError> for Failure {
    fn from(error: PhonemizerError) -> Self {
        let remedy = match &error {
            PhonemizerError::NotInstalled { .. } => {
                Some("or with espeak=; phonemizer= takes any program instead".to_owned())
            }
            _ => None,
        };
        Self { kind: "phonemizer", message: message_with_causes(&error), path: None, remedy }
    }
}

impl From<vitstream_text::Error> for Failure {
    fn from(error: vitstream_text::Error) -> Self {
        use vitstream_text::Error as E;
        let (kind, remedy) = match error {
            E::Phonemizer(error) => return error.into(),
            E::Config(_) => ("input", None),
            E::Unsupported { .. } => ("unsupported", Some("phonemes= and ids= take them".to_owned())),
            _ => ("request", None),
        };
        Self { kind, message: message_with_causes(&error), path: None, remedy }
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        let Failure { kind, message, path, remedy } = failure;
        Python::attach(|py| {
            let made = py
                .import("vitstream._errors")
                .and_then(|errors| errors.getattr("made")?.call1((kind, message, path, remedy)));
            made.map_or_else(|error| error, PyErr::from_value)
        })
    }
}

fn of_voice(remedy: &Remedy) -> Option<String> {
    Some(match remedy {
        Remedy::SampleRate => "give it as sample_rate=".to_owned(),
        Remedy::Config => "name it with config=".to_owned(),
        Remedy::HParams(missing) => {
            let given: Vec<String> =
                missing.iter().map(|(name, example)| format!("{name:?}: {example:?}")).collect();
            format!(
                "name the config.json of the training or the voice's JSON with config=, or give each with the voice's own \
                 values, such as hparams={{{}}}",
                given.join(", ")
            )
        }
        Remedy::NoiseInput => {
            "export it with noise=\"input\", or speak with noise_scale=0 and noise_w=0".to_owned()
        }
        Remedy::AllowNan => "allow_nan=True accepts them".to_owned(),
        Remedy::Memory => "memory_budget= allows more bytes".to_owned(),
        Remedy::OtherConfig => "change the JSON, or name another with config=".to_owned(),
        Remedy::SingleGraph => "export it without package= and with layout=\"single\"".to_owned(),
        Remedy::Describe(description) => match description {
            Description::Language => "give it as language=".to_owned(),
            Description::Name => "give it as name=".to_owned(),
            Description::Quality => "give it as quality=".to_owned(),
            _ => return None,
        },
        Remedy::NotForPackage { client, option } => {
            let option = match option {
                PackageOption::SingleLayout => "layout=\"single\"",
                PackageOption::NoiseInput => "noise=\"input\"",
                PackageOption::Opset => "opset=",
                _ => return None,
            };
            format!("leave out {option} or package={client:?}")
        }
        _ => return None,
    })
}
