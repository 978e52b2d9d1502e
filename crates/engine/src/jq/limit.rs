//! Limits of one evaluation: the steps it takes, and the text it makes by repetition.
//!
//! The interpreter runs what it is given to the end, and an expression may have none (`repeat(.)`), or one that the
//! event decides (`range(.data.n)`). So a step is put into the code wherever a computation can multiply: before each
//! call, after each bar and behind each `[]`, in jq's own definitions as in the expression. It hands on what it is
//! given, counts, and is an error once [`STEPS_MAX`] were taken, for good: what catches that error ends as well.
//!
//! `*` is replaced, because a text times a large number would be made at once, or not fit any memory.
//!
//! What an evaluation takes of the memory is looked at with each step (`memory`), and, as that grows, how deep its
//! values nest (`depth`). A built-in function takes no steps: one
//! that is given a huge value may take long; then its thread is given up (`pool`).

use super::Data;
use super::depth::{self, DEPTH_MAX};
use crate::memory;
use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Def, Pattern, Term};
use jaq_core::native::{Fun, run, v};
use jaq_core::ops::Math;
use jaq_core::path::{Part, Path};
use jaq_core::{Error, Exn, Native, ValX, ValXs};
use jaq_json::{Num, Val};
use std::cell::Cell;
use std::iter::once;

/// Most steps of one evaluation: a second or so of the shortest.
const STEPS_MAX: u32 = 1_000_000;

/// How much memory an evaluation takes between two looks at how deep its values are: this much, or a part of what it
/// has taken. A level takes 56 bytes or more.
const LOOK_EVERY_BYTES: i64 = 2 * 1024 * 1024;
const LOOKS_TO_DOUBLE: i64 = 32;
/// Steps of such a look: a loop takes several, and what it builds is at one of them.
const LOOKS_MAX: u32 = 64;
/// Parts of values that such a look sees.
const LOOKED_AT_MAX: usize = 16_000_000;

/// Longest text made by repetition (`"-" * 80`). Bytes.
const REPEATED_MAX_BYTES: usize = 16 * 1024 * 1024;

// Names that no expression can call.
const STEP: &str = "!step";
const TIMES: &str = "!times";
const FACTOR: &str = "$!factor";

/// How deep updates (`|=`) may nest; each takes from the stack, unlike other endless recursion.
const UPDATE_DEPTH_MAX: u32 = 10_000;

thread_local! {
    /// How many updates are being carried out inside each other.
    static UPDATE_DEPTH: Cell<u32> = const { Cell::new(0) };
    /// Whether the evaluation took more memory than it may.
    static MEMORY_SPENT: Cell<bool> = const { Cell::new(false) };
    /// Whether a value of the evaluation is nested deeper than it may be.
    static TOO_DEEP: Cell<bool> = const { Cell::new(false) };
    /// Memory taken from which on the depth of values is looked at next. Bytes.
    static LOOK_AT_BYTES: Cell<i64> = const { Cell::new(0) };
    /// Steps whose values are still to be looked at, and how many parts of values.
    static LOOKS_LEFT: Cell<(u32, usize)> = const { Cell::new((0, 0)) };
    /// Of the evaluation that runs on this thread.
    static STEPS_LEFT: Cell<u32> = const { Cell::new(0) };
}

/// Why an evaluation was given up, if it took more steps or memory than it may.
pub(super) fn reason() -> String {
    if TOO_DEEP.get() {
        return format!("a value nests deeper than {DEPTH_MAX} levels");
    }
    if MEMORY_SPENT.get() {
        let limit_mib = memory::SOFT_MAX_BYTES / (1024 * 1024);
        return format!(
            "it takes more than {limit_mib} MiB of memory: the event is too large for it, or it never ends"
        );
    }
    format!(
        "it takes more than {STEPS_MAX} steps: it never ends, or the event is too large for it; `limit`, `first` and \
         a smaller range help"
    )
}

/// Runs an evaluation with all its steps before it; `None`: it took them all.
pub(super) fn evaluate<T>(work: impl FnOnce() -> T) -> Option<T> {
    STEPS_LEFT.set(STEPS_MAX);
    UPDATE_DEPTH.set(0);
    MEMORY_SPENT.set(false);
    TOO_DEEP.set(false);
    LOOK_AT_BYTES.set(LOOK_EVERY_BYTES);
    LOOKS_LEFT.set((0, 0));
    let result = memory::limited(work);
    (STEPS_LEFT.get() > 0).then_some(result)
}

