use super::*;

fn parts() -> Vec<Part> {
    let mut cut = Part::whole("metrics.txt", Form::Metrics, "a 1\nb 2\n".into());
    cut.shorten(5);
    vec![
        Part {
            detail: "exit code 77: not root\x1b\nsecond line".into(),
            ..Part::whole("check.json", Form::Json, "{}".into())
        },
        cut,
        Part::missing("log.jsonl", Form::JsonLines, "journalctl is not there"),
    ]
}

#[test]
fn the_page_says_what_is_there_and_what_is_not() {
    expect_test::expect![[r"
        a.tar.gz: 12 bytes
          check.json      whole    exit code 77: not root\u{1b}
          metrics.txt     cut
          log.jsonl       missing  journalctl is not there
        It names workloads, namespaces, nodes and addresses; --mask replaces them.
    "]]
    .assert_eq(&page("a.tar.gz", 12, None, &parts()));
    assert!(
        page("a", 1, Some(3), &parts())
            .ends_with("\n3 names are replaced by masks. Look through it before you give it away.\n")
    );
}

#[test]
fn a_file_that_is_there_is_never_written_over() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("r.tar.gz");
    std::fs::write(&path, "precious").expect("write");
    let Err(refused) = Place::open(Some(&path), SystemTime::UNIX_EPOCH) else { panic!("it was opened") };
    assert_eq!(
        (refused.exit, refused.to_string().ends_with("is there already; name another file with -o")),
        (Exit::Usage, true)
    );
    assert_eq!(std::fs::read_to_string(&path).expect("read"), "precious");
}
