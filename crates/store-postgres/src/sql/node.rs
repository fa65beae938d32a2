//! Nodes and their leases.

use deadpool_postgres::Object;
use tollgate_domain::generation::GenerationRow;

use super::{NODES_LOCK, read, values};
use crate::seam::{Boot, Broken, Hold, Identity, NodeNumber};

const REGISTER: &str = "INSERT INTO nodes (number, boot, beats, seen)
SELECT coalesce((SELECT min(number) FROM nodes WHERE boot IS NULL), (SELECT coalesce(max(number), 0) + 1 FROM nodes)),
    nextval('boots'), 0, 0
ON CONFLICT (number) DO UPDATE SET boot = excluded.boot
RETURNING number, boot";

const NODES: &str = "SELECT number, boot, beats FROM nodes WHERE boot IS NOT NULL ORDER BY number";

// A boot is never used again, so whoever wrote under it cannot any more.
const FENCE: &str = "UPDATE nodes SET boot = NULL WHERE number = $1 AND boot = $2 AND beats = $3";

const RENEW: &str = "UPDATE nodes SET beats = beats + 1 WHERE number = $1 AND boot = $2";

const RESIGN: &str = "UPDATE nodes SET boot = NULL WHERE number = $1 AND boot = $2";

const ORPHANS: &str = "SELECT row, key, workspace, member, admitted_at, credits, byok, price FROM holds h
WHERE NOT EXISTS (SELECT FROM nodes n WHERE n.boot = h.row >> 37)
ORDER BY row LIMIT $1";

pub async fn register(session: &mut Object) -> Result<Identity, Broken> {
    let registered: Result<_, tokio_postgres::Error> = async {
        let tx = session.transaction().await?;
        tx.execute("SELECT pg_advisory_xact_lock($1)", &[&NODES_LOCK]).await?;
        let row = tx.query_one(REGISTER, &[]).await?;
        let identity = Identity { number: NodeNumber(row.try_get(0)?), boot: Boot(row.try_get(1)?) };
        tx.commit().await?;
        Ok(identity)
    }
    .await;
    registered.map_err(|error| values::broken(&error))
}

pub async fn nodes(session: &Object) -> Result<Vec<(Identity, i64)>, Broken> {
    let found: Result<_, tokio_postgres::Error> = async {
        let read = |row: &tokio_postgres::Row| {
            let identity = Identity { number: NodeNumber(row.try_get(0)?), boot: Boot(row.try_get(1)?) };
            Ok((identity, row.try_get(2)?))
        };
        session.query(NODES, &[]).await?.iter().map(read).collect()
    }
    .await;
    found.map_err(|error| values::broken(&error))
}

pub async fn fence(session: &Object, Identity { number, boot }: Identity, count: i64) -> Result<(), Broken> {
    let fenced = session.execute(FENCE, &[&number.0, &boot.0, &count]).await;
    fenced.map(|_| ()).map_err(|error| values::broken(&error))
}

pub async fn renew(session: &Object, Identity { number, boot }: Identity) -> Result<bool, Broken> {
    let renewed = session.execute(RENEW, &[&number.0, &boot.0]).await;
    renewed.map(|rows| rows == 1).map_err(|error| values::broken(&error))
}

pub async fn resign(session: &Object, Identity { number, boot }: Identity) -> Result<(), Broken> {
    let resigned = session.execute(RESIGN, &[&number.0, &boot.0]).await;
    resigned.map(|_| ()).map_err(|error| values::broken(&error))
}

pub async fn orphans(session: &Object, most: usize) -> Result<Vec<(GenerationRow, Hold)>, Broken> {
    let found: Result<_, tokio_postgres::Error> = async {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        session.query(ORPHANS, &[&most]).await?.iter().map(read::hold).collect()
    }
    .await;
    found.map_err(|error| values::broken(&error))
}
