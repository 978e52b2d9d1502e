//! How deep values nest. What prints, compares or drops a value goes as deep as it does, on the stack.

use foldhash::{HashMap, HashMapExt};
use jaq_json::{Map, Rc, Val};

/// Deepest value that an evaluation may hold.
pub(super) const DEPTH_MAX: usize = 10_000;

/// What is left to be seen of a value, and how high what was seen of it is.
struct Level<'v> {
    rest: Rest<'v>,
    /// If it is shared: what its height is remembered by.
    shared: Option<usize>,
    height: usize,
}

/// Of an object.
type Entries<'v> = Box<dyn Iterator<Item = (&'v Val, &'v Val)> + 'v>;

enum Rest<'v> {
    Arr(std::slice::Iter<'v, Val>),
    /// Keys are values too.
    Obj(Entries<'v>, Option<&'v Val>),
}

impl<'v> Rest<'v> {
    fn next(&mut self) -> Option<&'v Val> {
        match self {
            Self::Arr(items) => items.next(),
            Self::Obj(entries, value) => value.take().or_else(|| {
                let (key, behind) = entries.next()?;
                *value = Some(behind);
                Some(key)
            }),
        }
    }
}

impl<'v> Level<'v> {
    fn new(val: &'v Val) -> Option<Self> {
        let entries = |map: &'v Map| -> Entries<'v> { Box::new(map.iter()) };
        let (rest, shared) = match val {
            Val::Arr(items) => (Rest::Arr(items.iter()), key(items)),
            Val::Obj(map) => (Rest::Obj(entries(map), None), key(map)),
            _ => return None,
        };
        Some(Self { rest, shared, height: 0 })
    }
}

fn key<T>(of: &Rc<T>) -> Option<usize> {
    (Rc::strong_count(of) > 1).then(|| Rc::as_ptr(of).addr())
}

/// Whether a value nests deeper than `max`, as far as `parts` of it show. Without recursion, and each part once, however
/// often it is in the value. Takes from `parts` what was seen.
pub(super) fn is_deeper(val: &Val, max: usize, parts: &mut usize) -> bool {
    let mut heights: HashMap<usize, usize> = HashMap::new();
    let mut levels: Vec<_> = Level::new(val).into_iter().collect();
    while let Some(level) = levels.last_mut() {
        *parts = parts.saturating_sub(1);
        if *parts == 0 {
            return false;
        }
        let Some(child) = level.rest.next() else {
            let height = level.height;
            level.shared.map(|shared| heights.insert(shared, height));
            levels.pop();
            if let Some(above) = levels.last_mut() {
                above.height = above.height.max(height + 1);
            }
            continue;
        };
        let Some(below) = Level::new(child) else { continue };
        let known = below.shared.and_then(|shared| heights.get(&shared).copied());
        match known {
            Some(height) => {
                level.height = level.height.max(height + 1);
                if levels.len() + height >= max {
                    return true;
                }
            }
            None if levels.len() >= max => return true,
            None => levels.push(below),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{Map, Rc, Val};

    fn is_deeper(val: &Val, max: usize) -> bool {
        super::is_deeper(val, max, &mut 100_000)
    }

    fn arr(items: Vec<Val>) -> Val {
        Val::Arr(Rc::new(items))
    }

    #[test]
    fn depth_is_counted_through_lists_objects_and_shared_parts() {
        let nested =
            |levels: usize| (0..levels).fold(Val::Null, |inner, _| arr(vec![Val::Null, inner, Val::Null]));
        for levels in [0, 1, 5, 100] {
            let val = nested(levels);
            assert!(
                !is_deeper(&val, levels.max(1)) && (levels < 2 || is_deeper(&val, levels - 1)),
                "{levels}"
            );
        }
        // Seen high up first, and deep down again.
        let shared = nested(50);
        let deep = (0..60).fold(shared.clone(), |inner, _| arr(vec![inner]));
        let both = arr(vec![shared.clone(), deep]);
        assert!(is_deeper(&both, 110) && !is_deeper(&both, 111));
        let mut map = Map::default();
        map.insert(nested(7), shared);
        let object = Val::Obj(Rc::new(map));
        assert!(is_deeper(&object, 50) && !is_deeper(&object, 51));
    }

    #[test]
    fn what_is_shared_is_seen_once() {
        let val = (0..64).fold(Val::Null, |inner, _| arr(vec![inner.clone(), inner]));
        assert!(!is_deeper(&val, 64) && is_deeper(&val, 63));
    }
}
