//! The files of the packages that are made rather than kept: the agent says what its configuration,
//! manual pages and completions are, and the companion goes into an image, and the agent into another.

use super::image;
use super::product::Product;
use super::source::Source;
use super::symbols;
use crate::arch::Arch;
use crate::command::{output, run_command};
use crate::cross;
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `agent` is the agent's program, which the companion's packages bring as an image.
pub(super) fn fill(
    product: Product,
    source: &Source,
    arch: Arch,
    (binary, agent): (&Path, Option<&Path>),
    revision: u32,
) -> Result<()> {
    let stage = product.stage(&source.root);
    if stage.exists() {
        fs::remove_dir_all(&stage).with_context(|| format!("empty {}", stage.display()))?;
    }
    fs::create_dir_all(&stage).with_context(|| format!("make {}", stage.display()))?;
    let program = stage.join(product.name());
    fs::copy(binary, &program).with_context(|| format!("copy {}", binary.display()))?;
    run_command(Command::new(cross::tool(arch, "strip")).arg("--strip-all").arg(&program), "strip the program")?;
    match product {
        Product::Agent => of_the_agent(arch, &program, &stage)?,
        Product::Companion => {
            let agent = agent.context("which agent goes into an image is not said")?;
            for (product, program, file) in
                [(Product::Companion, program.as_path(), "image.tar"), (Product::Agent, agent, "agent.tar")]
            {
                let size = image::make(product, source, arch, program, &stage.join(file))?;
                eprintln!("the image of {} has {size} bytes", product.name());
            }
        }
    }
    fs::copy(source.root.join("packaging/debian/copyright"), stage.join("copyright"))?;
    let overrides = source.root.join("packaging/debian").join(match product {
        Product::Agent => "lintian-overrides",
        Product::Companion => "lintian-overrides.companion",
    });
    fs::copy(overrides, stage.join("lintian-overrides"))?;
    changelog(product, source, revision, &stage)?;
    let licences = stage.join("licences-of-dependencies");
    fs::write(&licences, licences_of_dependencies(product, source, arch)?)?;
    gzip(&licences)
}

fn of_the_agent(arch: Arch, agent: &Path, stage: &Path) -> Result<()> {
    for dir in ["man", "completions"] {
        fs::create_dir_all(stage.join(dir)).with_context(|| format!("make {}", stage.display()))?;
    }
    // Nothing of the machine that builds may get into what is printed.
    let ask = |args: &[&str]| output(cross::run(arch, agent).args(args).env_clear());
    fs::write(stage.join("agent.toml"), ask(&["config", "--print-default"])? + "\n")?;
    for (shell, file) in [("bash", "pilotfish.bash"), ("zsh", "_pilotfish"), ("fish", "pilotfish.fish")] {
        fs::write(stage.join("completions").join(file), ask(&["completions", shell])? + "\n")?;
    }
    ask(&["man", &stage.join("man").to_string_lossy()])?;
    for page in fs::read_dir(stage.join("man"))? {
        gzip(&page?.path())?;
    }
    Ok(())
}

/// Without name and time inside, so that the same text gives the same bytes.
fn gzip(path: &Path) -> Result<()> {
    run_command(Command::new("gzip").arg("-9nf").arg(path), "compress")
}

fn changelog(product: Product, source: &Source, revision: u32, stage: &Path) -> Result<()> {
    let kept = source.root.join("packaging/debian").join(match product {
        Product::Agent => "changelog",
        Product::Companion => "changelog.companion",
    });
    let kept = fs::read_to_string(kept).context("read the changelog")?;
    let date = output(Command::new("date").args(["-Ru", "-d", &format!("@{}", source.date)]).env("LC_ALL", "C"))?;
    let version = format!("{}-{revision}", source.version);
    let text = kept.replace("@VERSION@", &version).replace("@DATE@", &date);
    fs::write(stage.join("changelog.rpm"), &text)?;
    fs::write(stage.join("changelog"), text)?;
    Ok(())
}

/// Every crate that is compiled into the program, and the text of each licence once.
fn licences_of_dependencies(product: Product, source: &Source, arch: Arch) -> Result<String> {
    let mut metadata = Command::new("cargo");
    metadata.current_dir(&source.root).args(["metadata", "--locked", "--format-version", "1"]);
    let metadata: serde_json::Value = serde_json::from_str(&output(&mut metadata)?)?;
    let mut used = BTreeSet::new();
    for program in product.programs() {
        used.extend(symbols::packages(*program, &source.root, arch)?);
    }
    let names: Vec<&str> = product.programs().iter().map(|program| program.name()).collect();
    let mut list = format!("Libraries that are compiled into {}, and their licences.\n\n", names.join(" and "));
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let mut packages: Vec<_> = packages.iter().filter(|package| !package["source"].is_null()).collect();
    packages.sort_by_key(|package| (package["name"].as_str(), package["version"].as_str()));
    for package in packages {
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        let (name, version) = (text("name"), text("version"));
        if !used.contains(&(name.to_owned(), version.to_owned())) {
            continue;
        }
        let licence = if text("license").is_empty() { "see the text below" } else { text("license") };
        list.push_str(&format!("{name} {version}: {licence}\n"));
        let directory = Path::new(text("manifest_path")).parent().context("a manifest's directory")?;
        for file in licence_files(directory)? {
            let text = String::from_utf8_lossy(&fs::read(&file)?).trim().replace('\r', "");
            texts.entry(text).or_default().push(format!("{name} {version}"));
        }
    }
    let mut texts: Vec<_> = texts.into_iter().map(|(text, users)| (users, text)).collect();
    texts.sort();
    for (users, text) in texts {
        list.push_str(&format!("\n{}\n{}\n\n{text}\n", "=".repeat(78), users.join(", ")));
    }
    Ok(list)
}

fn licence_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let is_licence = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().to_uppercase()).unwrap_or_default();
        path.is_file()
            && ["LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"].iter().any(|word| name.starts_with(word))
    };
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .with_context(|| format!("read {}", directory.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(is_licence)
        .collect();
    files.sort();
    Ok(files)
}
