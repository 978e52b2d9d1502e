//! What an expression calls of jq's own definitions and built-in functions: only that is compiled with it. All of
//! them would take a quarter of a megabyte, and most of the time, of each expression.

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Def, Pattern, Term};
use jaq_core::path::Part;
use std::collections::{HashMap, HashSet};

/// Definitions by name, and what each calls.
#[derive(Debug)]
pub(super) struct Library {
    definitions: Vec<(Def<&'static str>, HashSet<&'static str>)>,
    by_name: HashMap<&'static str, Vec<usize>>,
}

impl Library {
    pub(super) fn new(definitions: impl Iterator<Item = Def<&'static str>>) -> Self {
        let mut it = Self { definitions: Vec::new(), by_name: HashMap::new() };
        for definition in definitions {
            let mut called = HashSet::new();
            calls(&definition.body, &mut called);
            it.by_name.entry(definition.name).or_default().push(it.definitions.len());
            it.definitions.push((definition, called));
        }
        it
    }

    /// The definitions that `term` needs, in their order, and the names of all that it and they call. By name alone,
    /// whatever the number of arguments: some that are not needed come along.
    pub(super) fn used<'s>(&self, term: &Term<&'s str>) -> (Vec<Def<&'static str>>, HashSet<&'s str>) {
        let mut names = HashSet::new();
        calls(term, &mut names);
        let mut ahead: Vec<&'s str> = names.iter().copied().collect();
        let mut numbers = std::collections::BTreeSet::new();
        while let Some(name) = ahead.pop() {
            for number in self.by_name.get(name).into_iter().flatten() {
                if numbers.insert(*number) {
                    let called = self.definitions[*number].1.iter().copied();
                    ahead.extend(called.filter(|name| names.insert(*name)));
                }
            }
        }
        let definitions = numbers.into_iter().map(|number| self.definitions[number].0.clone()).collect();
        (definitions, names)
    }
}

fn calls<'s>(it: &Term<&'s str>, names: &mut HashSet<&'s str>) {
    match it {
        Term::Id | Term::Recurse | Term::Num(_) | Term::Break(_) | Term::Var(_) => {}
        Term::Call(name, args) => {
            names.insert(name);
            args.iter().for_each(|arg| calls(arg, names));
        }
        Term::Str(format, parts) => {
            names.extend(format);
            for part in parts {
                if let StrPart::Term(inner) = part {
                    calls(inner, names);
                }
            }
        }
        Term::Arr(inner) => inner.iter().for_each(|inner| calls(inner, names)),
        Term::Neg(inner) | Term::Label(_, inner) => calls(inner, names),
        Term::TryCatch(tried, caught) => {
            calls(tried, names);
            caught.iter().for_each(|caught| calls(caught, names));
        }
        Term::Obj(fields) => {
            for (key, value) in fields {
                calls(key, names);
                value.iter().for_each(|value| calls(value, names));
            }
        }
        Term::IfThenElse(cases, otherwise) => {
            for (condition, then) in cases {
                calls(condition, names);
                calls(then, names);
            }
            otherwise.iter().for_each(|otherwise| calls(otherwise, names));
        }
        Term::Fold(_, source, bound, args) => {
            calls(source, names);
            calls_in_pattern(bound, names);
            args.iter().for_each(|arg| calls(arg, names));
        }
        Term::Def(definitions, inner) => {
            definitions.iter().for_each(|definition| calls(&definition.body, names));
            calls(inner, names);
        }
        Term::BinOp(left, op, right) => {
            calls(left, names);
            if let BinaryOp::Pipe(Some(bound)) = op {
                calls_in_pattern(bound, names);
            }
            calls(right, names);
        }
        Term::Path(of, path) => {
            calls(of, names);
            for (part, _) in &path.0 {
                match part {
                    Part::Index(at) => calls(at, names),
                    Part::Range(from, until) => from.iter().chain(until).for_each(|at| calls(at, names)),
                }
            }
        }
    }
}

fn calls_in_pattern<'s>(it: &Pattern<&'s str>, names: &mut HashSet<&'s str>) {
    match it {
        Pattern::Var(_) => {}
        Pattern::Arr(items) => items.iter().for_each(|item| calls_in_pattern(item, names)),
        Pattern::Obj(fields) => {
            for (key, bound) in fields {
                calls(key, names);
                calls_in_pattern(bound, names);
            }
        }
    }
}
