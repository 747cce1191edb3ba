//! The files of a crate, and which takes what from which: its module tree, with every name followed
//! to where it is defined.

mod scope;
mod tokens;

use crate::SourceFile;
use scope::{Import, Scope};
use std::collections::{BTreeMap, BTreeSet};

/// A use of another file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    pub from: String,
    /// Of `from`, from 1.
    pub line: usize,
    pub to: String,
    /// As it stands there, from the root of the crate.
    pub path: String,
}

/// Names lead on to names; more steps than these are a circle of imports.
const MOST_STEPS: usize = 16;

/// Path of a module from the crate's root, without `crate`.
type Path = Vec<String>;

#[derive(Debug, Default)]
pub struct Modules {
    scopes: BTreeMap<Path, Scope>,
}

impl Modules {
    /// Of the crate whose root is `root`, a path as in `files`.
    #[must_use]
    pub fn read(root: &str, files: &[SourceFile]) -> Modules {
        let texts: BTreeMap<&str, &str> = files.iter().map(|file| (file.path.as_str(), file.text.as_str())).collect();
        let mut modules = Modules::default();
        let dir = root.rsplit_once('/').map_or("", |(dir, _)| dir);
        modules.add(Vec::new(), root, dir, &texts);
        modules
    }

    fn add(&mut self, path: Path, file: &str, dir: &str, texts: &BTreeMap<&str, &str>) {
        let Some(text) = texts.get(file) else { return };
        for (inner, scope) in scope::read(file, text) {
            let path: Path = path.iter().chain(&inner).cloned().collect();
            let dir = inner.iter().fold(dir.to_owned(), |dir, name| format!("{dir}/{name}"));
            for child in &scope.files {
                let child_path: Path = path.iter().chain([child]).cloned().collect();
                let child_dir = format!("{dir}/{child}");
                for file in [format!("{dir}/{child}.rs"), format!("{child_dir}/mod.rs")] {
                    self.add(child_path.clone(), &file, &child_dir, texts);
                }
            }
            self.scopes.insert(path, scope);
        }
    }

    /// Every use of another file, one for each name.
    #[must_use]
    pub fn edges(&self) -> BTreeSet<Edge> {
        let mut edges = BTreeSet::new();
        for (module, scope) in &self.scopes {
            for Import { line, path, .. } in scope.imports.iter().chain(&scope.paths) {
                let Some(to) = self.file_of(module, path, 0) else { continue };
                if to != scope.file {
                    edges.insert(Edge { from: scope.file.clone(), line: *line, to, path: path.join("::") });
                }
            }
        }
        edges
    }

    /// Files that reach each other, each group with the edges in it. None is the rule.
    #[must_use]
    pub fn circles(&self) -> Vec<BTreeSet<Edge>> {
        let edges = self.edges();
        let mut reach: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for edge in &edges {
            let (mut seen, mut next) = (BTreeSet::new(), vec![edge.from.as_str()]);
            while let Some(file) = next.pop() {
                let ahead = edges.iter().filter(|edge| edge.from == file).map(|edge| edge.to.as_str());
                next.extend(ahead.filter(|to| seen.insert(*to)));
            }
            reach.insert(&edge.from, seen);
        }
        let reaches = |from: &str, to: &str| reach.get(from).is_some_and(|seen| seen.contains(to));
        let mut circles: BTreeMap<BTreeSet<&str>, BTreeSet<Edge>> = BTreeMap::new();
        for edge in edges.iter().filter(|edge| reaches(&edge.to, &edge.from)) {
            let members = reach.keys().filter(|file| reaches(file, &edge.from) && reaches(&edge.from, file));
            circles.entry(members.copied().collect()).or_default().insert(edge.clone());
        }
        circles.into_values().collect()
    }

    /// File that defines what `path` means in `module`; none for what is of another crate, and for a module as such.
    fn file_of(&self, module: &[String], path: &[String], steps: usize) -> Option<String> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => self.follow(Vec::new(), rest, steps),
            "self" => self.follow(module.to_vec(), rest, steps),
            "super" => {
                let (_, parent) = module.split_last()?;
                match rest.first().map(String::as_str) {
                    Some("super") => self.file_of(parent, rest, steps),
                    _ => self.follow(parent.to_vec(), rest, steps),
                }
            }
            // A child of this module, or a name that it imports; anything else is another crate's or its own.
            name => {
                let scope = self.scopes.get(module)?;
                let is_known = self.scopes.contains_key(&child(module, name))
                    || (scope.imports.iter().any(|import| import.name == name) && path.len() > 1);
                is_known.then(|| self.follow(module.to_vec(), path, steps)).flatten()
            }
        }
    }

    /// From `module` on along `path`.
    fn follow(&self, module: Path, path: &[String], steps: usize) -> Option<String> {
        if steps > MOST_STEPS {
            return None;
        }
        let scope = self.scopes.get(&module)?;
        // The module as such: what is used of it is seen where it is used.
        let (name, rest) = path.split_first()?;
        if name == "*" {
            return Some(scope.file.clone());
        }
        let below = child(&module, name);
        if self.scopes.contains_key(&below) {
            return self.follow(below, rest, steps);
        }
        if scope.defines.contains(name) {
            return Some(scope.file.clone());
        }
        if let Some(import) = scope.imports.iter().find(|import| import.name == *name) {
            let path: Path = import.path.iter().chain(rest).cloned().collect();
            let is_renamed_self = import.path.first() == Some(name) && import.path.len() == 1;
            return if is_renamed_self { None } else { self.file_of(&module, &path, steps + 1) };
        }
        let everything = scope.imports.iter().filter(|import| import.name == "*");
        let mut found = everything.filter_map(|import| {
            let (_, from) = import.path.split_last()?;
            let path: Path = from.iter().chain(path).cloned().collect();
            self.file_of(&module, &path, steps + 1)
        });
        let defines =
            |file: &String| self.scopes.values().any(|scope| scope.file == *file && scope.defines.contains(name));
        // Made by a macro of the module, where nothing else brings it.
        found.find(defines).or_else(|| Some(scope.file.clone()))
    }
}

fn child(module: &[String], name: &str) -> Path {
    module.iter().map(String::as_str).chain([name]).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
