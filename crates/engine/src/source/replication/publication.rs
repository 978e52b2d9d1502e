//! The publication that a slot is read with: made for the tables of the file, and kept to them.

use super::SourceError;
use crate::database::Database;
use crate::database::postgres::quoted;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// A table of the file.
struct Table {
    /// In quotes.
    name: String,
    /// Its number; `None`: it is not there.
    oid: Option<String>,
    /// Updates and deletes can be published.
    has_identity: bool,
}

/// Makes it if it is missing, and brings one that is the source's own (`is_own`) to these tables.
pub(super) async fn prepare(
    database: &Database,
    name: &str,
    tables: &[String],
    is_own: bool,
) -> Result<(), SourceError> {
    let text = "select 1 as it from pg_publication where pubname = $1::text";
    let is_there = !database.rows(text, vec![name.into()]).await?.is_empty();
    if tables.is_empty() {
        return match is_there {
            true => Ok(()),
            false => Err(SourceError::new(format!(
                "there is no publication '{name}': make it, or name tables in 'replicate'"
            ))),
        };
    }
    if is_there && !is_own {
        return Ok(());
    }
    let tables = look(database, tables).await?;
    let text = "select r.prrelid::text as it from pg_publication_rel r join pg_publication p on p.oid = r.prpubid \
                where p.pubname = $1::text";
    let has = database.rows(text, vec![name.into()]).await?;
    let has: BTreeSet<_> = has.iter().filter_map(|row| row.get("it")?.as_str()).collect();
    let wanted: BTreeSet<_> = tables.iter().map(|table| table.oid.as_deref().unwrap_or_default()).collect();
    if is_there && has == wanted {
        return Ok(());
    }
    for table in &tables {
        let is_new = table.oid.as_deref().is_some_and(|oid| !has.contains(oid));
        if is_new && !table.has_identity {
            return Err(SourceError::new(format!(
                "the table {0} has no primary key and no other replica identity: once it is published, PostgreSQL \
                 refuses its updates and deletes. Give it a key, or say 'alter table {0} replica identity full', or \
                 name a 'publication' of your own",
                table.name
            )));
        }
    }
    let names: Vec<_> = tables.iter().map(|table| table.name.as_str()).collect();
    let (name, names) = (quoted(name), names.join(", "));
    let text = match is_there {
        true => format!("alter publication {name} set table {names}"),
        false => format!("create publication {name} for table {names}"),
    };
    database.rows(text, Vec::new()).await?;
    Ok(())
}

/// Looks at the tables of the file.
async fn look(database: &Database, tables: &[String]) -> Result<Vec<Table>, SourceError> {
    let names: Vec<String> =
        tables.iter().map(|table| table.split('.').map(quoted).collect::<Vec<_>>().join(".")).collect();
    let text = "select c.oid::text as oid, \
                c.relreplident in ('f', 'i') or (c.relreplident = 'd' and exists \
                (select 1 from pg_index i where i.indrelid = c.oid and i.indisprimary)) as has_identity \
                from unnest($1::text[]) with ordinality as t(name, place) \
                left join pg_class c on c.oid = to_regclass(t.name) order by t.place";
    let found = database.rows(text, vec![names.clone().into()]).await?;
    let table = |(name, row): (String, Map<String, Value>)| Table {
        name,
        oid: row.get("oid").and_then(Value::as_str).map(str::to_owned),
        has_identity: row.get("has_identity") == Some(&Value::Bool(true)),
    };
    Ok(names.into_iter().zip(found).map(table).collect())
}
