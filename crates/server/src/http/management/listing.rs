//! Lists as they are asked for: pages, filters by name, order, columns (M3).
//!
//! | Parameter | Does |
//! |---|---|
//! | `page`, `page_size` | a page, from 1, of 1 to 500 items (100 if it is not said); the answer is an object then |
//! | `name`, `use_regex=true` | of a page: only items whose name has this text, or in which this pattern is found |
//! | `sort`, `sort_reverse=true` | by this column; `a.b` is a member of a member |
//! | `columns` | only these members of each item |
//!
//! Other parameters are ignored, as RabbitMQ does.

use crate::http::refusal::Refusal;
use axum::Json;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use millpond_broker::NameSearch;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use std::cmp::Ordering;
use std::ops::Range;

/// Items of a page, unless the request says.
const PAGE_SIZE_DEFAULT: usize = 100;
/// Most items of a page.
const PAGE_SIZE_MAX: usize = 500;

/// One page.
#[derive(Debug, Clone, Copy)]
struct Page {
    number: usize,
    size: usize,
}

/// What a query asks of a list.
#[derive(Debug, Default)]
pub(super) struct Listing {
    columns: Vec<Vec<String>>,
    sort: Option<Vec<String>>,
    reverse: bool,
    page: Option<Page>,
    search: Option<NameSearch>,
}

/// The values of a parameter, decoded.
pub(in crate::http) fn parameters<'u>(uri: &'u Uri, name: &'u str) -> impl Iterator<Item = String> + 'u {
    let pairs = uri.query().unwrap_or_default().split('&');
    let found = pairs.filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then(|| value.replace('+', " "))
    });
    found.map(|value| percent_decode_str(&value).decode_utf8_lossy().into_owned())
}

/// The first value of a parameter, decoded.
pub(super) fn parameter(uri: &Uri, name: &str) -> Option<String> {
    parameters(uri, name).next()
}

fn path(column: &str) -> Vec<String> {
    column.split('.').map(str::to_owned).collect()
}

impl Listing {
    pub(super) fn read(uri: &Uri) -> Result<Self, Refusal> {
        let columns = parameter(uri, "columns").unwrap_or_default();
        let columns = columns.split(',').map(str::trim).filter(|column| !column.is_empty()).map(path);
        let mut this = Self {
            columns: columns.collect(),
            sort: parameter(uri, "sort").filter(|it| !it.is_empty()).map(|it| path(&it)),
            reverse: parameter(uri, "sort_reverse").as_deref() == Some("true"),
            ..Self::default()
        };
        let Some(number) = parameter(uri, "page") else { return Ok(this) };
        let invalid = || Refusal::bad_request("Pagination parameters are invalid");
        let number = number.parse().map_err(|_| invalid())?;
        let size = match parameter(uri, "page_size") {
            None => PAGE_SIZE_DEFAULT,
            Some(size) => size.parse().map_err(|_| invalid())?,
        };
        if number == 0 || size == 0 || size > PAGE_SIZE_MAX {
            let reason = format!(
                "Invalid pagination parameters: page number {number}, page size {size}; pages begin with 1 and have at most {PAGE_SIZE_MAX} items"
            );
            return Err(Refusal::bad_request(reason).called("invalid_pagination_parameters"));
        }
        this.page = Some(Page { number, size });
        this.search = match parameter(uri, "name").filter(|name| !name.is_empty()) {
            Some(name) if parameter(uri, "use_regex").as_deref() == Some("true") => {
                Some(NameSearch::pattern(&name)?)
            }
            name => name.map(|name| NameSearch::text(&name)),
        };
        Ok(this)
    }

    /// Whether items of this name are wanted.
    pub(super) fn wants(&self, name: &str) -> bool {
        self.search.as_ref().is_none_or(|search| search.finds(name))
    }

    /// Whether there are items that are not wanted.
    pub(super) fn is_filtered(&self) -> bool {
        self.search.is_some()
    }

    /// Which of the items that are wanted are on the page, if there are pages.
    pub(super) fn range(&self) -> Option<Range<usize>> {
        self.page.map(Page::range)
    }

    /// The column that the items are to be sorted by, if one is named.
    pub(super) fn sorted_by(&self) -> Option<&[String]> {
        self.sort.as_deref()
    }

    /// Whether the order is to be the other way round.
    pub(super) fn is_reversed(&self) -> bool {
        self.reverse
    }

