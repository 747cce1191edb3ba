//! What the text of the files may and may not hold.
#![forbid(unsafe_code)]

use architecture::{SourceFile, Workspace};
use std::collections::BTreeSet;

/// What may be at the top: the seven folders of the project, and what its tools look for there.
const TOP: &[&str] = &[
    ".cargo",
    ".ci",
    ".github",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "CHANGELOG.md",
    "README.md",
    "capture-engine",
    "clippy.toml",
    "deny.toml",
    "docs",
    "k8s-sync",
    "netns-scanner",
    "packaging",
    "rustfmt.toml",
    "scripts",
    "shim-plugin",
    "systemd",
    "tests",
];

/// Where unsafe code may be: raw system calls, and what cannot be without.
fn may_be_unsafe(path: &str) -> bool {
    const BESIDES: [&str; 4] = [
        // A signal handler.
        "tests/testbed/src/signals.rs",
        // Tests of the kernel half drive the kernel past the crate under test.
        "capture-engine/tests/attach/counting.rs",
        "capture-engine/tests/kernel/bed.rs",
        "capture-engine/tests/kernel/frames.rs",
    ];
    path.ends_with("/sys.rs") || BESIDES.contains(&path)
}

/// Longer than this asks for a second look.
const MAX_LINES: usize = 600;

/// Crates that never read the clock: times come with the bytes.
const CLOCKLESS: [&str; 3] = ["capture-engine/l7/src/", "capture-engine/model/src/", "capture-engine/wire/src/"];

