//! Removes Markdown, which language models write and which should not be read aloud.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// Removes Markdown from text: the words of links and emphasis stay, as do the descriptions of pictures;
/// headings, list items and table cells end like sentences; code blocks, HTML and footnotes are left out.
///
/// It takes a whole text, or successive sentences from [`Sentences`](crate::Sentences), and remembers whether
/// a code block is open between them. A mark of emphasis whose counterpart is in another sentence is removed
/// as well.
///
/// ```
/// use vitstream_text::markup::Markdown;
///
/// let mut markdown = Markdown::default();
/// assert_eq!(markdown.strip("# Title\n\nSome **bold** [words](http://x.y) and `code`."), "Title\n\nSome bold words and code.");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Markdown {
    /// The fence of the open code block.
    fence: Option<String>,
}

impl Markdown {
    /// `text` without Markdown.
    pub fn strip(&mut self, text: &str) -> String {
        let text = self.without_code(text);
        let mut out = String::with_capacity(text.len());
        // Nesting depth of parts that are not read.
        let mut silent = 0_usize;
        let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
        for event in Parser::new_ext(&text, options) {
            match event {
                Event::Start(Tag::CodeBlock(_) | Tag::HtmlBlock | Tag::FootnoteDefinition(_)) => silent += 1,
                Event::End(TagEnd::CodeBlock | TagEnd::HtmlBlock | TagEnd::FootnoteDefinition) => {
                    silent = silent.saturating_sub(1);
                }
                _ if silent > 0 => {}
                Event::Text(words) => out.push_str(&words),
                Event::Code(words) => out.push_str(&words),
                Event::SoftBreak => out.push('\n'),
                Event::HardBreak | Event::Rule => end(&mut out),
                Event::End(
                    TagEnd::Paragraph
                    | TagEnd::Heading(_)
                    | TagEnd::Item
                    | TagEnd::TableRow
                    | TagEnd::TableHead,
                ) => {
                    end(&mut out);
                }
                Event::End(TagEnd::TableCell) => out.push_str(", "),
                _ => {}
            }
        }
        let stripped = without_marks(&out);
        let stripped = stripped.trim_end_matches(['\n', ' ', ',']).to_owned();
        if !stripped.contains(char::is_alphanumeric)
            && !text.starts_with(['|', ':', '-', '='])
            && text.contains(char::is_alphanumeric)
            && !text.contains(['<', '[', '`', '~'])
        {
            // Only the number of a list item.
            return without_marks(&text);
        }
        // The white space after a sentence separates it from the next one.
        let space = &text[text.trim_end().len()..];
        if stripped.is_empty() { String::new() } else { stripped + space }
    }

    /// The lines outside code blocks.
    fn without_code(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for line in text.split_inclusive('\n') {
            let trimmed = line.trim_start();
            let run = |c: char| trimmed.chars().take_while(|&found| found == c).count();
            match &self.fence {
                Some(fence) => {
                    if trimmed.starts_with(&**fence) {
                        self.fence = None;
                    }
                }
                None => match ['`', '~'].into_iter().find(|&c| run(c) >= 3) {
                    // Code between two fences on one line is not a block.
                    Some(c) if !(c == '`' && trimmed[run(c)..].contains('`')) => {
                        self.fence = Some(c.to_string().repeat(run(c)));
                    }
                    _ => out.push_str(line),
                },
            }
        }
        out
    }
}

/// Ends a sentence.
fn end(out: &mut String) {
    let length = out.trim_end_matches([' ', ',', '\n']).len();
    if length > 0 {
        out.truncate(length);
        out.push_str("\n\n");
    }
}

/// Removes marks of emphasis and code at the edges of words.
fn without_marks(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let is_mark = |c: char| matches!(c, '*' | '_' | '`' | '~');
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        if !is_mark(c) {
            out.push(c);
            at += 1;
            continue;
        }
        let run = chars[at..].iter().take_while(|&&other| other == c).count();
        let before = at.checked_sub(1).map(|before| chars[before]);
        let after = chars.get(at + run).copied();
        let is_edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
        // `2 * 3`, `snake_case` and `~5` are kept.
        let alone = before.is_none_or(char::is_whitespace) && after.is_none_or(char::is_whitespace);
        let keep = match c {
            '~' => run < 2,
            '`' => false,
            _ => run == 1 && alone && at > 0 || !is_edge(before) && !is_edge(after),
        };
        if keep {
            out.extend(&chars[at..at + run]);
        }
        at += run;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strip(text: &str) -> String {
        Markdown::default().strip(text)
    }

    #[test]
    fn only_words_stay() {
        assert_eq!(strip("a *b* __c__ ~~d~~ `e`\nf"), "a b c d e\nf");
        assert_eq!(strip("- one\n- two\n\n1. three\n"), "one\n\ntwo\n\nthree\n");
        assert_eq!(strip("![a cat](x.png) <b>x</b> [y][1]\n\n[1]: http://z"), "a cat x y");
        assert_eq!(strip("| a | b |\n|---|---|\n| 1 | 2 |\n"), "a, b\n\n1, 2\n");
        assert_eq!(strip("> quoted\n\n---\n\nend"), "quoted\n\nend");
        assert_eq!(strip("2 * 3 is snake_case, ~5."), "2 * 3 is snake_case, ~5.");
        assert_eq!(strip(""), "");
        assert_eq!(strip("Plain. "), "Plain. ");
    }

    #[test]
    fn sentences_of_one_text_are_taken_one_by_one() {
        let mut markdown = Markdown::default();
        let parts =
            ["**Bold. ", "Still bold.** ", "1. ", "First. ", "```rust\nlet x;\n\n", "x.y();\n```\nAfter."];
        let stripped: Vec<String> = parts.iter().map(|part| markdown.strip(part)).collect();
        assert_eq!(stripped, ["Bold. ", "Still bold. ", "1. ", "First. ", "", "After."]);
    }
}
