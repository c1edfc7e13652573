//! Converts text to the input of a VITS voice: sentences, phonemes, ids.
//!
//! A voice speaks well only input like its training data, so the ids here are those that the training
//! programs produce: Piper's, transformers' (MMS), original VITS's and Coqui's.
//!
//! ```text
//! text ─▶ markup ─▶ Lexicon ─▶ Sentences ─▶ Frontend ─▶ Sentence { phonemes, ids, ... }
//!          optional  optional   of a stream     │ ▲
//!                                        clause ▼ │ IPA
//!                                             Phonemizer
//! ```
//!
//! - [`Reader`] combines everything for programs; the following are its parts.
//! - [`Frontend`] is created from a voice's JSON (see [`config`] for the keys) and turns text into
//!   [`Sentence`]s.
//! - [`Sentences`] divides text that is still being written, at the boundaries of [`clauses`].
//! - [`phonemizer`] contains the connections to espeak-ng. It is licensed under the GPL and therefore not
//!   part of this crate: the user's copy is loaded or started.
//! - [`Lexicon`] and [`markup`] define pronunciations and silence, and remove Markdown. Their results are
//!   stored in a [`Passage`].
//!
//! ```
//! use vitstream_text::phonemizer::Recorded;
//! use vitstream_text::{Frontend, Lexicon, Passage};
//!
//! let json = serde_json::json!({
//!     "phoneme_type": "espeak",
//!     "espeak": {"voice": "en-us"},
//!     "phoneme_id_map": {"^": [1], "_": [0], "$": [2], "h": [3], "a": [4], "ɪ": [5], ".": [6]},
//! });
//! let frontend = Frontend::from_json(json.as_object().unwrap())?;
//!
//! // Programs use `EspeakLibrary::find(None)?` here.
//! let mut phonemizer = Recorded::default();
//! phonemizer.insert("en-us", "Hi.", "haɪ");
//!
//! let sentences = frontend.speak(&Passage::from("Hi."), &mut phonemizer)?;
//! assert_eq!(sentences[0].phonemes.concat(), "haɪ.");
//! assert_eq!(sentences[0].ids, [1, 0, 3, 0, 4, 0, 5, 0, 6, 0, 2]);
//!
//! let lexicon: Lexicon = "hi = /ha/".parse()?;
//! let sentences = frontend.speak(&lexicon.apply(Passage::from("Hi.")), &mut phonemizer)?;
//! assert_eq!(sentences[0].phonemes.concat(), "ha.");
//! # Ok::<(), vitstream_text::Error>(())
//! ```
//!
//! # Design
//! *Identical to Piper* depends on the copy of espeak-ng: releases differ, and voices were trained with
//! several. The user therefore chooses the library, and everything around it is exact: the places where
//! espeak-ng ends clauses and sentences follow from the text ([`clauses`]), and the sounds of a clause alone
//! are the same as within its text. A phonemizer of any kind therefore only has to return the IPA of one
//! clause, and text can be spoken while it is still arriving.
//!
//! `unsafe` is confined to one module, which calls the loaded library.
#![deny(unsafe_code)]

pub mod clauses;
mod cleaners;
pub mod config;
mod error;
mod fitting;
mod frontend;
mod huggingface;
pub mod ids;
mod lexicon;
pub mod markup;
mod passage;
pub mod phonemizer;
mod piper;
mod punctuation;
mod reader;
mod sentence;
mod sentences;
mod shown;
mod vits;

pub use error::{Error, utf8};
pub use frontend::Frontend;
pub use lexicon::Lexicon;
pub use passage::Passage;
pub use reader::Reader;
pub use sentence::{Mark, Sentence, SpokenClause, Word};
pub use sentences::Sentences;
