//! Finds the addresses of names.

use std::net::{IpAddr, ToSocketAddrs};

use trackerless_core::io::{JobError, JobResult};

/// Names looked up at once.
pub(super) const MAX_THREADS: usize = 4;

/// Asks the system's resolver, which can take minutes.
pub(super) fn resolve(host: &str, port: u16) -> JobResult {
    match (host, port).to_socket_addrs() {
        Ok(found) => {
            let mut all: Vec<IpAddr> = Vec::new();
            for addr in found {
                if !all.contains(&addr.ip()) {
                    all.push(addr.ip());
                }
            }
            JobResult::Resolved(all)
        }
        Err(_) => JobResult::Failed(JobError::NotFound),
    }
}
