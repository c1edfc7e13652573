//! x
#![deny(unsafe_code)]

pub mod clauses;
mod cleaners;
pub mod config;
mod error;
mod frontend;
mod huggingface;
pub mod ids;
mod passage;
pub mod phonemizer;
mod piper;
mod punctuation;
mod sentence;
mod sentences;
mod vits;

pub use error::{Error, utf8};
pub use frontend::Frontend;
pub use passage::Passage;
pub use sentence::{Sentence, SpokenClause, Word};
pub use sentences::Sentences;
