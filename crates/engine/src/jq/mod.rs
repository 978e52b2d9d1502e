//! jq: expressions and texts with `\( )` in them, compiled once.
//!
//! An expression sees the event. It cannot see the environment, other files or the process: `env` and `halt` are
//! errors here. It takes a limited number of steps (`limit`). The interpreter recurses as deep as an expression nests, both when it compiles and when it runs, so
//! expressions are short, define no functions (which could call themselves), and are handled on threads with room:
//! [`with_deep_stack`].

mod depth;
mod json;
mod limit;
mod needs;
mod used;

use jaq_core::data::JustLut;
use jaq_core::load::{Arena, File, Loader, lex, parse};
use jaq_core::native::{Fun, bome, run};
use jaq_core::{Compiler, Ctx, Filter, Vars};
use jaq_json::Val;
pub(crate) use json::{name_val, parse as parse_json, text_val, to_val};
pub(crate) use needs::Needs;
use serde_json::Value;
use std::sync::{Arc, LazyLock};
use used::Library;

type Data = JustLut<Val>;

/// So much of a text stands in an error. Characters.
const SHOWN_MAX_CHARS: usize = 80;

/// Longest expression. Bytes.
const EXPRESSION_MAX_BYTES: usize = 8 * 1024;

/// Stack of a thread that compiles or runs expressions: enough for the deepest that fits [`EXPRESSION_MAX_BYTES`],
/// which is one of nothing but opening brackets, and for values that are deeper than they may be, until that is
/// noticed (`depth`). Bytes; used is only what is needed.
pub(crate) const STACK_BYTES: usize = 256 * 1024 * 1024;

/// Runs `work` on a thread whose stack has room for expressions.
pub(crate) fn with_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("millpond-jq".into()).stack_size(STACK_BYTES);
        let thread =
            thread.spawn_scoped(scope, work).expect("a machine that runs a broker has room for a thread");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A value of the interpreter as JSON.
pub(crate) fn to_json(val: &Val) -> Result<Value, String> {
    json::to_json(val).map_err(|error| error.to_string())
}

/// A compiled expression. Cloning counts references.
#[derive(Clone)]
pub(crate) struct Jq {
    source: Arc<str>,
    /// `FILE:LINE`, for errors at run time.
    place: Arc<str>,
    filter: Arc<Filter<Data>>,
    needs: Needs,
}

impl std::fmt::Debug for Jq {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Jq({:?} at {})", self.source, self.place)
    }
}

/// Why an expression gave no usable result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: jq '{source_text}': {reason}")]
pub(crate) struct JqError {
    /// `FILE:LINE`.
    pub(crate) place: String,
    /// The expression.
    pub(crate) source_text: String,
    /// What went wrong.
    pub(crate) reason: String,
}

/// Why an expression does not compile.
#[derive(Debug)]
pub(crate) struct CompileError {
    /// Where in the expression, in bytes.
    pub(crate) at: usize,
    pub(crate) reason: String,
}

