//! What is certified and much like what was asked about, for somebody who was told no: the same name with other versions, or else
//! names that differ by their case, by a slip of the finger, by the host of the registry, or by a part that was left out.

use crate::catalog::check::{ContainerQuestion, Question};
use crate::catalog::entry::{split_csv_name, stored_registry};
use crate::catalog::store::{Error, Snapshot};

/// The same operator for other versions of OpenShift, other versions of it or of the chart, other tags of the repository; where
/// there are none, the same of names that are nearly the same. The first ten, as they would be asked about.
pub fn near(snapshot: &Snapshot, question: &Question) -> Result<Vec<String>, Error> {
    let same = of_the_same_name(snapshot, question)?;
    if !same.is_empty() {
        return Ok(same);
    }
    let mut found = match question {
        Question::Container(question) => images_like(snapshot, question)?,
        Question::Operator(question) => {
            let (name, version) = split_csv_name(&question.csv_name);
            let mut found = Vec::new();
            for near in nearest(name, snapshot.operator_names()?).into_iter().take(NEAR as usize) {
                found.extend(snapshot.operators_like(&format!("{near}.{version}"), NEAR)?);
            }
            found
        }
        Question::Helm(question) => {
            let mut found = Vec::new();
            let names = snapshot.chart_names()?.into_iter().map(|name| (name.clone(), name));
            for near in nearest(&question.chart, names).into_iter().take(NEAR as usize) {
                found.extend(snapshot.charts_like(&near, NEAR)?);
            }
            found
        }
        Question::KubeConstraint(_) => Vec::new(),
    };
    found.truncate(NEAR as usize);
    Ok(found)
}

/// What has the name that was asked for.
pub fn of_the_same_name(snapshot: &Snapshot, question: &Question) -> Result<Vec<String>, Error> {
    match question {
        Question::Container(question) => snapshot.tags_of(&question.registry, &question.repository, NEAR),
        Question::Operator(question) => snapshot.operators_like(&question.csv_name, NEAR),
        Question::Helm(question) => snapshot.charts_like(&question.chart, NEAR),
        Question::KubeConstraint(_) => Ok(Vec::new()),
    }
}

/// Images of repositories with a name like this one, in any registry: with the tag that was asked for, where it is there, or else
/// the newest; of a single repository, all.
fn images_like(snapshot: &Snapshot, question: &ContainerQuestion) -> Result<Vec<String>, Error> {
    let asked = question.repository.to_lowercase();
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let registry = stored_registry(&question.registry).to_lowercase();
    let mut ranked: Vec<(usize, usize, (String, String))> = Vec::new();
    for (host, name) in snapshot.repositories()? {
        if let Some(distance) = distance(&asked, &name.to_lowercase()) {
            ranked.push((distance, strsim::osa_distance(&registry, &host.to_lowercase()), (host, name)));
        }
    }
    ranked.sort_unstable();
    let best = ranked.first().map(|(distance, ..)| *distance);
    ranked.retain(|(distance, ..)| Some(*distance) == best);
    let is_single = ranked.len() == 1;
    let mut found = Vec::new();
    for (_, _, (host, name)) in ranked.into_iter().take(NEAR as usize) {
        let mut images = snapshot.tags_of(&host, &name, if is_single { NEAR } else { 1 })?;
        if !question.tag.is_empty() && snapshot.has_tag(&host, &name, &question.tag)? {
            let asked = format!("{host}/{name}:{}", question.tag);
            images.retain(|image| is_single && *image != asked);
            images.insert(0, asked);
        }
        found.append(&mut images);
    }
    Ok(found)
}

/// Of names with what each of them leads to, those that are most like the one that was asked for; each once.
fn nearest(asked: &str, names: impl IntoIterator<Item = (String, String)>) -> Vec<String> {
    let asked = asked.to_lowercase();
    let likes = names.into_iter().filter_map(|(name, leads)| Some((distance(&asked, &name.to_lowercase())?, leads)));
    let mut ranked: Vec<(usize, String)> = likes.collect();
    ranked.sort_unstable();
    ranked.dedup();
    let best = ranked.first().map(|(distance, _)| *distance);
    ranked.into_iter().take_while(|(distance, _)| Some(*distance) == best).map(|(_, name)| name).collect()
}

/// How far a name is from the one that was asked for, both in lower case; `None` where it is another name. A part before or
/// behind that was left out, or is too much, counts as one slip.
fn distance(asked: &str, name: &str) -> Option<usize> {
    if asked.is_empty() || name.is_empty() {
        return None;
    }
    let is_part = |part: &str, of: &str| {
        part.len() > 2
            && (of.strip_prefix(part).is_some_and(|rest| rest.starts_with(['-', '/']))
                || of.strip_suffix(part).is_some_and(|rest| rest.ends_with(['-', '/'])))
    };
    let most = MOST.min(asked.len() / 4);
    // A catalog has a hundred thousand names, and counting slips takes a microsecond for each.
    let slips = match least(asked, name) > most {
        true => usize::MAX,
        false => strsim::osa_distance(asked, name),
    };
    if slips > 1 && (is_part(asked, name) || is_part(name, asked)) {
        return Some(1);
    }
    (slips <= most).then_some(slips)
}

/// As many slips as there are at least: each makes a text one letter longer or shorter, or exchanges one of its letters for another.
fn least(a: &str, b: &str) -> usize {
    let longer = a.len().abs_diff(b.len());
    if !a.is_ascii() || !b.is_ascii() {
        return a.chars().count().abs_diff(b.chars().count());
    }
    if longer > MOST {
        return longer;
    }
    let mut counts = [0_i32; 128];
    a.bytes().for_each(|byte| counts[usize::from(byte)] += 1);
    b.bytes().for_each(|byte| counts[usize::from(byte)] -= 1);
    let others: usize = counts.iter().map(|count| count.unsigned_abs() as usize).sum();
    longer.max(others.div_ceil(2))
}

/// How many are named.
pub(in crate::catalog) const NEAR: u32 = 10;

/// Slips of the finger in a long name; in a short one, one for each four letters.
const MOST: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_near_by_its_case_a_slip_or_a_part() {
        for (asked, name, expected) in [
            ("acme/db", "acme/db", Some(0)),
            ("acme/bd", "acme/db", Some(1)),
            ("acmee/db", "acme/db", Some(1)),
            ("db-operator", "acme-db-operator", Some(1)),
            ("acme-db", "acme-db-operator", Some(1)),
            ("acme-db-operator", "acme-db", Some(1)),
            ("nginx", "nginx/nginx", Some(1)),
            ("acme-db-operator-v1", "acme-db-operator", Some(1)),
            ("acme/db", "acme/cache", None),
            ("db", "acme/db", None),
            ("xdb", "ydb", None),
            ("nobody", "op0-operator", None),
            ("", "acme", None),
        ] {
            assert_eq!(distance(asked, name), expected, "{asked} {name}");
        }
    }

    #[test]
    fn what_is_not_counted_for_its_letters_would_have_more_slips() {
        let names = ["acme", "acem", "amce-db", "acme-db", "acme/db", "db-acme", "", "xyz", "aacme", "äcme", "ácme-db"];
        for a in names {
            for b in names {
                assert!(least(a, b) <= strsim::osa_distance(a, b), "{a} {b}");
            }
        }
        assert_eq!((least("acme-db", "acme-cache"), least("acme", "acem"), least("abcd", "wxyz")), (4, 0, 4));
    }
}