    /// The answer, out of all items in their own order.
    pub(super) fn answer(&self, items: Vec<Value>) -> Result<Response, Refusal> {
        let total = items.len();
        let mut items = items;
        if self.search.is_some() {
            items.retain(|item| self.wants(item.get("name").and_then(Value::as_str).unwrap_or_default()));
        }
        if let Some(path) = &self.sort {
            items.sort_by(|a, b| compare(at(a, path), at(b, path)));
        }
        if self.reverse {
            items.reverse();
        }
        let fitting = items.len();
        if let Some(range) = self.range() {
            items = items.into_iter().skip(range.start).take(range.len()).collect();
        }
        self.answer_page(items, fitting, total)
    }

    /// The answer, out of what can be shown: only what is on the page is. `text` is a column of texts, if an item has
    /// one of that name; by other columns is sorted what was shown.
    pub(super) fn answer_of<T>(
        &self,
        mut items: Vec<T>,
        text: impl Fn(&T, &str) -> Option<String>,
        show: impl Fn(&T) -> Value,
    ) -> Result<Response, Refusal> {
        let Some(range) = self.range() else { return self.answer(items.iter().map(show).collect()) };
        let column = match self.sort.as_deref() {
            None => None,
            Some([column]) if items.first().is_none_or(|it| text(it, column).is_some()) => Some(column),
            Some(_) => return self.answer(items.iter().map(show).collect()),
        };
        let total = items.len();
        if self.is_filtered() {
            items.retain(|it| self.wants(&text(it, "name").unwrap_or_default()));
        }
        let key = |at: usize| column.and_then(|column| text(&items[at], column));
        // The place in the list keeps those in order that are equal.
        let mut places: Vec<_> = (0..items.len()).map(|at| (key(at), at)).collect();
        let fitting = places.len();
        let range = range.start.min(fitting)..range.end.min(fitting);
        let compare = |a: &(_, usize), b: &(_, usize)| if self.reverse { b.cmp(a) } else { a.cmp(b) };
        if range.end < fitting {
            places.select_nth_unstable_by(range.end, compare);
            places.truncate(range.end);
        }
        places.sort_unstable_by(compare);
        let shown = places[range].iter().map(|(_, at)| show(&items[*at])).collect();
        self.answer_page(shown, fitting, total)
    }

    /// The answer, out of the items of the page, or of all if none is asked for: `fitting` are wanted of `total`.
    pub(super) fn answer_page(
        &self,
        items: Vec<Value>,
        fitting: usize,
        total: usize,
    ) -> Result<Response, Refusal> {
        let Some(page) = self.page else { return Ok(Json(self.pick_all(items)).into_response()) };
        let page_count = fitting.div_ceil(page.size).max(1);
        if page.number > page_count {
            let (number, size) = (page.number, page.size);
            let reason = format!("Page out of range, page: {number} page size: {size}, len: {fitting}");
            return Err(Refusal::new(StatusCode::BAD_REQUEST, reason).called("page_out_of_range"));
        }
        let items = self.pick_all(items);
        Ok(Json(json!({
            "filtered_count": fitting,
            "item_count": items.len(),
            "items": items,
            "page": page.number,
            "page_count": page_count,
            "page_size": page.size,
            "total_count": total,
        }))
        .into_response())
    }

    fn pick_all(&self, items: Vec<Value>) -> Vec<Value> {
        items.into_iter().map(|item| self.pick(item)).collect()
    }

    /// The columns of an item that are asked for; all if none is named.
    pub(super) fn pick(&self, item: Value) -> Value {
        if self.columns.is_empty() {
            return item;
        }
        let mut picked = Map::new();
        for path in &self.columns {
            if let Some(value) = at(&item, path) {
                put(&mut picked, path, value.clone());
            }
        }
        Value::Object(picked)
    }
}

impl Page {
    fn range(self) -> Range<usize> {
        let start = (self.number - 1).saturating_mul(self.size);
        start..start.saturating_add(self.size)
    }
}

fn at<'v>(item: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(item, |value, name| value.get(name))
}

fn put(into: &mut Map<String, Value>, path: &[String], value: Value) {
    let [name, rest @ ..] = path else { return };
    if rest.is_empty() {
        into.insert(name.clone(), value);
        return;
    }
    let inner = into.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(inner) = inner {
        put(inner, rest, value);
    }
}

/// What is missing comes first, then truth values, numbers, texts and the rest.
fn compare(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    let rank = |value: Option<&Value>| match value {
        None | Some(Value::Null) => 0,
        Some(Value::Bool(_)) => 1,
        Some(Value::Number(_)) => 2,
        Some(Value::String(_)) => 3,
        Some(_) => 4,
    };
    match (a, b) {
        (Some(Value::Bool(a)), Some(Value::Bool(b))) => a.cmp(b),
        (Some(Value::Number(a)), Some(Value::Number(b))) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal),
        },
        (Some(Value::String(a)), Some(Value::String(b))) => a.cmp(b),
        (a, b) => rank(a).cmp(&rank(b)),
    }
}