/// Functions without those that reach out of the expression.
fn functions() -> impl Iterator<Item = Fun<Data>> {
    let outside = ["env", "stderr_empty", "debug_empty", "fromjson"];
    type Native = (&'static str, Box<[jaq_core::Bind]>, jaq_core::RunPtr<Data>);
    let here: [Native; 4] = [
        ("env", [].into(), |_| bome(Err(jaq_core::Error::str("the environment cannot be read by a rule")))),
        ("stderr_empty", [].into(), |_| Box::new(std::iter::empty())),
        ("debug_empty", [].into(), |_| Box::new(std::iter::empty())),
        ("fromjson", [].into(), |cv| bome(from_text(cv.1))),
    ];
    jaq_core::funs()
        .chain(jaq_std::funs())
        .chain(jaq_json::funs())
        .filter(move |fun: &Fun<Data>| !outside.contains(&fun.0))
        .chain(here.into_iter().map(|fun| run::<Data>(fun)))
        .chain(limit::functions())
}

/// `fromjson`. The interpreter's own goes as deep as the text does, and a text of brackets that a stranger sent would take
/// more stack than there is.
fn from_text(text: Val) -> Result<Val, jaq_core::Error<Val>> {
    let (Val::TStr(bytes) | Val::BStr(bytes)) = text else {
        return Err(jaq_core::Error::typ(text, "string"));
    };
    json::parse(&bytes).map_err(|error| {
        let text: String = String::from_utf8_lossy(&bytes).chars().take(SHOWN_MAX_CHARS).collect();
        jaq_core::Error::str(format!("cannot parse {text:?} as JSON: {error}"))
    })
}

/// jq's own definitions, parsed once.
static DEFINITIONS: LazyLock<Library> = LazyLock::new(|| {
    let all = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    Library::new(all.map(limit::definition))
});

fn compile(code: &str) -> Result<(Filter<Data>, Needs), CompileError> {
    let offset = |part: &str| (part.as_ptr() as usize).saturating_sub(code.as_ptr() as usize).min(code.len());
    let tokens = lex::Lexer::new(code).lex().map_err(|errors| lex_error(&errors, offset))?;
    let term = parse::Parser::new(&tokens).parse(|parser| parser.term()).map_err(|errors| {
        let errors: Vec<_> = errors
            .into_iter()
            .map(|(expected, found)| (expected, lex::Token::opt_as_str(found, code)))
            .collect();
        parse_error(&errors, offset)
    })?;
    let needs = needs::needs(&term);
    // The loader takes code that was changed as definitions only: it gets one, under a name that the expression does
    // not call, and a call of it.
    let name = (0u32..).map(|n| format!("expression{n}")).find(|name| !code.contains(name.as_str()));
    let name = name.expect("a text holds a limited number of names");
    let body = limit::term(term);
    let (definitions, called) = DEFINITIONS.used(&body);
    let expression = parse::Def { name: name.as_str(), args: Vec::new(), body };
    let arena = Arena::default();
    let modules = Loader::new(definitions.into_iter().chain([expression]))
        .load(&arena, File { path: (), code: name.as_str() })
        .map_err(|_| CompileError { at: 0, reason: "it cannot be loaded".to_owned() })?;
    let used = functions().filter(|function| called.contains(function.0));
    let filter = Compiler::default().with_funs(used).compile(modules).map_err(|errors| {
        let first = errors.into_iter().flat_map(|(_, errors)| errors).next();
        match first {
            Some((found, undefined)) => CompileError {
                at: offset(found),
                reason: format!("found the {} '{found}', which is not defined", undefined.as_str()),
            },
            None => CompileError { at: 0, reason: "it does not compile".to_owned() },
        }
    })?;
    Ok((filter, needs))
}

fn lex_error(errors: &[lex::Error<&str>], offset: impl Fn(&str) -> usize) -> CompileError {
    match errors.first() {
        Some((expected, found)) => {
            CompileError { at: offset(found), reason: found_expected(found, expected.as_str()) }
        }
        None => CompileError { at: 0, reason: "it cannot be read".to_owned() },
    }
}

fn parse_error(errors: &[parse::Error<&str>], offset: impl Fn(&str) -> usize) -> CompileError {
    match errors.first() {
        Some((expected, found)) => {
            CompileError { at: offset(found), reason: found_expected(found, expected.as_str()) }
        }
        None => CompileError { at: 0, reason: "it cannot be read".to_owned() },
    }
}

fn found_expected(found: &str, expected: &str) -> String {
    match found {
        "" => format!("found its end, expected {expected}"),
        found => format!("found '{}', expected {expected}", crate::topology::shorten(found)),
    }
}

impl Jq {
    /// Compiles; `place` is `FILE:LINE`.
    pub(crate) fn new(source: &str, place: &str) -> Result<Self, CompileError> {
        if source.len() > EXPRESSION_MAX_BYTES {
            let reason = format!("found {} bytes, expected at most {EXPRESSION_MAX_BYTES}", source.len());
            return Err(CompileError { at: 0, reason });
        }
        if let Some(at) = definition(source) {
            let reason = "found 'def', expected an expression: functions cannot be defined here".to_owned();
            return Err(CompileError { at, reason });
        }
        let (filter, needs) = compile(source)?;
        Ok(Self { source: source.into(), place: place.into(), filter: Arc::new(filter), needs })
    }

    /// What it looks at of the event.
    pub(crate) fn needs(&self) -> Needs {
        self.needs
    }

    /// The error of a text whose expression gave null.
    pub(crate) fn gave_null(&self) -> JqError {
        self.error("it gave null, which is no text: write (... // \"none\") if it may be absent".to_owned())
    }

    fn error(&self, reason: String) -> JqError {
        JqError { place: self.place.to_string(), source_text: self.source.to_string(), reason }
    }

    /// What `work` makes of the results, within the limits of an evaluation.
    fn evaluate<T>(
        &self,
        event: &Val,
        work: impl FnOnce(&mut dyn Iterator<Item = jaq_json::ValX<'_>>) -> Result<T, JqError>,
    ) -> Result<T, JqError> {
        let ctx = Ctx::<Data>::new(&self.filter.lut, Vars::new([]));
        let result = limit::evaluate(|| work(&mut self.filter.id.run((ctx, event.clone()))));
        result.unwrap_or_else(|| Err(self.error(limit::reason())))
    }

    /// The first result.
    pub(crate) fn first(&self, event: &Val) -> Result<Option<Val>, JqError> {
        self.evaluate(event, |results| results.next().map(|result| self.unwrap(result)).transpose())
    }

    fn unwrap(&self, result: jaq_json::ValX<'_>) -> Result<Val, JqError> {
        result.map_err(|exn| match exn.get_err() {
            Ok(error) => self.error(error.to_string()),
            Err(_) => self.error("'halt' and 'break' out of the expression have no meaning here".to_owned()),
        })
    }

    /// The only result or none, as the interpreter has it.
    fn maybe_val(&self, event: &Val) -> Result<Option<Val>, JqError> {
        self.evaluate(event, |results| {
            let Some(first) = results.next().map(|result| self.unwrap(result)).transpose()? else {
                return Ok(None);
            };
            if results.next().is_some() {
                let reason =
                    "it gave more than one result, one is expected: collect them with [...]".to_owned();
                return Err(self.error(reason));
            }
            Ok(Some(first))
        })
    }

    /// The only result, as the interpreter has it.
    pub(crate) fn one_val(&self, event: &Val) -> Result<Val, JqError> {
        let only = self.maybe_val(event)?;
        only.ok_or_else(|| self.error("it gave no result, one is expected".to_owned()))
    }

    /// The only result.
    pub(crate) fn one(&self, event: &Val) -> Result<Value, JqError> {
        self.json(&self.one_val(event)?)
    }

    /// The only result, or none.
    pub(crate) fn maybe(&self, event: &Val) -> Result<Option<Value>, JqError> {
        self.maybe_val(event)?.map(|only| self.json(&only)).transpose()
    }

    /// Every result, at most `max`.
    #[allow(dead_code, reason = "kinds of sources that follow use it")]
    pub(crate) fn all(&self, event: &Val, max: usize) -> Result<Vec<Value>, JqError> {
        self.evaluate(event, |results| {
            let mut all = Vec::new();
            for result in results {
                if all.len() >= max {
                    return Err(self.error(format!("it gave more than {max} results, expected fewer")));
                }
                all.push(self.json(&self.unwrap(result)?)?);
            }
            Ok(all)
        })
    }

    fn json(&self, val: &Val) -> Result<Value, JqError> {
        json::to_json(val).map_err(|error| self.error(error.to_string()))
    }

    /// The only result as the content of a message: a text as it is, anything else as JSON; whether it is a text.
    pub(crate) fn body(&self, event: &Val) -> Result<(Vec<u8>, bool), JqError> {
        let mut out = Vec::new();
        match self.one_val(event)? {
            Val::TStr(text) | Val::BStr(text) => {
                out.extend_from_slice(String::from_utf8_lossy(&text).as_bytes());
                Ok((out, true))
            }
            other => {
                json::write_json(&other, &mut out).map_err(|error| self.error(error.to_string()))?;
                Ok((out, false))
            }
        }
    }

    /// Whether the first result is neither null nor false.
    pub(crate) fn is_true(&self, event: &Val) -> Result<bool, JqError> {
        Ok(!matches!(self.first(event)?, None | Some(Val::Null | Val::Bool(false))))
    }
}

/// Text in which `\( )` holds expressions, as in a jq string.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    parts: Vec<TemplatePart>,
}

/// A piece of a [`Template`].
#[derive(Debug, Clone)]
pub(crate) enum TemplatePart {
    Text(Box<str>),
    Jq(Jq),
}

impl Template {
    /// Compiles; `place` is `FILE:LINE`.
    pub(crate) fn new(text: &str, place: &str) -> Result<Self, CompileError> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("\\(") {
            if let Some(before) = rest[..at].strip_suffix('\\') {
                plain.push_str(before);
                plain.push_str("\\(");
                rest = &rest[at + 2..];
                continue;
            }
            plain.push_str(&rest[..at]);
            let inside = &rest[at + 2..];
            let start = text.len() - inside.len();
            let len = closing(inside).ok_or_else(|| CompileError {
                at: start,
                reason: "found '\\(' without its ')', expected both: write '\\\\(' for the characters"
                    .to_owned(),
            })?;
            if !plain.is_empty() {
                parts.push(TemplatePart::Text(std::mem::take(&mut plain).into()));
            }
            let jq = Jq::new(&inside[..len], place)
                .map_err(|error| CompileError { at: start + error.at, ..error })?;
            parts.push(TemplatePart::Jq(jq));
            rest = &inside[len + 1..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(TemplatePart::Text(plain.into()));
        }
        Ok(Self { parts })
    }

    /// Its pieces in their order.
    pub(crate) fn into_parts(self) -> Vec<TemplatePart> {
        self.parts
    }

    /// What its expressions look at of the event.
    pub(crate) fn needs(&self) -> Needs {
        let parts = self.parts.iter();
        parts.map(|part| if let TemplatePart::Jq(jq) = part { jq.needs() } else { Needs::NONE }).collect()
    }

    /// The text, if no expression is in it.
    pub(crate) fn as_fixed(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [TemplatePart::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The text before the first expression.
    pub(crate) fn fixed_start(&self) -> &str {
        match self.parts.first() {
            Some(TemplatePart::Text(text)) => text,
            _ => "",
        }
    }

    /// The text with its expressions' results; a result that is null is an error, for it is nearly always a field
    /// that is not there.
    pub(crate) fn text(&self, event: &Val) -> Result<String, JqError> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                TemplatePart::Text(text) => out.push_str(text),
                TemplatePart::Jq(jq) => match jq.one(event)? {
                    Value::Null => return Err(jq.gave_null()),
                    Value::String(text) => out.push_str(&text),
                    other => out.push_str(&other.to_string()),
                },
            }
        }
        Ok(out)
    }

    /// As [`Self::text`], but a single expression keeps its type: `\(.data.amount)` is a number if that is one.
    pub(crate) fn value(&self, event: &Val) -> Result<Value, JqError> {
        match self.parts.as_slice() {
            [TemplatePart::Jq(jq)] => jq.one(event),
            _ => self.text(event).map(Value::String),
        }
    }
}

