//! Requests that are made once however often they are sent: the answer is kept, sealed, for whoever asks again.

use aws_lc_rs::digest::{SHA256, digest};
use tollgate_store::{KeptAnswer, StoreError};

use crate::App;
use crate::vault::{SealError, Vault, open, seal};

/// Where the answer to one idempotency key of one caller is kept. Nobody else can find or open it.
#[derive(Clone)]
pub struct Slot {
    id: [u8; 32],
    key: [u8; 32],
    request: [u8; 32],
    /// Drawn before anything is done, so that an answer that was given can be kept.
    nonce: [u8; 32],
}

/// What is kept in a slot.
pub enum Kept {
    /// The answer to the same request.
    Answer(Vec<u8>),
    /// The answer to another one.
    OtherRequest,
}

impl Slot {
    /// Tells the slot from others.
    pub const fn id(&self) -> [u8; 32] {
        self.id
    }

    /// The answer, sealed; `None` where it cannot be.
    pub fn keep(&self, answer: &[u8]) -> Option<KeptAnswer> {
        match seal(&self.key, &self.id, answer, self.nonce) {
            Ok(sealed) => Some(KeptAnswer { id: self.id, request: self.request, sealed }),
            Err(error) => {
                tracing::warn!(%error, "an answer is not kept");
                None
            }
        }
    }
}

impl App {
    /// The slot of a request: of the caller who has `secret`, under the idempotency key `name`. `parts` are all that makes
    /// it this request. Where the server has no key of its own, the caller's secret alone opens what is kept.
    ///
    /// # Errors
    /// [`SealError`]: nothing can be sealed.
    pub fn slot(&self, secret: &[u8], name: &[u8], parts: &[&[u8]]) -> Result<Slot, SealError> {
        let without_key = Vault::new([0; 32]);
        let vault = self.settings().vault.as_ref().unwrap_or(&without_key);
        let mut request = Vec::new();
        for part in parts {
            request.extend_from_slice(&part.len().to_be_bytes());
            request.extend_from_slice(part);
        }
        let request = digest(&SHA256, &request);
        Ok(Slot {
            id: vault.derive("answer id", &[secret, name])?,
            key: vault.derive("answer", &[secret, name])?,
            request: request.as_ref().first_chunk().copied().ok_or(SealError::Refused)?,
            nonce: self.random.bytes()?,
        })
    }

    /// What is kept in a slot, if anything is.
    ///
    /// # Errors
    /// The store failed.
    pub async fn kept(&self, slot: &Slot) -> Result<Option<Kept>, StoreError> {
        let Some(kept) = self.store().kept_answer(slot.id).await? else { return Ok(None) };
        if kept.request != slot.request {
            return Ok(Some(Kept::OtherRequest));
        }
        match open(&slot.key, &slot.id, &kept.sealed) {
            Some(answer) => Ok(Some(Kept::Answer(answer))),
            None => Err(StoreError::Corrupt("an answer that was kept cannot be opened".to_owned())),
        }
    }
}
