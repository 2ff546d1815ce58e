//! Why no map is served.

/// Why multipath maps are not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// The process was not root with the capabilities that a worker needs when [`Multipath::start`](crate::Multipath::start)
    /// was called.
    #[error("pr-helper was not started as root with CAP_SYS_ADMIN, CAP_SYS_RAWIO and CAP_DAC_OVERRIDE")]
    NotRoot,
    /// The supervisor process could not be started, or was told to end.
    #[error("its supervisor process could not be started")]
    NotStarted,
    /// multipath-tools is not installed.
    #[error("there is no libmpathpersist; install multipath-tools and restart pr-helper")]
    NoLibrary,
    /// A worker was started and cannot use the library or the device-mapper now.
    #[error("libmpathpersist or device-mapper cannot be used now; a line before this one says why")]
    Unfit,
}
