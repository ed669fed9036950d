//! The file as a tree in which every key and value knows its place.
//!
//! Owns the link between a value and its bytes. serde reports a mistake by the span of the value it was reading; here
//! every span is replaced by the number of a node before serde sees it, so that a report leads to exactly one node,
//! whatever the file looks like. Parts that can't be read are taken out, so that the rest can be.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue, ValueDeserializer};

use crate::place::{Place, Step};
use crate::problem::{Complaint, Find};

/// The number of a key or a value in a [`Document`].
pub(crate) type NodeId = usize;

/// The root table's number.
pub(crate) const ROOT: NodeId = 0;

/// One configuration file, parsed.
pub(crate) struct Document<'t> {
    root: DeValue<'t>,
    nodes: Vec<Node>,
}

/// A key or a value.
struct Node {
    place: Place,
    span: Range<usize>,
    /// Its key is a guess of ours: a mistake of its kind is no news.
    guessed: bool,
    /// A value of ours stands here: mistakes in it would be our own.
    stands_in: bool,
    /// Keys that were here and were taken out; for a list, any entry at all.
    lost: Vec<String>,
    /// Something here was not understood at all: that anything is missing beside it is no news.
    incomplete: bool,
    /// The table or list around it; for a key, its table.
    parent: NodeId,
    part: Part,
}

/// Which part of a key-value pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The key.
    Key,
    /// What stands behind it.
    Value,
}

impl Node {
    fn new(place: Place, span: Range<usize>) -> Node {
        Node {
            place,
            span,
            guessed: false,
            stands_in: false,
            lost: Vec::new(),
            incomplete: false,
            parent: ROOT,
            part: Part::Value,
        }
    }
}

impl<'t> Document<'t> {
    /// The tree of a text that was loaded before; references in it stay as they are.
    pub(crate) fn again(text: &'t str) -> Document<'t> {
        let (table, _) = DeTable::parse_recoverable(text);
        Document::new(table.into_inner(), &mut |_, _| Ok(None)).0
    }

    /// Numbers a parsed table. Strings go through `expand`, which may refuse one.
    pub(crate) fn new(table: DeTable<'t>, expand: &mut Expand<'_>) -> (Document<'t>, Vec<Find>) {
        let mut document = Document { root: DeValue::Table(DeTable::new()), nodes: Vec::new() };
        document.add(Node::new(Place::root(), 0..0));
        let mut finds = Vec::new();
        document.root = document.number(DeValue::Table(table), ROOT);
        document.expand_strings(expand, &mut finds);
        (document, finds)
    }

    /// Reads the tree as it stands; the error carries the number of the node it is about.
    pub(crate) fn read<T: Deserialize<'t>>(&self) -> Result<T, (NodeId, String)> {
        let root = Spanned::new(number_span(ROOT), self.root.clone());
        T::deserialize(ValueDeserializer::from(root)).map_err(|error| {
            let id = error.span().map_or(ROOT, |span| span.start);
            (id, error.message().to_owned())
        })
    }

    /// Whether its key is a guess.
    pub(crate) fn is_guessed(&self, id: NodeId) -> bool {
        self.nodes[id].guessed
    }

    /// Whether it is a key, and the table it stands in.
    pub(crate) fn table_of_key(&self, id: NodeId) -> Option<NodeId> {
        let node = &self.nodes[id];
        (node.part == Part::Key).then_some(node.parent)
    }

    /// Whether anything was taken out of a table or a list.
    pub(crate) fn is_hollow(&self, id: NodeId) -> bool {
        !self.nodes[id].lost.is_empty()
    }

    /// Whether the absence of a key from a table is the echo of another mistake.
    pub(crate) fn excuses(&self, table: NodeId, key: &str) -> bool {
        self.nodes[table].incomplete || self.has_lost(table, key)
    }

