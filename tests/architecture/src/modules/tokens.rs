//! Rust text as a list of words: no comments, no insides of strings, nothing that only tests compile.

/// A word, a mark, or `"` with what stands between quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    /// From 1.
    pub line: usize,
}

impl Token {
    pub fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// The tokens of the code that is shipped.
pub fn tokens(text: &str) -> Vec<Token> {
    without_tests(&all(text))
}

fn all(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let (mut tokens, mut line, mut i) = (Vec::new(), 1, 0);
    while i < chars.len() {
        let begin = i;
        let word_before = tokens.last().map(|token: &Token| token.text.clone()).unwrap_or_default();
        match at(i) {
            '/' if at(i + 1) == '/' => {
                while i < chars.len() && at(i) != '\n' {
                    i += 1;
                }
                continue;
            }
            '/' if at(i + 1) == '*' => i = end_of_comment(&chars, i),
            '"' => {
                i = end_of_string(&chars, i);
                let inside: String = chars.get(begin..i).unwrap_or_default().iter().collect();
                tokens.push(Token { text: inside, line });
            }
            'r' | 'b' if is_raw(&chars, i) => i = end_of_raw(&chars, i),
            // A character, not a lifetime: closed after one, or escaped.
            '\'' if at(i + 1) == '\\' || at(i + 2) == '\'' => {
                i += if at(i + 1) == '\\' { 3 } else { 2 };
                while i < chars.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            c if is_part(c) => {
                while is_part(at(i)) {
                    i += 1;
                }
                let text = chars.get(begin..i).unwrap_or_default().iter().collect();
                tokens.push(Token { text, line });
            }
            ':' if at(i + 1) == ':' => {
                tokens.push(Token { text: "::".to_owned(), line });
                i += 2;
            }
            c => {
                if !c.is_whitespace() && word_before != "\\" {
                    tokens.push(Token { text: c.to_string(), line });
                }
                i += 1;
            }
        }
        line += chars.get(begin..i).unwrap_or_default().iter().filter(|c| **c == '\n').count();
    }
    tokens
}

fn end_of_comment(chars: &[char], begin: usize) -> usize {
    let (mut depth, mut i) = (0_usize, begin);
    while i < chars.len() {
        match (chars.get(i), chars.get(i + 1)) {
            (Some('/'), Some('*')) => (depth, i) = (depth + 1, i + 2),
            (Some('*'), Some('/')) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            break;
        }
    }
    i
}

fn end_of_string(chars: &[char], begin: usize) -> usize {
    let mut i = begin + 1;
    while let Some(c) = chars.get(i) {
        match c {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

/// `r"`, `r#"`, `br"`: and no word that only begins so.
fn is_raw(chars: &[char], i: usize) -> bool {
    let after = chars.get(i..).unwrap_or_default().iter().skip_while(|c| **c == 'b').collect::<Vec<_>>();
    let [first, rest @ ..] = after.as_slice() else { return false };
    let is_inside_a_word =
        i.checked_sub(1).and_then(|i| chars.get(i)).is_some_and(|c| c.is_alphanumeric() || *c == '_');
    **first == 'r' && !is_inside_a_word && rest.iter().find(|c| ***c != '#').is_some_and(|c| **c == '"')
}

fn end_of_raw(chars: &[char], begin: usize) -> usize {
    let mut i = begin;
    while chars.get(i).is_some_and(|c| *c == 'b' || *c == 'r') {
        i += 1;
    }
    let marks = chars.get(i..).unwrap_or_default().iter().take_while(|c| **c == '#').count();
    i += marks + 1;
    while i < chars.len() {
        let closes = chars.get(i) == Some(&'"')
            && chars.get(i + 1..).unwrap_or_default().iter().take(marks).filter(|c| **c == '#').count() == marks;
        i += 1;
        if closes {
            return i + marks;
        }
    }
    i
}

fn without_tests(tokens: &[Token]) -> Vec<Token> {
    const TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut i = 0;
    while let Some(token) = tokens.get(i) {
        let is_test = TEST.iter().enumerate().all(|(n, text)| tokens.get(i + n).is_some_and(|t| t.text == **text));
        if is_test {
            i = end_of_item(tokens, i + TEST.len());
        } else {
            kept.push(token.clone());
            i += 1;
        }
    }
    kept
}

/// Behind the item that begins at `i`, its attributes included.
fn end_of_item(tokens: &[Token], mut i: usize) -> usize {
    let is = |i: usize, text: &str| tokens.get(i).is_some_and(|token| token.text == text);
    while is(i, "#") {
        i = end_of_group(tokens, i + 1);
    }
    // The braces of an import are not its end.
    let is_import = tokens.iter().skip(i).take_while(|token| token.text != "{").any(|token| token.text == "use");
    while let Some(token) = tokens.get(i) {
        match token.text.as_str() {
            ";" | "," => return i + 1,
            "}" => return i,
            "{" if !is_import => return end_of_group(tokens, i),
            "(" | "[" | "{" => i = end_of_group(tokens, i),
            _ => i += 1,
        }
    }
    i
}

/// Behind the bracket that closes the one at `i`.
pub fn end_of_group(tokens: &[Token], mut i: usize) -> usize {
    let mut depth = 0_usize;
    while let Some(token) = tokens.get(i) {
        i += 1;
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    i
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let words: Vec<String> = tokens(text).into_iter().map(|token| token.text).collect();
        assert_eq!(words.join(" "), expected, "{text}");
    }

    #[test]
    fn comments_and_characters_are_no_code() {
        check("a // use b;\n/* c /* d */ e */ f", "a f");
        check("x('\"', '\\'', 'a')", "x ( , , )");
        check("fn f<'a>(x: &'a str)", "fn f < ' a > ( x : & ' a str )");
        check("r#\"use \"a\" b\"# z", "z");
    }

    #[test]
    fn what_only_tests_compile_is_left_out() {
        check("#[cfg(test)]\nmod tests { use a::{b}; }\nfn x() {}", "fn x ( ) { }");
        check("#[cfg(test)]\nmod tests;\nuse a;", "use a ;");
        check("#[cfg(test)] pub(crate) use a::{b, c}; struct D;", "struct D ;");
        check("#[cfg(test)] #[derive(Debug)] struct A(u8); struct D;", "struct D ;");
        check("#[cfg(test)]\nfn a(b: [u8; 2]) -> u8 { 1 } struct D;", "struct D ;");
    }

    #[test]
    fn lines_are_counted() {
        let lines: Vec<usize> = tokens("a\n/*\n*/ b \"\n\" c").into_iter().map(|token| token.line).collect();
        assert_eq!(lines, [1, 3, 3, 4]);
    }
}
