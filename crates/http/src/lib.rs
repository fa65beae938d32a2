//! The HTTP surface: routes, extractors, the error envelope.
