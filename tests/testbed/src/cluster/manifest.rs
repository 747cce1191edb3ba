//! Applies a file of YAML documents. The API server reads YAML by itself; only where a document
//! belongs has to be read here.

use super::client::{Client, Refused};
use super::kinds::{self, Kind};
use anyhow::{Context, Result};

/// Creates what the documents describe; what is already there is left as it is.
pub fn apply(client: &Client, documents: &str) -> Result<()> {
    for document in split(documents) {
        let Place { kind, name, namespace } = place_of(&document)?;
        let path = kind.collection(namespace.as_deref());
        let reply = client.request("POST", &path, Some(("application/yaml", document.as_bytes())))?;
        // 409 is AlreadyExists here: nothing names a resourceVersion.
        if !(200..300).contains(&reply.status) && reply.status != 409 {
            let what = format!("{} {name}: {}", kind.kind, reply.text());
            return Err(Refused { status: reply.status, what }.into());
        }
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Place {
    kind: Kind,
    name: String,
    namespace: Option<String>,
}

fn split(documents: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    for line in documents.lines() {
        if line.trim_end() == "---" {
            all.push(String::new());
        } else if let Some(last) = all.last_mut() {
            *last += line;
            last.push('\n');
        }
    }
    let has_content =
        |document: &String| document.lines().any(|line| !line.trim().is_empty() && !line.starts_with('#'));
    all.into_iter().filter(has_content).collect()
}

/// Block style only, as manifests are written: `kind:` at the margin, `name:` and `namespace:` one
/// step inside `metadata:`.
fn place_of(document: &str) -> Result<Place> {
    let (mut kind, mut name, mut namespace, mut section) = (None, None, None, "");
    for line in document.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.trim().trim_matches('"');
        if !line.starts_with(' ') {
            section = key;
        }
        match (section, key) {
            ("kind", "kind") => kind = kinds::ALL.iter().find(|known| known.kind == value).copied(),
            ("metadata", "  name") => name = Some(value.to_owned()),
            ("metadata", "  namespace") => namespace = Some(value.to_owned()),
            _ => {}
        }
    }
    let kind = kind.with_context(|| format!("no kind that is known here:\n{document}"))?;
    let name = name.with_context(|| format!("no name:\n{document}"))?;
    Ok(Place { kind, name, namespace: namespace.or(kind.namespaced.then(|| "default".to_owned())) })
}

#[cfg(test)]
mod tests {
    use super::{Place, kinds, place_of, split};

    #[test]
    fn documents_know_where_they_belong() -> anyhow::Result<()> {
        let text = "# a comment\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n---\nkind: Service\nmetadata:\n  labels:\n    name: x\n  \
                    name: api\n  namespace: shop\nspec:\n  name: y\n";
        let places = split(text).iter().map(|document| place_of(document)).collect::<anyhow::Result<Vec<_>>>()?;
        assert_eq!(
            places,
            [
                Place { kind: kinds::NAMESPACE, name: "shop".into(), namespace: None },
                Place { kind: kinds::SERVICE, name: "api".into(), namespace: Some("shop".into()) },
            ]
        );
        Ok(())
    }
}
