//! What takes room in an ELF file: its sections, and the symbols in them.

use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSection, ObjectSymbol, SectionFlags, SectionIndex, elf};

/// What the loader maps, and strip(1) leaves.
#[derive(Debug)]
pub(super) struct Section {
    pub name: String,
    pub bytes: u64,
    pub symbols: Vec<Symbol>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Symbol {
    pub address: u64,
    pub bytes: u64,
    pub name: String,
}

/// # Errors
/// No ELF file, or one without symbols.
pub(super) fn read(file: &[u8]) -> Result<Vec<Section>> {
    let file = object::File::parse(file)?;
    let mut sections: Vec<(SectionIndex, Section)> = Vec::new();
    for section in file.sections() {
        let SectionFlags::Elf { sh_flags, .. } = section.flags() else { continue };
        let in_file = section.file_range().map_or(0, |(_, bytes)| bytes);
        if sh_flags & u64::from(elf::SHF_ALLOC) != 0 && in_file > 0 {
            let name = section.name()?.to_owned();
            sections.push((section.index(), Section { name, bytes: in_file, symbols: Vec::new() }));
        }
    }
    ensure!(file.symbols().next().is_some(), "it has none: it was stripped");
    for symbol in file.symbols().filter(|symbol| symbol.size() > 0) {
        let Some(index) = symbol.section_index() else { continue };
        if let Some((_, section)) = sections.iter_mut().find(|(at, _)| *at == index) {
            let name = symbol.name().context("a symbol's name")?.to_owned();
            section.symbols.push(Symbol { address: symbol.address(), bytes: symbol.size(), name });
        }
    }
    Ok(sections.into_iter().map(|(_, section)| section).collect())
}
