//! What must be remembered, as intents: each method is one atomic step, idempotent where it moves money.
//!
//! Engines implement these traits; everything above holds them as `dyn`. A refusal is a value, `Err` is a fault.
#![warn(missing_docs)]

mod catalogue;
mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod keys;
mod ledger;
mod management;

pub use catalogue::{CatalogueStore, PricedEndpoint};
pub use clock::{Clock, Reading, SystemClock};
pub use error::StoreError;
pub use keys::{Credential, InferenceKey, KeyQuery, KeySpend, KeyStore, KeyView};
pub use ledger::{
    Admission, Attempt, GenerationRecord, Ledger, Outcome, Reservation, Reserve, Settled, Settlement, SettlementFacts,
};
pub use management::{ManagementStore, NewManagementKey};

/// Everything that a storage engine does.
pub trait Store: Ledger + KeyStore + ManagementStore + CatalogueStore {}

impl<T: Ledger + KeyStore + ManagementStore + CatalogueStore> Store for T {}
