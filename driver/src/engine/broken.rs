//! Engines that are broken on purpose, so that tests can show that they would find it out. They exist with the
//! feature `broken` only, which nothing but such tests asks for.

/// What is wrong with an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A failure does not break its chain.
    Link,
    /// A completion that finds the ring full is lost.
    Overflow,
    /// A short transfer is answered as a whole one.
    ShortCount,
    /// A counted timeout ends one completion late.
    TimeoutCount,
    /// Nothing waits for a drain.
    Drain,
}

/// What is wrong with this engine; nothing without the feature.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fault(#[cfg(feature = "broken")] Option<Broken>);

impl Fault {
    /// An engine that is broken in this way.
    #[cfg(feature = "broken")]
    pub(crate) fn new(broken: Option<Broken>) -> Self {
        Self(broken)
    }

    /// Whether the engine is broken in this way.
    #[inline]
    pub(crate) fn is(self, _broken: Broken) -> bool {
        #[cfg(feature = "broken")]
        return self.0 == Some(_broken);
        #[cfg(not(feature = "broken"))]
        false
    }
}
