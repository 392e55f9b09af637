//! Ways through a TOML document: to a value, to a span, and changes on the way.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::problem::Step;

/// How many positions behind the end of the text belong to one variable of the environment: one for each part of its
/// name, the last one for its value.
pub(super) const STRIDE: usize = 32;

/// The way to the innermost key or value with this span.
pub(super) fn find(table: &DeTable<'_>, span: &Range<usize>) -> Option<Vec<Step>> {
    for (key, value) in table {
        let found = if key.span() == *span { Some(Vec::new()) } else { find_in(value, span) };
        if let Some(mut path) = found {
            path.insert(0, Step::Key(key.get_ref().to_string()));
            return Some(path);
        }
    }
    None
}

fn find_in(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<Vec<Step>> {
    let inner = match value.get_ref() {
        DeValue::Table(table) => find(table, span),
        DeValue::Array(array) => array.iter().enumerate().find_map(|(index, item)| {
            let mut path = find_in(item, span)?;
            path.insert(0, Step::Index(index));
            Some(path)
        }),
        _ => None,
    };
    inner.or_else(|| (value.span() == *span).then(Vec::new))
}

pub(super) fn value<'t, 'i>(root: &'t DeTable<'i>, path: &[Step]) -> Option<&'t Spanned<DeValue<'i>>> {
    let (first, rest) = path.split_first()?;
    let Step::Key(key) = first else { return None };
    rest.iter().try_fold(root.get(key.as_str())?, |value, step| match step {
        Step::Key(key) => value.get_ref().as_table()?.get(key.as_str()),
        Step::Index(index) => value.get_ref().as_array()?.get(*index),
    })
}

pub(super) fn value_mut<'t, 'i>(root: &'t mut DeTable<'i>, path: &[Step]) -> Option<&'t mut Spanned<DeValue<'i>>> {
    let (first, rest) = path.split_first()?;
    let Step::Key(key) = first else { return None };
    rest.iter().try_fold(root.get_mut(key.as_str())?, |value, step| match (step, value.get_mut()) {
        (Step::Key(key), DeValue::Table(table)) => table.get_mut(key.as_str()),
        (Step::Index(index), DeValue::Array(array)) => array.get_mut(*index),
        _ => None,
    })
}

/// False if there was nothing to remove.
pub(super) fn remove(root: &mut DeTable<'_>, path: &[Step]) -> bool {
    let Some((Step::Key(key), parents)) = path.split_last() else { return false };
    if parents.is_empty() {
        return root.remove(key.as_str()).is_some();
    }
    match value_mut(root, parents).map(Spanned::get_mut) {
        Some(DeValue::Table(table)) => table.remove(key.as_str()).is_some(),
        _ => false,
    }
}

/// A table, or a list of them.
pub(super) fn is_section(value: &Spanned<DeValue<'_>>) -> bool {
    match value.get_ref() {
        DeValue::Table(_) => true,
        DeValue::Array(items) => !items.is_empty() && items.iter().all(|item| item.get_ref().is_table()),
        _ => false,
    }
}

/// Gives the key at the end of a path another name; where it stands in the text does not change.
pub(super) fn rename<'a>(root: &mut DeTable<'a>, path: &[Step], new: &[Step]) {
    let (Some((Step::Key(old), parents)), Some(Step::Key(new))) = (path.split_last(), new.last()) else { return };
    let table = if parents.is_empty() {
        root
    } else {
        match value_mut(root, parents).map(Spanned::get_mut) {
            Some(DeValue::Table(table)) => table,
            _ => return,
        }
    };
    if let Some((key, value)) = table.remove_entry(old.as_str()) {
        table.insert(Spanned::new(key.span(), new.clone().into()), value);
    }
}

/// Puts a value at a path, making the sections on the way. False when something on the way is no section.
pub(super) fn insert<'a>(root: &mut DeTable<'a>, path: &[String], value: DeValue<'a>, mark: usize) -> bool {
    let Some((key, sections)) = path.split_last() else { return false };
    let mut table = root;
    for (depth, section) in sections.iter().enumerate() {
        let span = mark + depth..mark + depth;
        let fresh = || Spanned::new(span.clone(), DeValue::Table(DeTable::new()));
        let entry = table.entry(Spanned::new(span.clone(), section.clone().into())).or_insert_with(fresh);
        let DeValue::Table(next) = entry.get_mut() else { return false };
        table = next;
    }
    table.remove(key.as_str());
    let depth = mark + sections.len();
    table.insert(Spanned::new(depth..depth, key.clone().into()), respan(value, mark + STRIDE - 1));
    true
}

/// The value with every span in it pointing at the variable that it came from.
fn respan(value: DeValue<'_>, mark: usize) -> Spanned<DeValue<'_>> {
    let value = match value {
        DeValue::Array(array) => {
            let mut marked = DeArray::new();
            array.iter().for_each(|item| marked.push(respan(item.get_ref().clone(), mark)));
            DeValue::Array(marked)
        }
        DeValue::Table(table) => {
            let mut marked = DeTable::new();
            for (key, value) in table {
                marked.insert(Spanned::new(mark..mark, key.into_inner()), respan(value.into_inner(), mark));
            }
            DeValue::Table(marked)
        }
        other => other,
    };
    Spanned::new(mark..mark, value)
}