    /// Takes a node out that was not understood, so that what is missing beside it is no news.
    pub(crate) fn give_up(&mut self, id: NodeId) -> bool {
        let parent = self.nodes[id].parent;
        self.nodes[parent].incomplete = true;
        self.remove(id)
    }

    /// A complaint about a node.
    pub(crate) fn find(&self, id: NodeId, complaint: Complaint) -> Find {
        let node = &self.nodes[id];
        Find { span: node.span.clone(), place: node.place.clone(), complaint, related: None, lint: None }
    }

    /// A complaint about a place of the tree as it stands, or, where the file does not mention it, about the nearest
    /// table around it. `None` where it would be about a guess, or about something that was taken out: there has been
    /// a complaint already.
    pub(crate) fn complain(&self, place: &Place, part: Part, complaint: Complaint) -> Option<Find> {
        let (id, exact) = self.locate(place, part)?;
        let find = self.find(id, complaint);
        Some(if exact { find } else { Find { place: place.clone(), ..find } })
    }

    /// The bytes of a place that the file mentions.
    pub(crate) fn span(&self, place: &Place, part: Part) -> Option<Range<usize>> {
        let (id, exact) = self.locate(place, part)?;
        exact.then(|| self.nodes[id].span.clone())
    }

    /// Every value of the file whose place is wanted, also where it was taken out.
    pub(crate) fn values(&self, wanted: impl Fn(&Place) -> bool) -> impl Iterator<Item = (&Place, Range<usize>)> {
        let values = self.nodes.iter().filter(|node| node.part == Part::Value && !node.stands_in);
        values.filter(move |node| wanted(&node.place)).map(|node| (&node.place, node.span.clone()))
    }

    fn locate(&self, place: &Place, part: Part) -> Option<(NodeId, bool)> {
        let mut at = (ROOT, ROOT, &self.root);
        for step in place.steps() {
            let Some(next) = child(at.2, step) else {
                let echo = self.nodes[at.1].incomplete || self.has_lost_step(at.1, step);
                return (!echo).then_some((at.1, false));
            };
            at = next;
            if self.nodes[at.1].stands_in {
                return None;
            }
        }
        let (key, value, _) = at;
        let id = if part == Part::Key { key } else { value };
        let hollow = part == Part::Value && self.is_hollow(value);
        (!hollow).then_some((id, true))
    }

    /// Names that were in a table and were taken out.
    pub(crate) fn lost_names(&self, place: &Place) -> &[String] {
        let node = self.nodes.iter().find(|node| !node.lost.is_empty() && node.place == *place);
        node.map_or(&[], |node| &node.lost)
    }

    /// Whether a name was in a table and was taken out, or the table itself was.
    pub(crate) fn has_lost_name(&self, table: &str, name: &str) -> bool {
        self.has_lost_key(&Place::root(), table) || self.has_lost_key(&Place::root().key(table), name)
    }

    /// Whether a table had a key that was taken out.
    pub(crate) fn has_lost_key(&self, table: &Place, key: &str) -> bool {
        self.lost_names(table).iter().any(|lost| lost == key)
    }

    /// Takes the node out: a key goes with its value, a value with its key. The root stays.
    pub(crate) fn remove(&mut self, id: NodeId) -> bool {
        let mut root = std::mem::replace(&mut self.root, DeValue::Boolean(false));
        let removed = remove_from(&mut root, ROOT, id);
        self.root = root;
        if let Some((parent, name)) = &removed {
            self.nodes[*parent].lost.push(name.clone());
        }
        removed.is_some()
    }

    /// Gives a key another name, as a guess. Refused for values, and where the name is taken.
    pub(crate) fn rename(&mut self, key: NodeId, name: &str) -> bool {
        if self.nodes[key].part != Part::Key {
            return false;
        }
        let Some((table, _)) = table_with(&mut self.root, ROOT, key) else { return false };
        if table.contains_key(name) {
            return false;
        }
        let mut renamed = DeTable::new();
        let mut guessed = key;
        for (old, value) in std::mem::take(table) {
            let fits = old.span().start == key;
            guessed = if fits { value.span().start } else { guessed };
            let new = if fits { Spanned::new(old.span(), DeString::from(name.to_owned())) } else { old };
            renamed.insert(new, value);
        }
        *table = renamed;
        self.nodes[key].guessed = true;
        self.nodes[guessed].guessed = true;
        true
    }