/// Takes a step and hands on what it is given.
fn step<'a, T>(given: T, val: impl FnOnce(&T) -> &Val) -> Result<T, Exn<'a, Val>> {
    let mut left = STEPS_LEFT.get().saturating_sub(1);
    let looks = memory::taken() >= LOOK_AT_BYTES.get() || LOOKS_LEFT.get().0 > 0;
    if looks && left > 0 && look_deep(val(&given)) {
        left = 0;
    }
    if memory::is_spent() && left > 0 {
        MEMORY_SPENT.set(true);
        left = 0;
    }
    STEPS_LEFT.set(left);
    if left > 0 { Ok(given) } else { Err(Exn::from(Error::str(reason()))) }
}

/// Whether a value is too deep. Values are looked at for some steps when memory has grown: a level takes some, and every
/// loop passes what it builds through a step, so that no value is much deeper than it may be before that is noticed.
#[cold]
fn look_deep(val: &Val) -> bool {
    let taken = memory::taken();
    if taken >= LOOK_AT_BYTES.get() {
        LOOK_AT_BYTES.set(taken + LOOK_EVERY_BYTES.max(taken / LOOKS_TO_DOUBLE));
        LOOKS_LEFT.set((LOOKS_MAX, LOOKED_AT_MAX));
    }
    let (looks, mut parts) = LOOKS_LEFT.get();
    let is_deep = depth::is_deeper(val, DEPTH_MAX, &mut parts);
    LOOKS_LEFT.set(if parts == 0 { (0, 0) } else { (looks.saturating_sub(1), parts) });
    TOO_DEEP.set(is_deep);
    is_deep
}

/// Does `work` one update deeper; too deep is the end of the evaluation.
fn nested<'a, T>(work: impl FnOnce() -> T) -> Result<T, Exn<'a, Val>> {
    let depth = UPDATE_DEPTH.get();
    if depth == UPDATE_DEPTH_MAX {
        STEPS_LEFT.set(0);
        return Err(Exn::from(Error::str(reason())));
    }
    UPDATE_DEPTH.set(depth + 1);
    let result = work();
    UPDATE_DEPTH.set(depth);
    Ok(result)
}

/// Results of an update, which are computed when they are asked for.
struct Nested<'a>(ValXs<'a, Val>);

impl<'a> Iterator for Nested<'a> {
    type Item = ValX<'a, Val>;

    fn next(&mut self) -> Option<Self::Item> {
        nested(|| self.0.next()).unwrap_or_else(|spent| Some(Err(spent)))
    }
}

/// What the changed code calls.
pub(super) fn functions() -> [Fun<Data>; 2] {
    let steps = Native::new(|cv| Box::new(once(step(cv.1, |val| val))))
        .with_paths(|cv| Box::new(once(step(cv.1, |it| &it.0))))
        .with_update(|cv, update| match step(cv.1, |val| val).and_then(|given| nested(|| update(given))) {
            Ok(results) => Box::new(Nested(results)),
            Err(spent) => Box::new(once(Err(spent))),
        });
    let times = run::<Data>((TIMES, v(2), |mut cv| {
        let (right, left) = (cv.0.pop_var(), cv.0.pop_var());
        Box::new(once(times(left, right).map_err(Exn::from)))
    }));
    [(STEP, v(0), steps), times]
}

fn times(left: Val, right: Val) -> Result<Val, Error<Val>> {
    let length = |val: &Val| match val {
        Val::TStr(text) | Val::BStr(text) => Some(text.len()),
        _ => None,
    };
    let count = |val: &Val| match val {
        Val::Num(Num::Int(count)) => Some(usize::try_from(*count).unwrap_or(0)),
        Val::Num(Num::BigInt(_)) => Some(usize::MAX),
        _ => None,
    };
    let repeated = length(&left).zip(count(&right)).or_else(|| length(&right).zip(count(&left)));
    match repeated {
        Some((length, count)) if length.saturating_mul(count) > REPEATED_MAX_BYTES => {
            let reason = format!(
                "a text of {length} bytes is to be repeated {count} times: the result may have at most \
                 {REPEATED_MAX_BYTES} bytes"
            );
            Err(Error::str(reason))
        }
        _ => left * right,
    }
}

/// A definition that counts its steps.
pub(super) fn definition(def: Def<&str>) -> Def<&str> {
    Def { name: def.name, args: def.args, body: term(def.body) }
}