fn check(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Lines of a file that are code, with their numbers: neither comments nor below `#[cfg(test)] mod`.
fn code(file: &SourceFile) -> impl Iterator<Item = (usize, &str)> {
    file.text
        .lines()
        .enumerate()
        .map(|(i, line)| (i + 1, line))
        .take_while(|(_, line)| !line.starts_with("mod tests {"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn the_top_has_the_folders_that_were_agreed() -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    let found: BTreeSet<&str> = workspace.files().filter_map(|file| file.path.split('/').next()).collect();
    check(
        found.iter().filter(|name| !TOP.contains(name)).map(|name| format!("unexpected at the top: {name}")).collect(),
    );
    Ok(())
}

#[test]
fn unsafe_code_has_an_address() -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    let mut wrong = Vec::new();
    for file in workspace.with_extension("rs").filter(|file| !may_be_unsafe(&file.path)) {
        for (number, line) in code(file) {
            let words = ["unsafe {", "unsafe impl", "unsafe fn", "unsafe extern"];
            if words.iter().any(|word| line.contains(word)) && !file.path.starts_with("tests/architecture/") {
                wrong.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    check(wrong);
    Ok(())
}

#[test]
fn crates_without_unsafe_files_forbid_it() -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    let mut wrong = Vec::new();
    for package in workspace.crates() {
        let directory = format!("{}/src/", workspace.directory(package));
        let has_unsafe = workspace
            .with_extension("rs")
            .any(|file| file.path.starts_with(&directory) && may_be_unsafe(&file.path) && file.text.contains("unsafe"));
        // libFuzzer is entered through a symbol of fixed name, which counts as unsafe; there is no
        // more than that in these files.
        for target in package.targets.iter().filter(|target| !(package.name == "fuzz" && target.is_bin())) {
            let source = target.src_path.as_std_path();
            let path = source.strip_prefix(&workspace.root).unwrap_or(source).to_string_lossy();
            let text = std::fs::read_to_string(source)?;
            let is_library_or_program = target.is_lib() || target.is_bin();
            if is_library_or_program
                && !text.contains("#![forbid(unsafe_code)]")
                && !(has_unsafe && text.contains("#![deny(unsafe_code)]"))
            {
                wrong.push(format!(
                    "{path}: neither forbids unsafe code nor denies it beside a file that is named for it"
                ));
            }
        }
    }
    check(wrong);
    Ok(())
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    let mut wrong = Vec::new();
    for file in workspace.with_extension("rs").filter(|file| may_be_unsafe(&file.path)) {
        let lines: Vec<&str> = file.text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            let is_block = line.contains("unsafe {") || line.trim_start().starts_with("unsafe impl");
            let explained = lines[i.saturating_sub(6)..=i].iter().any(|l| l.contains("SAFETY:"));
            if is_block && !line.trim_start().starts_with("//") && !explained {
                wrong.push(format!("{}:{}: no SAFETY comment", file.path, i + 1));
            }
        }
    }
    check(wrong);
    Ok(())
}

#[test]
fn only_the_netns_crate_changes_namespaces() -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    let banned = [concat!("set", "ns("), concat!("un", "share(")];
    let mut wrong = Vec::new();
    // Tests of the kernel half make namespaces of their own, and so does what an attachment is
    // measured beside, which shall have nothing of ours.
    let elsewhere = |path: &str| {
        !path.starts_with("netns-scanner/netns/")
            && !path.starts_with("capture-engine/tests/")
            && path != "packaging/xtask/src/bench/truth/bare.rs"
    };
    for file in workspace.with_extension("rs").filter(|file| elsewhere(&file.path)) {
        for (number, line) in code(file) {
            if banned.iter().any(|word| line.contains(word)) {
                wrong.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    check(wrong);
    Ok(())
}

#[test]
fn files_stay_short() -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    let sources =
        workspace.with_extension("rs").chain(workspace.with_extension("c")).chain(workspace.with_extension("h"));
    let long = sources.filter(|file| file.text.lines().count() > MAX_LINES);
    check(long.map(|file| format!("{}: {} lines", file.path, file.text.lines().count())).collect());
    Ok(())
}

#[test]
fn pure_crates_never_read_the_clock() -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    let mut wrong = Vec::new();
    for file in workspace.with_extension("rs").filter(|file| CLOCKLESS.iter().any(|place| file.path.starts_with(place)))
    {
        for (number, line) in code(file) {
            if line.contains("Instant::now") || line.contains("SystemTime::now") {
                wrong.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    check(wrong);
    Ok(())
}

#[test]
fn nothing_is_left_undone_or_skipped() -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    let banned = [
        concat!("to", "do!("),
        concat!("unimpl", "emented!("),
        concat!("#[ig", "nore]"),
        concat!("FIX", "ME"),
        concat!("static ", "mut "),
    ];
    // What is not a test but is started by one, or measures, is left to who asks for it; it says so.
    let skipped = concat!("#[ig", "nore = ");
    let excused = ["a role for other tests", "a measurement", "measures"];
    let mut wrong = Vec::new();
    for file in workspace.with_extension("rs") {
        for (i, line) in file.text.lines().enumerate() {
            if line.contains(skipped) && !excused.iter().any(|reason| line.contains(reason)) {
                wrong.push(format!("{}:{}: {}", file.path, i + 1, line.trim()));
            }
            if banned.iter().any(|word| line.contains(word)) {
                wrong.push(format!("{}:{}: {}", file.path, i + 1, line.trim()));
            }
        }
    }
    check(wrong);
    Ok(())
}

/// A path of the machine on which something was written helps nobody elsewhere.
#[test]
fn no_file_names_a_place_of_one_machine() -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    let banned = [concat!("/wo", "rk/"), concat!("/fa", "rm/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    let mut wrong = Vec::new();
    for file in workspace.files().filter(|file| file.path != "Cargo.lock") {
        for (i, line) in file.text.lines().enumerate() {
            // `/proc/.../work/` and the like are no such path: what stands before it is part of a longer one.
            let named = banned.iter().any(|word| {
                line.match_indices(word)
                    .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-}>*".contains(c)))
            });
            if named {
                wrong.push(format!("{}:{}: {}", file.path, i + 1, line.trim()));
            }
        }
    }
    check(wrong);
    Ok(())
}
