//! Generations.

use tollgate_domain::Usd;
use tollgate_domain::usage::{Metered, TokenUsage};
use tollgate_store::{GenerationRecord, Outcome};
use tollgate_wire::{Amount, Generation, ProviderResponse};

/// A generation as it is shown (contract section 12).
pub fn generation(record: GenerationRecord) -> Generation {
    let settlement = record.settlement;
    let is_byok = settlement.is_byok();
    let list_hold = if is_byok { record.hold.byok } else { record.hold.credits };
    let facts = settlement.facts;
    let tokens = settlement.metered.as_ref().map(Metered::tokens);
    let token = |read: fn(&TokenUsage) -> u64| tokens.map(read);
    let responses = facts.attempts.into_iter().map(|attempt| ProviderResponse {
        status: attempt.status,
        provider_name: attempt.provider,
        latency: attempt.latency_ms,
        is_byok: attempt.credential.is_some(),
    });
    Generation {
        id: record.id.to_string(),
        upstream_id: facts.upstream_id,
        total_cost: Amount(settlement.charge.credits),
        upstream_inference_cost: Some(Amount(settlement.charge.byok)),
        is_byok,
        usage: Amount(settlement.charge.credits),
        created_at: record.admitted_at.to_string(),
        model: record.model,
        streamed: Some(facts.streamed),
        cancelled: Some(facts.cancelled || settlement.outcome == Outcome::Lost),
        provider_name: Some(record.provider),
        latency: facts.latency_ms,
        generation_time: facts.generation_ms,
        finish_reason: facts.finish_reason,
        native_finish_reason: facts.native_finish_reason,
        tokens_prompt: token(|t| t.prompt),
        tokens_completion: token(|t| t.completion),
        native_tokens_prompt: token(|t| t.prompt),
        native_tokens_completion: token(|t| t.completion),
        native_tokens_completion_images: token(|t| t.completion_image),
        native_tokens_reasoning: token(|t| t.reasoning),
        native_tokens_cached: token(|t| t.cached),
        origin: facts.http_referer.clone().unwrap_or_default(),
        http_referer: facts.http_referer,
        data_region: "global".to_owned(),
        api_type: Some("completions".to_owned()),
        provider_responses: Some(responses.collect()),
        user_agent: facts.user_agent,
        workspace_id: Some(record.workspace.to_string()),
        session_id: facts.session_id,
        settlement: settlement.outcome.as_str().to_owned(),
        overrun: Amount(Usd::left_of(settlement.cost.total, list_hold).max(Usd::ZERO)),
        ..Generation::default()
    }
}
