//! The error of creating a logical unit.

/// The reason why a [`LogicalUnit`](crate::LogicalUnit) cannot be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E: core::error::Error + 'static> {
    /// There are no target ports, or too many.
    #[error("a logical unit is reached through 1 to {max} target ports, not {0}", max = crate::MAX_TARGET_PORTS)]
    TargetPorts(usize),
    /// The store cannot return the saved state.
    #[error("the saved reservations cannot be read; make them readable and try again")]
    Load(#[source] E),
    /// The saved bytes are not a state that this crate writes: the reservations are lost.
    #[error(
        "the saved reservations are damaged ({0}); restore a good copy, or let an initiator start over by REPLACE \
         LOST RESERVATION"
    )]
    Damaged(&'static str),
}