    /// Puts a stand-in value under a key of a table, as a guess.
    pub(crate) fn stand_in(&mut self, table: NodeId, name: &str, value: &'static str) -> bool {
        let Ok(value) = DeValue::parse(value) else { return false };
        let around = &self.nodes[table];
        let node = Node { stands_in: true, parent: table, ..Node::new(around.place.key(name), around.span.clone()) };
        let id = self.add(node);
        let Some(DeValue::Table(content)) = value_of(&mut self.root, ROOT, table) else { return false };
        let key = Spanned::new(number_span(id), DeString::from(name.to_owned()));
        content.insert(key, Spanned::new(number_span(id), value.into_inner()));
        true
    }

    fn has_lost(&self, id: NodeId, key: &str) -> bool {
        self.nodes[id].lost.iter().any(|lost| lost == key)
    }

    fn has_lost_step(&self, id: NodeId, step: &Step) -> bool {
        match step {
            Step::Key(name) => self.has_lost(id, name),
            Step::Index(_) => !self.nodes[id].lost.is_empty(),
        }
    }

    fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn number(&mut self, value: DeValue<'t>, id: NodeId) -> DeValue<'t> {
        match value {
            DeValue::Table(table) => {
                DeValue::Table(table.into_iter().map(|(key, value)| self.number_entry(key, value, id)).collect())
            }
            DeValue::Array(list) => {
                let around = self.nodes[id].place.clone();
                let entries = list.into_iter().enumerate();
                let numbered = entries.map(|(index, value)| self.number_value(value, around.index(index), id));
                DeValue::Array(numbered.collect())
            }
            plain => plain,
        }
    }

    fn number_entry(&mut self, key: Spanned<DeString<'t>>, value: Spanned<DeValue<'t>>, table: NodeId) -> Entry<'t> {
        let place = self.nodes[table].place.key(key.get_ref());
        let id = self.add(Node { part: Part::Key, parent: table, ..Node::new(place.clone(), key.span()) });
        (Spanned::new(number_span(id), key.into_inner()), self.number_value(value, place, table))
    }

