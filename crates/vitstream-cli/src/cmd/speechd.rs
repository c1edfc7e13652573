//! `vitstream speechd`: an output module for speech-dispatcher, whose server starts it and talks to it on
//! standard input and output.

mod catalogue;
mod configuration;
mod control;
mod message;
mod protocol;
mod settings;
mod wire;

use std::io::{self, BufRead};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, bail};

use super::VoiceArgs;
use super::lines::read_line;
use super::phonemizer::PhonemizerArgs;
use super::terminal::{describe, say};
use catalogue::Catalogue;
use configuration::Offer;
use control::{Control, Wish};
use message::{Message, Voices};
use protocol::{CANNOT_SPEAK, Conversation, Request, Step};
use settings::{Pairs, Settings};
use wire::Wire;

/// Speak for speech-dispatcher, and thus for Orca and other screen readers
///
/// The server starts this command and uses its module protocol on standard input and output; docs/speechd.md
/// describes the setup. Each voice is opened once, and audio is sent to the server while it is computed. A
/// rate of 0 is the voice's own, 100 is three times as fast, and -100 a third as fast; a volume of 100 leaves
/// the samples unchanged. The pitch is part of the voice and cannot be changed.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Voices, as for `speak`; the first one is the default
    #[arg(required_unless_present = "module_config")]
    voice: Vec<PathBuf>,

    /// The module's file in the server's configuration, with a line AddVoice "LANGUAGE" "TYPE" "VOICE" for
    /// each additional voice
    #[arg(long, value_name = "FILE")]
    module_config: Option<PathBuf>,

    /// Make the noise reproducible
    #[arg(long)]
    seed: Option<u64>,

    /// A file of pronunciations, as for `speak`
    #[arg(long, value_name = "FILE", help_heading = "Reading text")]
    lexicon: Option<PathBuf>,

    #[command(flatten)]
    phonemizer: PhonemizerArgs,

    #[command(flatten)]
    options: VoiceArgs,
}

pub(crate) fn run(args: &Args, quiet: bool) -> Result<()> {
    let wire = Wire::new(io::stdout());
    serve(io::stdin().lock(), &wire, || open(args, quiet), args.seed)
}

fn open(args: &Args, quiet: bool) -> Result<Catalogue> {
    let mut offers: Vec<Offer> = args.voice.iter().cloned().map(Offer::from).collect();
    if let Some(path) = &args.module_config {
        offers.extend(configuration::read(path)?);
        if offers.is_empty() {
            bail!(
                "{}: expected a voice, found none; add a line AddVoice \"LANGUAGE\" \"TYPE\" \"VOICE\"",
                path.display()
            );
        }
    }
    Catalogue::open(offers, args, quiet)
}

/// The thread that speaks while the server's messages are read.
struct Worker {
    messages: Sender<Message>,
    thread: JoinHandle<Result<()>>,
    listing: String,
}

impl Worker {
    fn start(mut voices: Voices) -> Self {
        let listing = voices.catalogue.listing();
        let (messages, receiver) = channel::<Message>();
        let thread = thread::spawn(move || receiver.iter().try_for_each(|message| voices.say(&message)));
        Self { messages, thread, listing }
    }

    /// Waits until the last message has ended.
    fn join(self) -> Result<()> {
        drop(self.messages);
        self.thread.join().unwrap_or_else(|_| bail!("the thread that speaks has panicked"))
    }
}

/// Answers the server until it sends `QUIT` or disappears.
fn serve(
    mut input: impl BufRead,
    wire: &Wire,
    open: impl Fn() -> Result<Catalogue>,
    seed: Option<u64>,
) -> Result<()> {
    let control = Arc::new(Control::default());
    let mut conversation = Conversation::default();
    let mut settings = Settings::default();
    let mut worker: Option<Worker> = None;
    while let Some(line) = read_line(&mut input).context("standard input")? {
        let line = line.ok();
        let line = line.as_deref().map(|line| line.strip_suffix(b"\n").unwrap_or(line));
        let request = match conversation.line(line) {
            Step::More => continue,
            Step::Reply(reply) => {
                wire.send(reply)?;
                continue;
            }
            Step::Request(request) => request,
        };
        match request {
            Request::Init => {
                if worker.is_none() {
                    let catalogue = match open() {
                        Ok(catalogue) => catalogue,
                        Err(error) => {
                            let reason = describe(&error).replace(char::is_control, " ");
                            wire.send(&format!("399-{reason}\n399 ERR CANT INIT MODULE\n"))?;
                            return Err(error);
                        }
                    };
                    let (wire, control) = (wire.clone(), control.clone());
                    worker = Some(Worker::start(Voices { catalogue, wire, control, seed }));
                }
                wire.send(concat!(
                    "299-vitstream ",
                    env!("CARGO_PKG_VERSION"),
                    "\n299 OK LOADED SUCCESSFULLY\n"
                ))?;
            }
            Request::Audio(pairs) => wire.send(audio(&pairs))?,
            Request::LogLevel => wire.send("203 OK LOGLEVEL SET\n")?,
            Request::ListVoices => match &worker {
                Some(worker) => wire.send(&format!("{}200 OK VOICE LIST SENT\n", worker.listing))?,
                None => wire.send("304 CANT LIST VOICES\n")?,
            },
            Request::Set(pairs) => match settings.with(&pairs) {
                Some(changed) => {
                    settings = changed;
                    wire.send("203 OK SETTINGS RECEIVED\n")?;
                }
                None => wire.send("303 ERROR INVALID PARAMETER OR VALUE\n")?,
            },
            Request::Say(kind, text) => match &worker {
                // The server restarts a module that has ended.
                Some(worker) if worker.thread.is_finished() => break,
                Some(worker) if control.begin() => {
                    // Sent before any event of the message.
                    wire.send("200 OK SPEAKING\n")?;
                    let message = Message::new(kind, text, settings.clone());
                    if worker.messages.send(message).is_err() {
                        break;
                    }
                }
                _ => wire.send(CANNOT_SPEAK)?,
            },
            Request::Stop => control.wish(Wish::Stop),
            Request::Pause => control.wish(Wish::Pause),
            Request::Quit => {
                control.wish(Wish::Stop);
                worker.map_or(Ok(()), Worker::join)?;
                return Ok(wire.send("210 OK QUIT\n")?);
            }
        }
    }
    // There is no listener any more, so the rest of a message is not waited for; an error of the thread is
    // reported.
    match worker {
        Some(worker) if worker.thread.is_finished() => worker.join(),
        _ => Ok(()),
    }
}

/// Answers the audio settings.
fn audio(pairs: &Pairs) -> &'static str {
    let method = pairs.iter().find(|(name, _)| name == "audio_output_method");
    match method {
        Some((_, method)) if method == "server" => "203 OK AUDIO INITIALIZED\n",
        _ => {
            say(
                "expected audio_output_method=server: speech-dispatcher 0.11 or later, which plays the audio itself",
            );
            "300-expected audio_output_method=server, which speech-dispatcher 0.11 and later have\n300 MODULE ERROR\n"
        }
    }
}
