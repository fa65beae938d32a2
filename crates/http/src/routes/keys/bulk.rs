//! `POST /api/v1/keys/bulk`. Ours.

use axum::extract::State;
use http::StatusCode;
use tollgate_wire::{CreateKeys, CreatedKey, Data};

use crate::convert;
use crate::error::ApiError;
use crate::extract::{Bulk, LimitedManager};
use crate::router::Api;
use crate::routes::Answer;

/// Creates many keys or none, and shows their secrets, this once.
#[utoipa::path(
    post,
    path = "/api/v1/keys/bulk",
    operation_id = "createKeys",
    tag = "Keys",
    request_body(content((CreateKeys = "application/json"), (String = "text/csv"))),
    responses((status = 201, body = Data<Vec<CreatedKey>>)),
    security(("management_key" = [])),
)]
pub async fn bulk(State(api): State<Api>, manager: LimitedManager, Bulk(bodies): Bulk) -> Result<Answer, ApiError> {
    let requests = bodies
        .into_iter()
        .enumerate()
        .map(|(index, body)| convert::keys::key_request(body).map_err(|error| error.within(&format!("keys[{index}]"))));
    let mut requests: Vec<_> = requests.collect::<Result<_, _>>()?;
    for request in &mut requests {
        manager.place(&api, request).await?;
    }
    let answer = |created: &Vec<_>| {
        let data: Vec<_> = created.iter().map(convert::keys::created).collect();
        Answer::new(StatusCode::CREATED, &Data { data })
    };
    let created = api.app().create_keys(requests, manager.act(answer)).await?;
    Ok(answer(&created))
}
