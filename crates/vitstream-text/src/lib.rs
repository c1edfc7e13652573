//! Text to what a VITS voice reads: sentences, phonemes, ids.
//!
//! A voice speaks well only what it was trained on, so the ids here are those that the training's own programs make:
//! Piper's, transformers' (MMS), original VITS' and Coqui's.
//!
//! ```text
//! text ─▶ markup ─▶ Lexicon ─▶ Sentences ─▶ Frontend ─▶ Sentence { phonemes, ids, ... }
//!          optional  optional   of a stream     │ ▲
//!                                        clause ▼ │ IPA
//!                                             Phonemizer
//! ```
//!
//! - [`Reader`] is all of this together, as programs use it; what follows are its parts.
//! - [`Frontend`] is made from a voice's JSON ([`config`] says which keys) and turns text into [`Sentence`]s.
//! - [`Sentences`] cuts text that is still being written, [`clauses`] are what it is cut at.
//! - [`phonemizer`] has the ways to espeak-ng. It is licensed under the GPL and therefore no part of this crate: a copy
//!   that the user has is loaded or started.
//! - [`Lexicon`] and [`markup`] say how words are pronounced, where silence is, and take Markdown out. What they say is
//!   carried by a [`Passage`].
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
//! // Programs take `EspeakLibrary::find(None)?` here.
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
//! *Identical to Piper* depends on the copy of espeak-ng, not on what is around it: releases differ, and voices have
//! been trained with several. So the user chooses the library, and all that is around it is exact here: where
//! espeak-ng ends clauses and sentences follows from the text ([`clauses`]), and the sounds of a clause alone are those
//! it has within its text. A phonemizer therefore only has to answer with the IPA of one clause, whichever kind it is,
//! and text can be spoken while it is still arriving.
//!
//! `unsafe` is in one module, which calls the loaded library.
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
