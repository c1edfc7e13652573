//! Markup that is converted to passages.

mod markdown;
mod ssml;

pub use markdown::Markdown;
pub use ssml::ssml;
