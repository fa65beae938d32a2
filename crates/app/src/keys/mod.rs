//! Keys, one file per use case.
