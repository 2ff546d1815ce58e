//! Reasons why no map is served.

/// The reason why multipath maps are not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// The process was not root, or lacked a capability of a worker, when [`Multipath::start`](crate::Multipath::start) was
    /// called.
    #[error("pr-helper was not started as root with CAP_SYS_ADMIN, CAP_SYS_RAWIO and CAP_DAC_OVERRIDE")]
    NotRoot,
    /// The supervisor process could not be started, or [`Multipath::end`](crate::Multipath::end) has ended it.
    #[error("its supervisor process could not be started")]
    NotStarted,
    /// multipath-tools is not installed.
    #[error("there is no libmpathpersist; install multipath-tools and restart pr-helper")]
    NoLibrary,
    /// The last worker could not use the library or device-mapper. The next one may be able to.
    #[error("libmpathpersist or device-mapper cannot be used now; a line before this one says why")]
    Unfit,
}
