//! The data path: admit, reserve, forward, meter, settle.