/// An expression that counts its steps.
pub(super) fn term(it: Term<&str>) -> Term<&str> {
    match it {
        Term::Call(name, args) => stepping(Term::Call(name, all(args))),
        Term::Recurse => followed(Term::Recurse),
        Term::Path(of, path) => of_path(*of, path),
        Term::BinOp(left, op, right) => operation(term(*left), op, term(*right)),
        Term::Str(format, parts) => Term::Str(format, parts.into_iter().map(text_part).collect()),
        Term::Arr(inner) => Term::Arr(maybe(inner)),
        Term::Obj(fields) => {
            Term::Obj(fields.into_iter().map(|(key, value)| (term(key), value.map(term))).collect())
        }
        Term::Neg(inner) => Term::Neg(boxed(*inner)),
        Term::Label(name, inner) => Term::Label(name, boxed(*inner)),
        Term::Fold(name, source, bound, args) => {
            // What a loop builds passes through a step: its depth is looked at there.
            let args = args.into_iter().enumerate();
            let args =
                args.map(|(at, arg)| if at == FOLD_UPDATE { behind_step(term(arg)) } else { term(arg) });
            Term::Fold(name, boxed(*source), pattern(bound), args.collect())
        }
        Term::TryCatch(tried, caught) => Term::TryCatch(boxed(*tried), maybe(caught)),
        Term::IfThenElse(cases, otherwise) => {
            let cases = cases.into_iter().map(|(cond, then)| (term(cond), term(then))).collect();
            Term::IfThenElse(cases, maybe(otherwise))
        }
        Term::Def(defs, inner) => Term::Def(defs.into_iter().map(definition).collect(), boxed(*inner)),
        Term::Id | Term::Num(_) | Term::Break(_) | Term::Var(_) => it,
    }
}

fn boxed(it: Term<&str>) -> Box<Term<&str>> {
    Box::new(term(it))
}

fn maybe(it: Option<Box<Term<&str>>>) -> Option<Box<Term<&str>>> {
    it.map(|it| boxed(*it))
}

fn all(terms: Vec<Term<&str>>) -> Vec<Term<&str>> {
    terms.into_iter().map(term).collect()
}

fn text_part<'s>(part: StrPart<&'s str, Term<&'s str>>) -> StrPart<&'s str, Term<&'s str>> {
    match part {
        StrPart::Term(inner) => StrPart::Term(term(inner)),
        other => other,
    }
}

fn pattern(it: Pattern<&str>) -> Pattern<&str> {
    match it {
        Pattern::Var(name) => Pattern::Var(name),
        Pattern::Arr(items) => Pattern::Arr(items.into_iter().map(pattern).collect()),
        Pattern::Obj(fields) => {
            Pattern::Obj(fields.into_iter().map(|(key, bound)| (term(key), pattern(bound))).collect())
        }
    }
}

/// Which argument of reduce and foreach is done again and again.
const FOLD_UPDATE: usize = 1;

fn behind_step(it: Term<&str>) -> Term<&str> {
    Term::BinOp(Box::new(Term::Call(STEP, Vec::new())), BinaryOp::Pipe(None), Box::new(it))
}

/// A step, then `it`.
fn stepping(it: Term<&str>) -> Term<&str> {
    // The results of a range are counted as well: nobody else does if they are only collected.
    let after = matches!(&it, Term::Call("range", _));
    let it = behind_step(it);
    if after { followed(it) } else { it }
}

/// `it`, then a step for each of its results.
fn followed(it: Term<&str>) -> Term<&str> {
    let after = Box::new(Term::Call(STEP, Vec::new()));
    Term::BinOp(Box::new(it), BinaryOp::Pipe(None), after)
}

fn of_path<'s>(of: Term<&'s str>, path: Path<Term<&'s str>>) -> Term<&'s str> {
    let many = path.0.iter().any(|(part, _)| matches!(part, Part::Range(None, None)));
    let parts = path.0.into_iter().map(|(part, opt)| {
        let part = match part {
            Part::Index(at) => Part::Index(term(at)),
            Part::Range(from, until) => Part::Range(from.map(term), until.map(term)),
        };
        (part, opt)
    });
    let path = Term::Path(boxed(of), Path(parts.collect()));
    if many { followed(path) } else { path }
}

/// Of operands that count already.
fn operation<'s>(left: Term<&'s str>, op: BinaryOp<&'s str>, right: Term<&'s str>) -> Term<&'s str> {
    let (left, right) = (Box::new(left), Box::new(right));
    match op {
        BinaryOp::Pipe(bound) => {
            Term::BinOp(left, BinaryOp::Pipe(bound.map(pattern)), Box::new(behind_step(*right)))
        }
        BinaryOp::Math(Math::Mul) => Term::Call(TIMES, vec![*left, *right]),
        // `l *= r` is `r as $factor | l |= . * $factor`.
        BinaryOp::UpdateMath(Math::Mul) => {
            let product = Term::Call(TIMES, vec![Term::Id, Term::Var(FACTOR)]);
            let update = Term::BinOp(left, BinaryOp::Update, Box::new(product));
            Term::BinOp(right, BinaryOp::Pipe(Some(Pattern::Var(FACTOR))), Box::new(update))
        }
        other => Term::BinOp(left, other, right),
    }
}
