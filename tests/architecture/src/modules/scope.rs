//! What one module declares, imports and names.

use super::tokens::{Token, end_of_group, tokens};
use std::collections::BTreeSet;

/// A name of a module, or a path that stands in its code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Under which it is known in the module; `*` for all there is.
    pub name: String,
    pub path: Vec<String>,
    pub line: usize,
}

#[derive(Clone, Debug, Default)]
pub struct Scope {
    pub file: String,
    /// Modules with a file of their own.
    pub files: Vec<String>,
    pub defines: BTreeSet<String>,
    pub imports: Vec<Import>,
    /// Paths in the code, at any depth.
    pub paths: Vec<Import>,
}

/// The modules of a file: its own under the empty path, and those that it holds within braces.
pub fn read(file: &str, text: &str) -> Vec<(Vec<String>, Scope)> {
    let tokens = tokens(text);
    let mut reader = Reader { tokens: &tokens, file, scopes: Vec::new() };
    reader.module(Vec::new(), 0, tokens.len());
    reader.scopes
}

struct Reader<'a> {
    tokens: &'a [Token],
    file: &'a str,
    scopes: Vec<(Vec<String>, Scope)>,
}

const DEFINING: [&str; 9] = ["struct", "enum", "union", "trait", "fn", "const", "static", "type", "macro_rules"];

impl Reader<'_> {
    fn text(&self, i: usize) -> &str {
        self.tokens.get(i).map_or("", |token| &token.text)
    }

    fn module(&mut self, path: Vec<String>, mut i: usize, end: usize) {
        let mut scope = Scope { file: self.file.to_owned(), ..Scope::default() };
        let mut depth = 0_usize;
        while i < end {
            let text = self.text(i).to_owned();
            match text.as_str() {
                "use" => {
                    self.tree(i + 1, Vec::new(), &mut scope.imports);
                    while i < end && self.text(i) != ";" {
                        i += 1;
                    }
                }
                "mod" if depth == 0 => {
                    let name = self.text(i + 1).to_owned();
                    if self.text(i + 2) == "{" {
                        let end = end_of_group(self.tokens, i + 2);
                        let inner = path.iter().cloned().chain([name]).collect();
                        self.module(inner, i + 3, end.saturating_sub(1));
                        i = end;
                        continue;
                    }
                    scope.files.push(name);
                }
                "{" => depth += 1,
                "}" => depth = depth.saturating_sub(1),
                _ if DEFINING.contains(&text.as_str()) && depth == 0 => {
                    let name = if text == "macro_rules" { self.text(i + 2) } else { self.text(i + 1) };
                    scope.defines.insert(name.to_owned());
                }
                _ if self.begins_path(i) => {
                    let (path, line) = (self.path(i), self.tokens.get(i).map_or(0, |token| token.line));
                    i += path.len() * 2 - 1;
                    scope.paths.push(Import { name: String::new(), path, line });
                    continue;
                }
                _ => {}
            }
            i += 1;
        }
        self.scopes.push((path, scope));
    }

    fn begins_path(&self, i: usize) -> bool {
        let before = |n: usize| i.checked_sub(n).map_or("", |i| self.text(i));
        let is_visibility = before(1) == "in" && before(2) == "(" && before(3) == "pub";
        self.tokens.get(i).is_some_and(Token::is_word)
            && self.text(i + 1) == "::"
            && !["::", "."].contains(&before(1))
            && !is_visibility
    }

    fn path(&self, mut i: usize) -> Vec<String> {
        let mut path = vec![self.text(i).to_owned()];
        while self.text(i + 1) == "::" && self.tokens.get(i + 2).is_some_and(Token::is_word) {
            i += 2;
            path.push(self.text(i).to_owned());
        }
        path
    }

    /// A tree of imports that begins at `i`, below `prefix`. Returns where it ends.
    fn tree(&self, mut i: usize, mut prefix: Vec<String>, into: &mut Vec<Import>) -> usize {
        let line = self.tokens.get(i).map_or(0, |token| token.line);
        loop {
            match self.text(i) {
                "::" => i += 1,
                "{" => {
                    i += 1;
                    while !["}", ""].contains(&self.text(i)) {
                        i = self.tree(i, prefix.clone(), into);
                        if self.text(i) == "," {
                            i += 1;
                        }
                    }
                    return i + 1;
                }
                "*" => {
                    prefix.push("*".to_owned());
                    into.push(Import { name: "*".to_owned(), path: prefix, line });
                    return i + 1;
                }
                "as" => {
                    into.push(Import { name: self.text(i + 1).to_owned(), path: prefix, line });
                    return i + 2;
                }
                // `a::{self}` is `a`.
                "self" if !prefix.is_empty() => i += 1,
                word if self.tokens.get(i).is_some_and(Token::is_word) => {
                    prefix.push(word.to_owned());
                    i += 1;
                }
                _ => {
                    let name = prefix.last().cloned().unwrap_or_default();
                    into.push(Import { name, path: prefix, line });
                    return i;
                }
            }
        }
    }
}
