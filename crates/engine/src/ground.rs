//! What an engine stands on: how it changes what a node knows, and how it asks its database.

use std::ops::Deref;

use async_trait::async_trait;
use tollgate_domain::generation::GenerationRow;
use tollgate_domain::ledger::{Amounts, Correction, Scope};
use tollgate_domain::model::PriceVersion;
use tollgate_domain::{IdCipher, Timestamp};
use tollgate_store::{
    Act, AdjustRefused, Admission, GenerationRecord, Ledger, Raise, Reserve, Settled, Settlement, StoreError,
};

use crate::doctor::{Report, Sighting};
use crate::generations::{self, Found};
use crate::state::State;
use crate::value::{Row, Value};

/// A statement with its values: `?1` is the first of them. The SQL stands beside the method that changes what it writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// What is run.
    pub sql: &'static str,
    /// Its values.
    pub values: Vec<Value>,
}

/// A statement with its values.
pub const fn statement(sql: &'static str, values: Vec<Value>) -> Statement {
    Statement { sql, values }
}

/// What `act` of [`Ground::change`] comes to: a value and what to write, or a refusal that changed nothing.
pub type Changed<T, R> = Result<(T, Vec<Statement>), R>;

/// A correction of a charge, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corrected {
    /// The generation.
    pub row: GenerationRow,
    /// What is booked.
    pub correction: Correction,
    /// The price that the generation was settled with.
    pub price: PriceVersion,
    /// Why.
    pub reason: String,
}

/// What a storage engine is built on. Everything that management does is written once, against this.
///
/// `sums` says whose balances the second closure reads; no others are up to date in [`State::book`].
pub trait Ground: Send + Sync + 'static {
    /// Lets `act` change what the node knows and say what to write, all of it or, where it refuses, nothing. In force on
    /// every node, and durable, when this returns.
    fn change<T: Send, R: Send>(
        &self,
        sums: impl FnMut(&mut State, Timestamp) -> Vec<Scope> + Send,
        act: impl FnOnce(&mut State, Timestamp) -> Changed<T, R> + Send,
    ) -> impl Future<Output = Result<Result<T, R>, StoreError>> + Send;

    /// Looks at what the node knows, which is no older than the call.
    fn look<T: Send>(
        &self,
        sums: impl FnMut(&mut State, Timestamp) -> Vec<Scope> + Send,
        view: impl FnOnce(&mut State, Timestamp) -> T + Send,
    ) -> impl Future<Output = Result<T, StoreError>> + Send;

    /// Looks at what the node knows already; another node may know better.
    fn glance<T>(&self, view: impl FnOnce(&mut State, Timestamp) -> T) -> T;

    /// Asks the database.
    fn query(&self, sql: &str, values: Vec<Value>) -> impl Future<Output = Result<Vec<Row>, StoreError>> + Send;

    /// Everything that was decided when this is called is in the database when it returns.
    fn written(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The same, and sums by hour are up to date there.
    fn summed_up(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Books a correction of a generation that has ended, unless `act` refuses when it is shown the generation. One after another.
    fn correct<T: Send, R: Send>(
        &self,
        row: GenerationRow,
        act: impl FnOnce(&mut State, Timestamp, Option<Found>) -> Result<(T, Corrected, Vec<Statement>), R> + Send,
    ) -> impl Future<Output = Result<Result<T, R>, StoreError>> + Send;

    /// Books what a call cost that this ledger never saw begin, at this instant. No budget refuses.
    fn charge(
        &self,
        settlement: Settlement,
        spender: tollgate_domain::ledger::Spender,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// What [`crate::doctor`] looks at, as of one moment.
    fn sight(&self) -> impl Future<Output = Result<Sighting, StoreError>> + Send;

    /// Puts balances and sums by hour right that do not add up, as their entries say. What is reported is what was found.
    fn mend(&self) -> impl Future<Output = Result<Report, StoreError>> + Send;

    /// Takes the clock as it is, also where it went back.
    fn accept_clock(&self) -> impl Future<Output = Result<Timestamp, StoreError>> + Send;

    /// The query that [`Found::read`] reads: a generation and what it is charged, by its row.
    fn find_generation(&self) -> &'static str;

    /// Between rows and public ids.
    fn cipher(&self) -> &IdCipher;

    /// See [`Ledger::next_generation`].
    fn next_generation(&self) -> GenerationRow;

    /// See [`Ledger::reserve`].
    fn reserve(&self, want: Reserve) -> impl Future<Output = Result<Admission, StoreError>> + Send;

    /// See [`Ledger::raise`].
    fn raise(&self, raise: Raise) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// See [`Ledger::settle`].
    fn settle(&self, settlement: Settlement) -> impl Future<Output = Result<Settled, StoreError>> + Send;

    /// See [`Ledger::ready`].
    fn ready(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// No sums are asked for.
pub const fn no_sums(_: &mut State, _: Timestamp) -> Vec<Scope> {
    Vec::new()
}

/// A storage engine on its ground.
#[derive(Clone, Debug)]
pub struct Engine<G>(pub G);

impl<G> Deref for Engine<G> {
    type Target = G;

    fn deref(&self) -> &G {
        &self.0
    }
}

#[async_trait]
impl<G: Ground> Ledger for Engine<G> {
    fn next_generation(&self) -> GenerationRow {
        self.0.next_generation()
    }

    async fn reserve(&self, want: Reserve) -> Result<Admission, StoreError> {
        self.0.reserve(want).await
    }

    async fn raise(&self, raise: Raise) -> Result<bool, StoreError> {
        self.0.raise(raise).await
    }

    async fn settle(&self, settlement: Settlement) -> Result<Settled, StoreError> {
        self.0.settle(settlement).await
    }

    async fn adjust(
        &self,
        id: &str,
        amounts: Amounts,
        reason: &str,
        act: Act<Amounts>,
    ) -> Result<Result<Amounts, AdjustRefused>, StoreError> {
        let Some(row) = self.cipher().row(id) else { return Ok(Err(AdjustRefused::Unknown)) };
        let adjust = |state: &mut State, now: Timestamp, found: Option<Found>| {
            let found = found.ok_or(AdjustRefused::Unknown)?;
            generations::adjusted(state, now, row, id, &found, amounts, reason, act)
        };
        self.0.correct(row, adjust).await
    }

    async fn generation(&self, id: &str) -> Result<Option<GenerationRecord>, StoreError> {
        let Some(row) = self.cipher().row(id) else { return Ok(None) };
        let rows = self.query(self.find_generation(), vec![Value::from(row.0)]).await?;
        let Some(found) = rows.first().map(|found| Found::read(row, found)).transpose()? else { return Ok(None) };
        let workspace = self.look(no_sums, |state, _| state.workspace_uuid(found.spender.workspace)).await?;
        let Some(workspace) = workspace else {
            return Err(StoreError::Corrupt("a generation names a workspace that does not exist".to_owned()));
        };
        let id = self.cipher().id(row, found.admitted_at);
        let Found { spender, admitted_at, model, provider, hold, settlement } = found;
        Ok(Some(GenerationRecord { id, spender, workspace, admitted_at, model, provider, hold, settlement }))
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.0.ready().await
    }
}
