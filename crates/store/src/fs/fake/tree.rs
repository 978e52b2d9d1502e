//! The names of the fake file system: what is seen, what a power loss would leave, and the changes between.

use super::content::Content;
use super::rng::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path};

/// What a name stands for; the number of a file or directory, never used twice.
pub(super) type NodeId = u64;

/// The directory every path starts from.
pub(super) const ROOT: NodeId = 0;

#[derive(Debug, Clone)]
pub(super) enum Node {
    File(Content),
    Dir(Dir),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Dir {
    pub(super) current: BTreeMap<OsString, NodeId>,
    durable: BTreeMap<OsString, NodeId>,
}

/// One name that was set or removed.
#[derive(Debug, Clone)]
pub(super) struct NameChange {
    pub(super) dir: NodeId,
    pub(super) name: OsString,
    pub(super) node: Option<NodeId>,
}

/// All files and directories.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    nodes: BTreeMap<NodeId, Node>,
    next_id: NodeId,
    /// What no `sync_dir` has covered; changes of one entry (a rename) are there together or not at all.
    pending: Vec<Vec<NameChange>>,
}

impl Tree {
    pub(super) fn new() -> Self {
        let nodes = BTreeMap::from([(ROOT, Node::Dir(Dir::default()))]);
        Self { nodes, next_id: ROOT + 1, pending: Vec::new() }
    }

    /// The node of a path, `None` if there is none.
    pub(super) fn find(&self, path: &Path) -> io::Result<Option<NodeId>> {
        let mut id = ROOT;
        for name in names(path)? {
            match self.dir(id)?.current.get(name) {
                Some(&child) => id = child,
                None => return Ok(None),
            }
        }
        Ok(Some(id))
    }

    /// The node of a path that must be there.
    pub(super) fn get(&self, path: &Path) -> io::Result<NodeId> {
        self.find(path)?.ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("no such file or directory: {}", path.display()))
        })
    }

    /// The directory that holds the last name of a path, and that name.
    pub(super) fn parent<'a>(&self, path: &'a Path) -> io::Result<(NodeId, &'a OsStr)> {
        let name = path.file_name().ok_or_else(|| invalid(path))?;
        let parent = path.parent().unwrap_or(Path::new(""));
        let id = self.get(parent)?;
        self.dir(id)?;
        Ok((id, name))
    }

    pub(super) fn node(&self, id: NodeId) -> io::Result<&Node> {
        self.nodes.get(&id).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn dir(&self, id: NodeId) -> io::Result<&Dir> {
        match self.node(id)? {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn file(&self, id: NodeId) -> io::Result<&Content> {
        match self.node(id)? {
            Node::File(content) => Ok(content),
            Node::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn file_mut(&mut self, id: NodeId) -> io::Result<&mut Content> {
        match self.nodes.get_mut(&id) {
            Some(Node::File(content)) => Ok(content),
            Some(Node::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Makes a node of a new name.
    pub(super) fn create(&mut self, dir: NodeId, name: &OsStr, node: Node) -> NodeId {
        let id = self.next_id;
        self.next_id += 1;
        self.nodes.insert(id, node);
        self.change(vec![NameChange { dir, name: name.to_owned(), node: Some(id) }]);
        id
    }

    /// Carries out changes of names that survive together or not at all.
    pub(super) fn change(&mut self, changes: Vec<NameChange>) {
        for change in &changes {
            if let Some(Node::Dir(dir)) = self.nodes.get_mut(&change.dir) {
                apply(&mut dir.current, change);
            }
        }
        self.pending.push(changes);
    }

    /// Makes the names of a directory durable, and the other half of renames that led into it or out of it.
    pub(super) fn sync_dir(&mut self, id: NodeId) {
        let pending = std::mem::take(&mut self.pending);
        let (done, left) =
            pending.into_iter().partition(|changes| changes.iter().any(|change| change.dir == id));
        self.pending = left;
        self.make_durable(done);
    }

    fn make_durable(&mut self, done: Vec<Vec<NameChange>>) {
        for change in done.into_iter().flatten() {
            if let Some(Node::Dir(dir)) = self.nodes.get_mut(&change.dir) {
                apply(&mut dir.durable, &change);
            }
        }
    }

    /// Forgets what no name, pending change or open file refers to.
    pub(super) fn collect(&mut self, open: impl Iterator<Item = NodeId>) {
        let mut seen: BTreeSet<NodeId> = BTreeSet::new();
        let mut todo: Vec<NodeId> = open.chain([ROOT]).collect();
        todo.extend(self.pending.iter().flatten().flat_map(|change| change.node));
        while let Some(id) = todo.pop() {
            if seen.insert(id)
                && let Some(Node::Dir(dir)) = self.nodes.get(&id)
            {
                todo.extend(dir.current.values().chain(dir.durable.values()));
            }
        }
        self.nodes.retain(|id, _| seen.contains(id));
    }

    /// Space taken by files that have a name or are open.
    pub(super) fn used_bytes(&self, open: impl Iterator<Item = NodeId>) -> u64 {
        let mut seen: BTreeSet<NodeId> = open.collect();
        let mut todo = vec![ROOT];
        while let Some(id) = todo.pop() {
            seen.insert(id);
            if let Some(Node::Dir(dir)) = self.nodes.get(&id) {
                todo.extend(dir.current.values());
            }
        }
        let contents = seen.iter().filter_map(|id| self.file(*id).ok());
        contents.map(Content::used_bytes).sum()
    }

    /// The tree after a power loss.
    pub(super) fn after_power_loss(&self, rng: &mut Rng) -> Self {
        let mut left = self.clone();
        let odds = [0, 4, 8][rng.below(3)];
        let pending = std::mem::take(&mut left.pending);
        left.make_durable(pending.into_iter().filter(|_| rng.chance(odds)).collect());
        for node in left.nodes.values_mut() {
            match node {
                Node::File(content) => *content = content.after_power_loss(rng),
                Node::Dir(dir) => dir.current = dir.durable.clone(),
            }
        }
        left.collect(std::iter::empty());
        left
    }
}

fn apply(names: &mut BTreeMap<OsString, NodeId>, change: &NameChange) {
    match change.node {
        Some(node) => names.insert(change.name.clone(), node),
        None => names.remove(&change.name),
    };
}

/// The names along a path; relative paths start at the root.
pub(super) fn names(path: &Path) -> io::Result<Vec<&OsStr>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => names.push(name),
            Component::ParentDir | Component::Prefix(_) => return Err(invalid(path)),
        }
    }
    Ok(names)
}

fn invalid(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("not a path of this file system: {}", path.display()))
}
