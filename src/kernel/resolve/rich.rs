//! rpm's rich dependencies: `(a or b)`, `(a and (b or c))`.

use crate::kernel::package::{Comparison, Format, Relation};
use crate::limits;

/// Takes rpm's rich dependencies apart, and leaves out what rpm itself or nothing at all has to fulfil.
pub(super) fn rich(any: &[Relation], depth: usize, format: Format) -> Vec<Vec<Relation>> {
    let [relation] = any else { return vec![any.to_vec()] };
    if format == Format::Deb {
        return vec![any.to_vec()];
    }
    let name = &relation.name;
    if name.starts_with("rpmlib(") || name.starts_with("config(") {
        return Vec::new();
    }
    let Some(inner) = name.strip_prefix('(').and_then(|name| name.strip_suffix(')')) else {
        return vec![any.to_vec()];
    };
    // Nothing is called so: it is found missing.
    if depth > limits::NESTING {
        return vec![any.to_vec()];
    }
    let parts = top_level(inner);
    let relations =
        |parts: &[String]| -> Vec<Relation> { parts.iter().step_by(2).map(|it| rpm_relation(it)).collect() };
    match parts.get(1).map(String::as_str) {
        None => rich(&[rpm_relation(inner)], depth + 1, format),
        Some("or") => vec![relations(&parts)],
        Some("and" | "with") => {
            relations(&parts).into_iter().flat_map(|part| rich(&[part], depth + 1, format)).collect()
        }
        // `if`, `unless`, `without`: what they hang on is not installed here.
        Some(_) => Vec::new(),
    }
}

/// `a >= 1 or (b and c)`: operands and the operators between them, parentheses kept together.
fn top_level(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0_usize;
    for word in text.split_whitespace() {
        if depth == 0 && matches!(word, "or" | "and" | "with" | "if" | "unless" | "without" | "else") {
            parts.push(word.to_owned());
            parts.push(String::new());
            continue;
        }
        depth = (depth + word.matches('(').count()).saturating_sub(word.matches(')').count());
        let part = parts.last_mut().expect("there is always one");
        if !part.is_empty() {
            part.push(' ');
        }
        part.push_str(word);
    }
    parts
}

/// `name >= 1.0`, as rich dependencies have it.
pub(super) fn rpm_relation(text: &str) -> Relation {
    let mut words = text.split_whitespace();
    let (name, sign, version) = (words.next(), words.next(), words.next());
    let comparison = match sign {
        Some("=") => Some(Comparison::Equal),
        Some(">=") => Some(Comparison::AtLeast),
        Some("<=") => Some(Comparison::AtMost),
        Some(">") => Some(Comparison::Later),
        Some("<") => Some(Comparison::Earlier),
        _ => None,
    };
    match comparison.zip(version) {
        Some((comparison, version)) if !text.starts_with('(') => {
            Relation { name: name.unwrap_or_default().to_owned(), version: Some((comparison, version.to_owned())) }
        }
        _ => Relation { name: text.to_owned(), version: None },
    }
}

/// Whether a requirement is one of a file.
pub(super) fn is_path(relation: &Relation) -> bool {
    relation.name.starts_with('/')
}
