use super::*;
use join::Token;
use proptest::prelude::*;

fn hash(text: &str) -> TokenHash {
    Token::new(&format!("{text}-{}", "x".repeat(20))).expect("a token").hash()
}

fn nodes(of: &[(&str, &str)]) -> BTreeMap<String, Which> {
    of.iter().map(|(name, uid)| ((*name).to_owned(), Which::of_uid(uid))).collect()
}

fn book(entries: &[(&str, Entry)], of: &[(&str, &str)]) -> Book {
    let entries = entries.iter().map(|(name, entry)| ((*name).to_owned(), *entry)).collect();
    let mut book = Book::default();
    book.set_pages(Some(Pages { version: "7".to_owned(), entries }));
    book.set_nodes(nodes(of));
    book
}

/// Somebody has written.
fn wrote(book: &mut Book, version: &str, changes: &Changes) {
    let mut pages = book.pages.clone().unwrap_or_default();
    pages.version = version.to_owned();
    for (name, entry) in changes {
        match entry {
            Some(entry) => pages.entries.insert(name.clone(), *entry),
            None => pages.entries.remove(name),
        };
    }
    book.set_pages(Some(pages));
}

fn live(text: &str, uid: &str) -> Entry {
    Entry::Live { hash: hash(text), node: Which::of_uid(uid) }
}

#[test]
fn a_name_is_had_once_and_its_owner_may_ask_again() {
    let mut book = book(&[], &[("n1", "u1")]);
    let free = Claim::Free(live("a", "u1"));
    assert_eq!((book.claim("n1", hash("a")), book.is_open("n1"), book.joined()), (free, true, 0));
    wrote(&mut book, "8", &[("n1".to_owned(), Some(live("a", "u1")))].into());
    assert_eq!((book.claim("n1", hash("a")), book.claim("n1", hash("b"))), (Claim::Kept, Claim::Taken));
    assert_eq!((book.holds("n1", hash("a")), book.holds("n1", hash("b"))), (Claim::Kept, Claim::Taken));
    // Its credential says nothing of another node.
    assert_eq!((book.holds("n2", hash("a")), book.knows(hash("a"))), (Claim::Taken, Known::Live));
    assert_eq!((book.is_open("n1"), book.knows(hash("b")), book.joined()), (false, Known::Nobodys, 1));
    assert_eq!((book.lost("n1", hash("a")), book.lost("n1", hash("b"))), (None, Some(Claim::Taken)));
    assert_eq!(book.lost("n2", hash("a")), None);
    assert_eq!(book.version(), "8");
}

#[test]
fn a_node_that_the_cluster_does_not_have_gets_nothing() {
    assert_eq!(book(&[], &[("n1", "u1")]).claim("n9", hash("a")), Claim::Unknown);
    let mut book = Book::default();
    book.set_pages(Some(Pages::default()));
    assert_eq!((book.claim("n1", hash("a")), book.is_read()), (Claim::Unknown, false));
}

#[test]
fn what_an_admin_ended_is_never_taken_again_and_its_name_is_free() {
    let book = book(&[("n1", Entry::Ended { hash: hash("a") })], &[("n1", "u1")]);
    assert_eq!((book.claim("n1", hash("a")), book.holds("n1", hash("a"))), (Claim::Ended, Claim::Ended));
    assert_eq!((book.knows(hash("a")), book.is_open("n1")), (Known::Ended, true));
    assert_eq!(book.claim("n1", hash("b")), Claim::Free(live("b", "u1")));
    assert_eq!((book.lost("n1", hash("a")), book.joined()), (Some(Claim::Ended), 0));
}

#[test]
fn another_machine_may_have_the_name_of_one_whose_node_was_deleted() {
    let mut book = book(&[("n1", live("a", "u1"))], &[("n1", "u2")]);
    assert_eq!(book.claim("n1", hash("b")), Claim::Free(live("b", "u2")));
    assert!(book.is_open("n1"));
    // The same machine under a new Node keeps its credential, by which the name is its own again.
    assert_eq!(book.holds("n1", hash("a")), Claim::Free(live("a", "u2")));
    assert_eq!(book.claim("n1", hash("a")), Claim::Free(live("a", "u2")));
    wrote(&mut book, "8", &[("n1".to_owned(), Some(live("a", "u2")))].into());
    assert_eq!((book.claim("n1", hash("b")), book.is_open("n1")), (Claim::Taken, false));
}

#[test]
fn what_an_admin_made_is_of_whichever_node_comes_first() {
    let made = Entry::Live { hash: hash("a"), node: Which::ANY };
    let book = book(&[("n1", made)], &[("n1", "u1")]);
    assert_eq!((book.claim("n1", hash("b")), book.is_open("n1")), (Claim::Taken, false));
    assert_eq!(book.holds("n1", hash("a")), Claim::Free(live("a", "u1")));
    assert!(book.departed(10).is_empty());
}

