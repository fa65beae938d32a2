//! What reads the words of others, for fuzzing and for nothing else: this is no API.

pub use crate::answer::Heading;
pub use crate::bound::{Bounded, bound};
pub use crate::decoder::Decoder;
pub use crate::filter::{Filtered, judge};
pub use crate::flight::Ending;
pub use crate::meter::Meter;
pub use crate::request::{ChatRequest, Place, texts};
pub use crate::usage::Reported;
