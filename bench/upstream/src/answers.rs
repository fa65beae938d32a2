//! The answers, made once: about 1.5 KB whole, about 11 KB as a stream of one HTTP chunk per event.

const CONTENT_EVENTS: usize = 50;
const EVENT_START: &str = "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"bench\",\"choices\":";

pub struct Answers {
    /// Head and body of the answer that is no stream.
    pub whole: Vec<u8>,
    /// The stream in the pieces that `bench-paced` writes; the first carries the head.
    pub events: Vec<Vec<u8>>,
    /// What ends the stream: `[DONE]` and the last HTTP chunk.
    pub end: &'static [u8],
    /// The whole stream.
    pub burst: Vec<u8>,
    /// To a call that names no scenario, so that a wrong set-up fails instead of measuring something else.
    pub unknown: &'static [u8],
}

impl Answers {
    pub fn new() -> Self {
        let events = events();
        let end = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
        let burst = [&events.concat(), end.as_slice()].concat();
        let unknown = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
        Self { whole: whole(), events, end, burst, unknown }
    }
}

fn whole() -> Vec<u8> {
    let text = "All work and no limit makes a bill that nobody wanted. ".repeat(22);
    let body = format!(
        "{{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"bench\",\"choices\":\
         [{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{text}\"}},\"finish_reason\":\"stop\"}}],\
         \"usage\":{{\"prompt_tokens\":250,\"completion_tokens\":260,\"total_tokens\":510}}}}"
    );
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

fn events() -> Vec<Vec<u8>> {
    let mut events =
        vec!["HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_owned()];
    let content = (0..CONTENT_EVENTS).map(|number| {
        format!("[{{\"index\":0,\"delta\":{{\"content\":\" content{number:02}\"}},\"logprobs\":null,\"finish_reason\":null}}]}}")
    });
    let finish = "[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}]}".to_owned();
    let usage = "[],\"usage\":{\"prompt_tokens\":250,\"completion_tokens\":50,\"total_tokens\":300}}".to_owned();
    for (number, rest) in content.chain([finish, usage]).enumerate() {
        let event = format!("data: {EVENT_START}{rest}\n\n");
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        match events.first_mut() {
            Some(head) if number == 0 => head.push_str(&chunk),
            _ => events.push(chunk),
        }
    }
    events.into_iter().map(String::into_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_have_the_sizes_that_the_documents_name() {
        let answers = Answers::new();
        assert!((1_400..1_700).contains(&answers.whole.len()), "{}", answers.whole.len());
        assert!((10_000..12_000).contains(&answers.burst.len()), "{}", answers.burst.len());
        assert_eq!(answers.events.len(), CONTENT_EVENTS + 2);
    }

    #[test]
    fn every_event_of_the_stream_is_one_http_chunk() {
        let burst = String::from_utf8(Answers::new().burst).unwrap();
        let (_, mut rest) = burst.split_once("\r\n\r\n").unwrap();
        let mut events = Vec::new();
        while let Some((size, after)) = rest.split_once("\r\n") {
            let size = usize::from_str_radix(size, 16).unwrap();
            let (event, after) = after.split_at(size);
            rest = after.strip_prefix("\r\n").unwrap();
            events.push(event);
        }
        assert_eq!(events.pop(), Some(""));
        assert_eq!(events.pop(), Some("data: [DONE]\n\n"));
        assert!(events.pop().unwrap().contains("\"choices\":[],\"usage\""));
        assert_eq!(events.len(), CONTENT_EVENTS + 1);
        assert!(events.iter().all(|event| event.starts_with("data: {") && event.ends_with("}\n\n")));
    }
}
