//! Lines of `/proc/<pid>/mountinfo` (proc_pid_mountinfo(5)). Pure.

use std::path::PathBuf;

/// What is mounted where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Which directory of the file system is seen there; "/" for all of it.
    pub root: String,
    pub at: PathBuf,
    pub kind: String,
    /// Of the file system: for cgroups of version 1 its controllers are among them.
    pub options: String,
}

/// All that can be read.
pub fn mounts(mountinfo: &str) -> impl Iterator<Item = Mount> {
    mountinfo.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        let mut fields = after.split(' ');
        let (kind, _device, options) = (fields.next()?, fields.next()?, fields.next().unwrap_or_default());
        let (kind, options) = (kind.to_owned(), options.to_owned());
        Some(Mount { root: unescaped(root), at: unescaped(at).into(), kind, options })
    })
}

/// Spaces and the like are written as three octal digits.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        match after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if byte.is_ascii() => {
                out.push(char::from(byte));
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                out.push('\\');
                rest = after;
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_and_another_is_left_out() {
        let text = "31 30 0:27 /a\\134x2d /sys/fs/cg\\040roup rw shared:4 - cgroup cgroup rw,cpu\nnonsense\n";
        let mount = Mount {
            root: "/a\\x2d".to_owned(),
            at: "/sys/fs/cg roup".into(),
            kind: "cgroup".to_owned(),
            options: "rw,cpu".to_owned(),
        };
        assert_eq!(mounts(text).collect::<Vec<_>>(), [mount]);
        assert_eq!(unescaped("a\\"), "a\\");
        assert_eq!(unescaped("\\9é9"), "\\9é9");
    }
}
