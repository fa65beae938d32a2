//! HTML by hand: the one way of a text into a page.

use std::fmt::{self, Write as _};

/// A text in a page: whatever stands in it, it stays a text, between tags and in attributes with quotes around them.
pub struct Text<'a>(pub &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_cannot_become_markup() {
        assert_eq!(Text("<b a='1' c=\"2\">&é").to_string(), "&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp;é");
    }
}
