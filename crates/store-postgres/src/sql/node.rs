//! Nodes and their leases.

use deadpool_postgres::Object;
use tollgate_domain::generation::GenerationRow;

use super::{NODES_LOCK, read, values};
use crate::lease::LEASE;
use crate::seam::{Boot, Broken, Hold, Identity, NodeNumber};

// A boot is never used again, so whoever wrote under it cannot any more.
const FENCE: &str = "UPDATE nodes SET boot = NULL
WHERE boot IS NOT NULL AND lease_until < (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

const REGISTER: &str = "INSERT INTO nodes (number, boot, lease_until, seen)
SELECT coalesce((SELECT min(number) FROM nodes WHERE boot IS NULL), (SELECT coalesce(max(number), 0) + 1 FROM nodes)),
    nextval('boots'), (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + $1, 0
ON CONFLICT (number) DO UPDATE SET boot = excluded.boot, lease_until = excluded.lease_until
RETURNING number, boot";

const RENEW: &str = "UPDATE nodes SET lease_until = (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + $3
WHERE number = $1 AND boot = $2";

const RESIGN: &str = "UPDATE nodes SET boot = NULL WHERE number = $1 AND boot = $2";

const ORPHANS: &str = "SELECT row, key, workspace, member, admitted_at, credits, byok, price FROM holds h
WHERE NOT EXISTS (SELECT FROM nodes n WHERE n.boot = h.row >> 30)
ORDER BY row LIMIT $1";

fn lease_micros() -> i64 {
    i64::try_from(LEASE.as_micros()).unwrap_or(i64::MAX)
}

pub async fn register(mut session: Object) -> Result<Identity, Broken> {
    let registered: Result<_, tokio_postgres::Error> = async {
        let tx = session.transaction().await?;
        tx.execute("SELECT pg_advisory_xact_lock($1)", &[&NODES_LOCK]).await?;
        tx.execute(FENCE, &[]).await?;
        let row = tx.query_one(REGISTER, &[&lease_micros()]).await?;
        let identity = Identity { number: NodeNumber(row.try_get(0)?), boot: Boot(row.try_get(1)?) };
        tx.commit().await?;
        Ok(identity)
    }
    .await;
    registered.map_err(|error| values::broken(&error))
}

pub async fn renew(session: &Object, Identity { number, boot }: Identity) -> Result<bool, Broken> {
    let renewed = session.execute(RENEW, &[&number.0, &boot.0, &lease_micros()]).await;
    renewed.map(|rows| rows == 1).map_err(|error| values::broken(&error))
}

pub async fn resign(session: &Object, Identity { number, boot }: Identity) -> Result<(), Broken> {
    let resigned = session.execute(RESIGN, &[&number.0, &boot.0]).await;
    resigned.map(|_| ()).map_err(|error| values::broken(&error))
}

pub async fn orphans(session: &Object, most: usize) -> Result<Vec<(GenerationRow, Hold)>, Broken> {
    let found: Result<_, tokio_postgres::Error> = async {
        session.execute(FENCE, &[]).await?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        session.query(ORPHANS, &[&most]).await?.iter().map(read::hold).collect()
    }
    .await;
    found.map_err(|error| values::broken(&error))
}