#[test]
fn a_value_that_nobody_can_read_keeps_its_name_taken() {
    let secret = json!({ "metadata": { "resourceVersion": "3" }, "data": {
        "n1": "!", "n2": STANDARD.encode([1; 42]), "n3": 5, "N 4": "", "n5": STANDARD.encode([1; 40]),
        "n6": STANDARD.encode([2; 41]),
    } });
    let mut book = Book::default();
    let pages = Pages::read(&secret);
    assert_eq!(pages.entries.len(), 5);
    book.set_pages(Some(pages));
    book.set_nodes(nodes(&[("n1", "u"), ("n2", "u"), ("n3", "u"), ("n6", "u")]));
    for name in ["n1", "n2", "n3", "n6"] {
        assert_eq!((book.claim(name, hash("a")), book.is_open(name)), (Claim::Taken, false), "{name}");
    }
    assert_eq!((book.joined(), Pages::read(&Value::Null)), (1, Pages::default()));
}

#[test]
fn beyond_the_bound_a_node_is_refused_until_those_that_are_gone_make_room() {
    // As EC2 calls them.
    let name = |i: usize| format!("ip-10-{:03}-{:03}-007.eu-west-1.compute.internal", i / 250, i % 250);
    let fits = ROOM / cost(&name(0));
    assert_eq!(fits, 7_710);
    let all: Vec<String> = (0..=fits).map(name).collect();
    let entries = all[..fits].iter().map(|name| (name.clone(), live("a", "u"))).collect();
    let mut book = Book::default();
    book.set_pages(Some(Pages { version: "1".to_owned(), entries }));
    book.set_nodes(all[10..].iter().map(|name| (name.clone(), Which::of_uid("u"))).collect());
    assert_eq!(book.claim(&all[fits], hash("b")), Claim::Full);
    let departed = book.departed(4);
    assert_eq!(departed, all[..4]);
    wrote(&mut book, "2", &departed.into_iter().map(|name| (name, None)).collect());
    assert_eq!(book.claim(&all[fits], hash("b")), Claim::Free(live("b", "u")));
    assert_eq!(book.joined(), fits - 4);
}

#[test]
fn a_patch_is_of_one_state_and_of_the_nodes_that_change() {
    let changes = [("n1".to_owned(), Some(Entry::Ended { hash: hash("a") })), ("n2".to_owned(), None)].into();
    let patch = patch("41", &changes);
    assert_eq!((&patch["metadata"]["resourceVersion"], &patch["data"]["n2"]), (&json!("41"), &Value::Null));
    let secret = json!({ "metadata": { "resourceVersion": "42" }, "data": { "n1": patch["data"]["n1"] } });
    assert_eq!(Pages::read(&secret).entries["n1"], Entry::Ended { hash: hash("a") });
}

proptest! {
    /// Whatever two replicas do in whatever order: a name has one owner until it is ended, who can
    /// always ask again.
    #[test]
    fn a_name_never_has_two_owners(steps in prop::collection::vec((0u8..4, 0u8..3), 1..60)) {
        let mut book = book(&[], &[("n1", "u1")]);
        let (mut owner, mut over, mut uid) = (None::<u8>, Vec::new(), 1);
        for (who, what) in steps {
            let mine = hash(&format!("agent-{who}"));
            match what {
                0 => match book.claim("n1", mine) {
                    Claim::Free(entry) => {
                        prop_assert!(owner.is_none() || owner == Some(who));
                        prop_assert!(!over.contains(&who));
                        wrote(&mut book, "x", &[("n1".to_owned(), Some(entry))].into());
                        owner = Some(who);
                    }
                    Claim::Kept => prop_assert_eq!(owner, Some(who)),
                    Claim::Taken => prop_assert!(owner.is_some() && owner != Some(who)),
                    Claim::Ended => prop_assert!(over.last() == Some(&who)),
                    other => prop_assert!(false, "{:?}", other),
                },
                1 => if let Some(ended) = owner.take() {
                    let entry = Entry::Ended { hash: hash(&format!("agent-{ended}")) };
                    wrote(&mut book, "x", &[("n1".to_owned(), Some(entry))].into());
                    over = vec![ended];
                },
                _ => {
                    uid += 1;
                    // The owner comes back under the new Node before anybody else.
                    book.set_nodes(nodes(&[("n1", &format!("u{uid}"))]));
                    if let Some(owner) = owner {
                        let mine = hash(&format!("agent-{owner}"));
                        let Claim::Free(entry) = book.holds("n1", mine) else { panic!("not its own") };
                        wrote(&mut book, "x", &[("n1".to_owned(), Some(entry))].into());
                    }
                }
            }
        }
    }

    #[test]
    fn a_secret_of_any_bytes_is_read(value in "\\PC{0,80}", name in "\\PC{0,20}") {
        let pages = Pages::read(&json!({ "data": { name: value } }));
        prop_assert!(pages.entries.len() <= 1);
    }
}
