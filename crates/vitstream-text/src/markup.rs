//! Passes before: what a text says about itself.

mod markdown;
mod ssml;

pub use markdown::Markdown;
pub use ssml::ssml;
