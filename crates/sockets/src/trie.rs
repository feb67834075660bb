//! A radix trie: keys of bytes, and which of them a text begins with.
//!
//! A look-up is one walk along the text, however many keys there are and of however many lengths.
//! Keys come from peers, and a chain of many thousands is one node below the other: nothing here is
//! done by recursion.

/// Values by key.
#[derive(Debug)]
pub(crate) struct Trie<T> {
    root: Node<T>,
    len: usize,
}

#[derive(Debug)]
struct Node<T> {
    /// The label between the node above and this one; empty at the root alone.
    label: Box<[u8]>,
    value: Option<T>,
    /// Children by the first byte of their labels.
    children: Vec<(u8, Box<Self>)>,
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Self { root: Node::default(), len: 0 }
    }
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { label: Box::default(), value: None, children: Vec::new() }
    }
}

impl<T> Drop for Node<T> {
    fn drop(&mut self) {
        let mut below = std::mem::take(&mut self.children);
        while let Some((_, mut node)) = below.pop() {
            below.append(&mut node.children);
        }
    }
}

impl<T> Trie<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of the empty key, which every text begins with.
    pub(crate) fn root(&self) -> Option<&T> {
        self.root.value.as_ref()
    }

    /// The value of a key, made if there is none.
    pub(crate) fn entry(&mut self, key: &[u8]) -> &mut T
    where
        T: Default,
    {
        let (mut node, mut rest) = (&mut self.root, key);
        while let Some(first) = rest.first() {
            let place = match node.place(*first) {
                Ok(place) => place,
                Err(place) => {
                    let new = Node { label: rest.into(), value: None, children: Vec::new() };
                    node.children.insert(place, (*first, Box::new(new)));
                    place
                }
            };
            node = &mut *node.children[place].1;
            let common = common(&node.label, rest);
            if common < node.label.len() {
                node.split(common);
            }
            rest = &rest[common..];
        }
        self.len += usize::from(node.value.is_none());
        node.value.get_or_insert_default()
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&T> {
        let (mut node, mut rest) = (&self.root, key);
        while !rest.is_empty() {
            (node, rest) = node.step(rest)?;
        }
        node.value.as_ref()
    }

    pub(crate) fn get_mut(&mut self, key: &[u8]) -> Option<&mut T> {
        let (mut node, mut rest) = (&mut self.root, key);
        while !rest.is_empty() {
            (node, rest) = node.step_mut(rest)?;
        }
        node.value.as_mut()
    }

    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<T> {
        let (mut above, mut rest) = (&mut self.root, key);
        let Some(mut first) = rest.first().copied() else {
            let value = above.value.take()?;
            self.len -= 1;
            return Some(value);
        };
        let mut at_root = true;
        loop {
            let place = above.place(first).ok()?;
            let node = &mut above.children[place].1;
            rest = rest.strip_prefix(&*node.label)?;
            if let Some(next) = rest.first() {
                first = *next;
                above = &mut above.children[place].1;
                at_root = false;
                continue;
            }
            let value = node.value.take()?;
            self.len -= 1;
            if node.children.is_empty() {
                above.children.remove(place);
                if above.children.is_empty() {
                    above.children = Vec::new();
                }
                if !at_root {
                    above.join();
                }
            } else {
                node.join();
            }
            return Some(value);
        }
    }

    /// The values of the keys that `text` begins with, the shortest first.
    pub(crate) fn matching<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = &'a T> + 'a {
        let (mut next, mut rest) = (Some(&self.root), text);
        std::iter::from_fn(move || {
            while let Some(node) = next {
                next = node.step(rest).map(|(below, left)| {
                    rest = left;
                    below
                });
                if let Some(value) = &node.value {
                    return Some(value);
                }
            }
            None
        })
    }

    /// Changes the values of the keys that `text` begins with.
    pub(crate) fn for_matching(&mut self, text: &[u8], mut change: impl FnMut(&mut T)) {
        let mut next = Some((&mut self.root, text));
        while let Some((node, rest)) = next {
            if let Some(value) = &mut node.value {
                change(value);
            }
            next = node.step_mut(rest);
        }
    }

    /// The keys in their order.
    pub(crate) fn keys(&self) -> Keys<'_, T> {
        Keys { next: vec![(0, &self.root)], key: Vec::new(), minimal: false }
    }

    /// Returns the keys that begin with no other one.
    pub(crate) fn minimal(&self) -> Keys<'_, T> {
        Keys { minimal: true, ..self.keys() }
    }

    /// The keys one by one, each gone with it.
    pub(crate) fn into_keys(self) -> IntoKeys<T> {
        IntoKeys { next: vec![(0, Box::new(self.root))], key: Vec::new() }
    }
}

impl<T> Node<T> {
    /// The place of the child whose label begins so, or the place for it.
    fn place(&self, first: u8) -> Result<usize, usize> {
        self.children.binary_search_by_key(&first, |(byte, _)| *byte)
    }