    fn number_value(&mut self, value: Spanned<DeValue<'t>>, place: Place, parent: NodeId) -> Spanned<DeValue<'t>> {
        let id = self.add(Node { parent, ..Node::new(place, value.span()) });
        Spanned::new(number_span(id), self.number(value.into_inner(), id))
    }

    fn expand_strings(&mut self, expand: &mut Expand<'_>, finds: &mut Vec<Find>) {
        let mut root = std::mem::replace(&mut self.root, DeValue::Boolean(false));
        let mut refused = Vec::new();
        each_string(&mut root, ROOT, &mut |id, text| match expand(text, &self.nodes[id].place) {
            Ok(Some(expanded)) => *text = DeString::from(expanded),
            Ok(None) => {}
            Err(complaint) => {
                refused.push(id);
                finds.push(self.find(id, complaint));
            }
        });
        self.root = root;
        for id in refused {
            self.remove(id);
        }
    }
}

/// What becomes of a string at a place: `None` when it stays.
pub(crate) type Expand<'a> = dyn FnMut(&str, &Place) -> Result<Option<String>, Complaint> + 'a;

type Entry<'t> = (Spanned<DeString<'t>>, Spanned<DeValue<'t>>);

/// A node's number in the place of a span.
fn number_span(id: NodeId) -> Range<usize> {
    id..id
}

fn child<'a, 't>(value: &'a DeValue<'t>, step: &Step) -> Option<(NodeId, NodeId, &'a DeValue<'t>)> {
    match (value, step) {
        (DeValue::Table(table), Step::Key(name)) => {
            let same = |(key, _): &(&Spanned<DeString<'t>>, _)| key.get_ref().eq_ignore_ascii_case(name);
            let exact = table.get_key_value(name.as_str());
            let (key, value) = exact.or_else(|| table.iter().find(same))?;
            Some((key.span().start, value.span().start, value.get_ref()))
        }
        (DeValue::Array(list), Step::Index(index)) => {
            let value = list.get(*index)?;
            Some((value.span().start, value.span().start, value.get_ref()))
        }
        _ => None,
    }
}

fn value_of<'a, 't>(value: &'a mut DeValue<'t>, id: NodeId, wanted: NodeId) -> Option<&'a mut DeValue<'t>> {
    if id == wanted {
        return Some(value);
    }
    let found = |value: &'a mut Spanned<DeValue<'t>>| {
        let id = value.span().start;
        value_of(value.get_mut(), id, wanted)
    };
    match value {
        DeValue::Table(table) => table.iter_mut().map(|(_, value)| value).find_map(found),
        DeValue::Array(list) => list.iter_mut().find_map(found),
        _ => None,
    }
}

/// The table that has a key or value of this number, and the table's own number.
fn table_with<'a, 't>(value: &'a mut DeValue<'t>, id: NodeId, wanted: NodeId) -> Option<(&'a mut DeTable<'t>, NodeId)> {
    match value {
        DeValue::Table(table) => {
            if table.iter().any(|(key, value)| key.span().start == wanted || value.span().start == wanted) {
                return Some((table, id));
            }
            table.iter_mut().find_map(|(_, value)| {
                let id = value.span().start;
                table_with(value.get_mut(), id, wanted)
            })
        }
        DeValue::Array(list) => list.iter_mut().find_map(|value| {
            let id = value.span().start;
            table_with(value.get_mut(), id, wanted)
        }),
        _ => None,
    }
}

/// Takes a node out and says from where, and under which name.
fn remove_from<'t>(value: &mut DeValue<'t>, id: NodeId, wanted: NodeId) -> Option<(NodeId, String)> {
    match value {
        DeValue::Table(table) => {
            let fits = |(key, value): &(&Spanned<DeString<'t>>, &Spanned<DeValue<'t>>)| {
                key.span().start == wanted || value.span().start == wanted
            };
            let name = table.iter().find(fits).map(|(key, _)| key.get_ref().to_string());
            if let Some(name) = name {
                table.remove(name.as_str());
                return Some((id, name));
            }
            table.iter_mut().find_map(|(_, value)| {
                let id = value.span().start;
                remove_from(value.get_mut(), id, wanted)
            })
        }
        DeValue::Array(list) => {
            if let Some(index) = list.iter().position(|value| value.span().start == wanted) {
                let rest: DeArray<'t> = std::mem::replace(list, DeArray::new())
                    .into_iter()
                    .filter(|value| value.span().start != wanted)
                    .collect();
                *list = rest;
                return Some((id, index.to_string()));
            }
            list.iter_mut().find_map(|value| {
                let id = value.span().start;
                remove_from(value.get_mut(), id, wanted)
            })
        }
        _ => None,
    }
}

fn each_string<'t>(value: &mut DeValue<'t>, id: NodeId, visit: &mut dyn FnMut(NodeId, &mut DeString<'t>)) {
    match value {
        DeValue::String(text) => visit(id, text),
        DeValue::Table(table) => {
            for (_, value) in table.iter_mut() {
                let id = value.span().start;
                each_string(value.get_mut(), id, visit);
            }
        }
        DeValue::Array(list) => {
            for value in list.iter_mut() {
                let id = value.span().start;
                each_string(value.get_mut(), id, visit);
            }
        }
        _ => {}
    }
}
