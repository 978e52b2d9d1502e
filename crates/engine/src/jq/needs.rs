//! What an expression looks at of the event: so that the rest need not be worked out for each message.

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Pattern, Term};
use jaq_core::path::{Part, Path};

/// A set of members of the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Needs(u8);

impl Needs {
    pub(crate) const NONE: Self = Self(0);
    /// `data` and `data_base64`.
    pub(crate) const DATA: Self = Self(1);
    /// `amqp`.
    pub(crate) const AMQP: Self = Self(2);
    /// All others: the attributes.
    pub(crate) const ATTRIBUTES: Self = Self(4);
    /// `results` and `error`: what came of the actions before.
    pub(crate) const RESULTS: Self = Self(8);
    pub(crate) const ALL: Self = Self(15);

    pub(crate) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether any of `other` is needed.
    pub(crate) const fn some_of(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether all of `other` are needed.
    pub(crate) const fn all_of(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    fn of_member(name: &str) -> Self {
        match name {
            "data" | "data_base64" => Self::DATA,
            "amqp" => Self::AMQP,
            "results" | "error" => Self::RESULTS,
            _ => Self::ATTRIBUTES,
        }
    }
}

impl FromIterator<Needs> for Needs {
    fn from_iter<T: IntoIterator<Item = Needs>>(all: T) -> Self {
        all.into_iter().fold(Self::NONE, Self::with)
    }
}

/// What `it` looks at of its input. All of it, wherever that is not plain to see.
pub(super) fn needs(it: &Term<&str>) -> Needs {
    match it {
        Term::Num(_) | Term::Var(_) | Term::Break(_) => Needs::NONE,
        Term::Call("true" | "false" | "null" | "empty" | "now" | "infinite" | "nan", args)
            if args.is_empty() =>
        {
            Needs::NONE
        }
        Term::Id | Term::Recurse | Term::Call(..) | Term::Def(..) => Needs::ALL,
        Term::Str(_, parts) => parts
            .iter()
            .map(|part| match part {
                StrPart::Term(inner) => needs(inner),
                _ => Needs::NONE,
            })
            .collect(),
        Term::Arr(inner) => inner.iter().map(|inner| needs(inner)).collect(),
        Term::Neg(inner) | Term::Label(_, inner) => needs(inner),
        Term::TryCatch(tried, caught) => needs(tried).with(caught.iter().map(|it| needs(it)).collect()),
        Term::Obj(fields) => fields.iter().map(|(key, value)| of_field(key, value.as_ref())).collect(),
        Term::IfThenElse(cases, otherwise) => {
            let cases: Needs = cases.iter().map(|(cond, then)| needs(cond).with(needs(then))).collect();
            cases.with(otherwise.as_ref().map_or(Needs::ALL, |it| needs(it)))
        }
        Term::Fold(_, source, bound, args) => {
            needs(source).with(of_pattern(bound)).with(args.iter().map(needs).collect())
        }
        Term::Path(of, path) => of_path(of, path),
        Term::BinOp(left, op, right) => match op {
            // What stands behind the bar sees what stands before it, and that was looked at.
            BinaryOp::Pipe(None) => needs(left),
            BinaryOp::Pipe(Some(bound)) => needs(left).with(of_pattern(bound)).with(needs(right)),
            BinaryOp::Assign | BinaryOp::Update | BinaryOp::UpdateMath(_) | BinaryOp::UpdateAlt => Needs::ALL,
            BinaryOp::Comma
            | BinaryOp::Alt
            | BinaryOp::Or
            | BinaryOp::And
            | BinaryOp::Math(_)
            | BinaryOp::Cmp(_) => needs(left).with(needs(right)),
        },
    }
}

fn of_field(key: &Term<&str>, value: Option<&Term<&str>>) -> Needs {
    match (value, literal(key)) {
        (Some(value), _) => needs(key).with(needs(value)),
        // `{data}` is `{data: .data}`.
        (None, Some(name)) => Needs::of_member(name),
        (None, None) if matches!(key, Term::Var(_)) => Needs::NONE,
        (None, None) => Needs::ALL,
    }
}

fn of_pattern(it: &Pattern<&str>) -> Needs {
    match it {
        Pattern::Var(_) => Needs::NONE,
        Pattern::Arr(items) => items.iter().map(of_pattern).collect(),
        Pattern::Obj(fields) => {
            fields.iter().map(|(key, bound)| needs(key).with(of_pattern(bound))).collect()
        }
    }
}

fn of_path(of: &Term<&str>, path: &Path<Term<&str>>) -> Needs {
    // Indices see the input as well.
    let in_part = |part: &Part<Term<&str>>| match part {
        Part::Index(at) => needs(at),
        Part::Range(from, until) => from.iter().chain(until).map(needs).collect(),
    };
    let indices: Needs = path.0.iter().map(|(part, _)| in_part(part)).collect();
    let member = match path.0.first() {
        Some((Part::Index(at), _)) => literal(at),
        _ => None,
    };
    let root = match (of, member) {
        (Term::Id, Some(name)) => Needs::of_member(name),
        _ => needs(of),
    };
    root.with(indices)
}

/// A text that is just that.
fn literal<'s>(it: &Term<&'s str>) -> Option<&'s str> {
    match it {
        Term::Str(None, parts) => match parts.as_slice() {
            [StrPart::Str(text)] => Some(text),
            _ => None,
        },
        _ => None,
    }
}