    /// The node that `rest` leads to, and what is left then.
    fn step<'a>(&self, rest: &'a [u8]) -> Option<(&Self, &'a [u8])> {
        let place = self.place(*rest.first()?).ok()?;
        let node = &*self.children.get(place)?.1;
        Some((node, rest.strip_prefix(&*node.label)?))
    }

    fn step_mut<'a>(&mut self, rest: &'a [u8]) -> Option<(&mut Self, &'a [u8])> {
        let place = self.place(*rest.first()?).ok()?;
        let node = &mut *self.children.get_mut(place)?.1;
        let left = rest.strip_prefix(&*node.label)?;
        Some((node, left))
    }

    /// Cuts the label after `size` bytes: what the node held goes to a new one below it.
    fn split(&mut self, size: usize) {
        let tail: Box<[u8]> = self.label[size..].into();
        self.label = self.label[..size].into();
        let first = tail.first().copied().unwrap_or_default();
        let (value, children) = (self.value.take(), std::mem::take(&mut self.children));
        self.children = vec![(first, Box::new(Self { label: tail, value, children }))];
    }

    /// Takes the place of an only child, if there is no value.
    fn join(&mut self) {
        if self.value.is_none()
            && self.children.len() == 1
            && let Some((_, mut below)) = self.children.pop()
        {
            self.label = [&*self.label, &*below.label].concat().into();
            (self.value, self.children) = (below.value.take(), std::mem::take(&mut below.children));
        }
    }
}

/// Returns the number of bytes that two texts have in common at their beginning.
fn common(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

/// The keys of a trie.
#[derive(Debug)]
pub(crate) struct Keys<'a, T> {
    /// Nodes to be visited, the next one last, with the length of the key above each.
    next: Vec<(usize, &'a Node<T>)>,
    key: Vec<u8>,
    minimal: bool,
}

impl<T> Keys<'_, T> {
    /// The next key.
    pub(crate) fn next(&mut self) -> Option<&[u8]> {
        while let Some((above, node)) = self.next.pop() {
            self.key.truncate(above);
            self.key.extend_from_slice(&node.label);
            let length = self.key.len();
            if node.value.is_none() || !self.minimal {
                self.next.extend(node.children.iter().rev().map(|(_, child)| (length, &**child)));
            }
            if node.value.is_some() {
                return Some(&self.key);
            }
        }
        None
    }
}

/// The keys of a trie that goes with them.
#[derive(Debug)]
pub(crate) struct IntoKeys<T> {
    next: Vec<(usize, Box<Node<T>>)>,
    key: Vec<u8>,
}

impl<T> IntoKeys<T> {
    /// The next key.
    pub(crate) fn next(&mut self) -> Option<&[u8]> {
        while let Some((above, mut node)) = self.next.pop() {
            self.key.truncate(above);
            self.key.extend_from_slice(&node.label);
            let length = self.key.len();
            self.next.extend(node.children.drain(..).rev().map(|(_, child)| (length, child)));
            if node.value.is_some() {
                return Some(&self.key);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn listed<T>(mut keys: Keys<'_, T>) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| keys.next().map(<[u8]>::to_vec)).collect()
    }

    /// Keys over two letters, so that they have much in common.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop_oneof![Just(b'a'), Just(b'b')], 0..8)
    }

    /// Each node but the root has a value, or parts at least two ways.
    fn is_compact<T>(node: &Node<T>, is_root: bool) -> bool {
        let needed = is_root || node.value.is_some() || node.children.len() > 1;
        needed && node.children.iter().all(|(_, child)| is_compact(child, false))
    }

    proptest! {
        #[test]
        fn is_as_a_sorted_map(
            ops in prop::collection::vec((any::<bool>(), key()), 0..200),
            texts in prop::collection::vec(key(), 1..20),
        ) {
            let (mut trie, mut map) = (Trie::<u32>::default(), BTreeMap::<Vec<u8>, u32>::new());
            for (number, (adds, key)) in (1..).zip(ops) {
                if adds {
                    *trie.entry(&key) = number;
                    map.insert(key, number);
                } else {
                    prop_assert_eq!(trie.remove(&key), map.remove(&key));
                }
                prop_assert_eq!(trie.len(), map.len());
                prop_assert!(is_compact(&trie.root, true));
            }
            prop_assert_eq!(listed(trie.keys()), map.keys().cloned().collect::<Vec<_>>());
            let is_longer = |key: &Vec<u8>, than: &Vec<u8>| key != than && key.starts_with(than);
            let is_minimal = |key: &&Vec<u8>| !map.keys().any(|other| is_longer(key, other));
            let minimal: Vec<_> = map.keys().filter(is_minimal).cloned().collect();
            prop_assert_eq!(listed(trie.minimal()), minimal);
            for text in texts {
                prop_assert_eq!(trie.get(&text), map.get(&text));
                let expected = (0..=text.len()).filter_map(|end| map.get(&text[..end]).copied());
                let expected: Vec<_> = expected.collect();
                let found: Vec<_> = trie.matching(&text).copied().collect();
                prop_assert_eq!(&found, &expected);
                let mut changed = Vec::new();
                trie.for_matching(&text, |value| changed.push(*value));
                prop_assert_eq!(changed, expected);
            }
            for (key, value) in map.iter().take(5) {
                prop_assert_eq!(trie.remove(key), Some(*value));
            }
            let mut left = trie.into_keys();
            let left: Vec<_> = std::iter::from_fn(|| left.next().map(<[u8]>::to_vec)).collect();
            prop_assert_eq!(left, map.keys().skip(5).cloned().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_chain_is_no_deep_recursion() {
        let mut trie = Trie::<()>::default();
        let text = vec![b'a'; 20_000];
        (0..=text.len()).for_each(|end| *trie.entry(&text[..end]) = ());
        assert_eq!(trie.matching(&text).count(), text.len() + 1);
        assert_eq!(trie.remove(&text[..10_000]), Some(()));
        assert_eq!(trie.matching(&text).count(), text.len());
        let mut keys = trie.into_keys();
        assert_eq!(keys.next(), Some(&b""[..]));
        drop(keys);
    }
}
