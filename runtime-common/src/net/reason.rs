use std::io;

use trackerless_core::io::IoReason;

/// What an error of the operating system means to the engine.
pub(crate) fn io_reason(error: &io::Error) -> IoReason {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::UnexpectedEof => IoReason::Eof,
        Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe => IoReason::Reset,
        Kind::ConnectionRefused => IoReason::Refused,
        Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown => {
            IoReason::Unreachable
        }
        Kind::TimedOut => IoReason::TimedOut,
        Kind::OutOfMemory | Kind::QuotaExceeded => IoReason::NoBuffers,
        Kind::AddrInUse
        | Kind::AddrNotAvailable
        | Kind::PermissionDenied
        | Kind::Unsupported
        | Kind::InvalidInput => IoReason::AddressUnavailable,
        _ if out_of_resources(error) => IoReason::NoBuffers,
        _ => IoReason::Other,
    }
}

/// Whether a later attempt may succeed because others gave descriptors or buffers back.
#[cfg(unix)]
pub(crate) fn out_of_resources(error: &io::Error) -> bool {
    use rustix::io::Errno;
    Errno::from_io_error(error).is_some_and(|errno| {
        [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].contains(&errno)
    })
}

#[cfg(not(unix))]
pub(crate) fn out_of_resources(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory
}
