//! Why a logical unit cannot begin its work.

/// Why a [`LogicalUnit`](crate::LogicalUnit) cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E: core::error::Error + 'static> {
    /// There are no target ports, or too many.
    #[error("a logical unit is reached through 1 to {max} target ports, not {0}", max = crate::MAX_TARGET_PORTS)]
    TargetPorts(usize),
    /// The store does not say what was saved.
    #[error("the saved reservations cannot be read; make them readable and begin again")]
    Load(#[source] E),
    /// What was saved is not what this crate saves: the reservations are lost.
    #[error(
        "the saved reservations are damaged ({0}); bring back a good copy, or let an initiator begin anew by REPLACE \
         LOST RESERVATION"
    )]
    Damaged(&'static str),
}
