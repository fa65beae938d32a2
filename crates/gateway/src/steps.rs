//! The named steps between which a process may die. A test stops it at each of them.

/// A step of the life of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The body was read and understood; nothing is held.
    Admitted,
    /// The hold is durable; nothing went upstream.
    Reserved,
    /// The provider was sent the call and has not answered.
    Forwarded,
    /// The provider began to answer.
    Answered,
    /// All of the answer was read; it is not settled.
    Metered,
    /// The settlement is durable; the client does not know.
    Settled,
}

impl Step {
    /// All steps, in order.
    pub const ALL: [Self; 6] =
        [Self::Admitted, Self::Reserved, Self::Forwarded, Self::Answered, Self::Metered, Self::Settled];

    /// The step's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Reserved => "reserved",
            Self::Forwarded => "forwarded",
            Self::Answered => "answered",
            Self::Metered => "metered",
            Self::Settled => "settled",
        }
    }
}

/// Is told each step as it is reached.
pub trait Steps: Send + Sync {
    /// A request reached `step`.
    fn reached(&self, step: Step);
}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSteps;

impl Steps for NoSteps {
    fn reached(&self, _: Step) {}
}