/// Walks through jq code and calls `visit` with every byte that is code, not text or comment, with its place and how
/// many parentheses are open there; stops when `visit` says so.
fn walk_code(code: &str, mut visit: impl FnMut(usize, u8, usize) -> bool) {
    /// What is open.
    #[derive(PartialEq)]
    enum Open {
        Paren,
        Quote,
    }
    let mut open: Vec<Open> = Vec::new();
    let mut bytes = code.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        if open.last() == Some(&Open::Quote) {
            match byte {
                // What stands in an interpolation is code again.
                b'\\' if bytes.next().is_some_and(|next| next.1 == b'(') => open.push(Open::Paren),
                b'"' => drop(open.pop()),
                _ => {}
            }
            continue;
        }
        if visit(at, byte, open.len()) {
            return;
        }
        match byte {
            b'"' => open.push(Open::Quote),
            b'(' => open.push(Open::Paren),
            b')' => drop(open.pop()),
            b'#' => drop(bytes.find(|next| next.1 == b'\n')),
            _ => {}
        }
    }
}

/// Where the parenthesis that is open at the beginning of a jq text closes.
fn closing(code: &str) -> Option<usize> {
    let mut found = None;
    walk_code(code, |at, byte, depth| {
        if byte == b')' && depth == 0 {
            found = Some(at);
        }
        found.is_some()
    });
    found
}

/// Where a function is defined: the word `def` and a name.
fn definition(code: &str) -> Option<usize> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = code.as_bytes();
    let mut found = None;
    walk_code(code, |at, _, _| {
        let is_start = at.checked_sub(1).is_none_or(|at| !is_word(bytes[at]) && !b".$@".contains(&bytes[at]));
        let is_keyword = is_start
            && code.get(at..).and_then(|rest| rest.strip_prefix("def")).is_some_and(|rest| {
                let name = rest.trim_start();
                name.len() < rest.len()
                    && name.starts_with(|c: char| c.is_ascii_alphabetic() || "_#".contains(c))
            });
        if is_keyword {
            found = Some(at);
        }
        found.is_some()
    });
    found
}
