//! Fetches URLs.
//!
//! No redirect is followed here: whether to, and to where, is the core's to decide. Before a
//! connection is opened, every address of a name is held against the core's rule.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use trackerless_core::io::{HttpAnswer, JobError, JobResult};
use trackerless_core::tracker::TrackerUrl;
use ureq::Agent;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver as Names};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use super::lock;

/// URLs fetched at once.
pub(super) const MAX_THREADS: usize = 8;
/// Longest URL fetched, bytes: what the core makes of the longest it accepts.
const MAX_URL: u16 = 16 * 1024;

/// What is to be fetched.
#[derive(Debug, Clone)]
pub(super) struct Fetch {
    pub(super) url: String,
    pub(super) redirected_by: Option<IpAddr>,
    pub(super) max_bytes: u32,
    pub(super) timeout: Duration,
}

impl Fetch {
    /// What the server says, or why it says nothing.
    pub(super) fn run(&self) -> JobResult {
        match get(self) {
            Ok(answer) => JobResult::Http(Box::new(answer)),
            Err(error) => JobResult::Failed(error),
        }
    }
}

/// Where a fetch went, as its resolver saw it.
#[derive(Debug, Default)]
struct Seen {
    /// Of the addresses that may have been connected to, the one that reaches farthest.
    farthest: Option<IpAddr>,
    forbidden: bool,
}

/// Finds addresses as the system does, and lets through only those that may be contacted.
#[derive(Debug)]
struct Guard {
    url: TrackerUrl,
    redirected_by: Option<IpAddr>,
    seen: Arc<Mutex<Seen>>,
    names: DefaultResolver,
}

impl Names for Guard {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let all = self.names.resolve(uri, config, timeout)?;
        let mut may = self.empty();
        let mut seen = lock(&self.seen);
        for addr in all.iter() {
            let ip = addr.ip().to_canonical();
            if self.url.may_contact(self.redirected_by, ip).is_err() {
                seen.forbidden = true;
                continue;
            }
            // Whoever may be redirected by the farthest may be by all of them.
            let nearer = seen
                .farthest
                .is_none_or(|far| reaches_farther(&self.url, ip, far));
            if nearer {
                seen.farthest = Some(ip);
            }
            may.push(SocketAddr::new(ip, addr.port()));
        }
        if may.is_empty() {
            return Err(ureq::Error::HostNotFound);
        }
        Ok(may)
    }
}

/// Whether `ip` may send us to fewer places than `other`.
fn reaches_farther(url: &TrackerUrl, ip: IpAddr, other: IpAddr) -> bool {
    url.may_contact(Some(ip), other).is_err()
}

fn get(fetch: &Fetch) -> Result<HttpAnswer, JobError> {
    let url = TrackerUrl::parse(&fetch.url, MAX_URL).map_err(|_| JobError::Unsupported)?;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let guard = Guard {
        url,
        redirected_by: fetch.redirected_by,
        seen: Arc::clone(&seen),
        names: DefaultResolver::default(),
    };
    let config = Agent::config_builder()
        .timeout_global(Some(fetch.timeout))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_idle_connections(0)
        // What the environment names as a proxy would hide whom we speak to.
        .proxy(None)
        .user_agent(concat!("Trackerless/", env!("CARGO_PKG_VERSION")))
        .build();
    let agent = Agent::with_parts(config, DefaultConnector::default(), guard);
    let error = |error: ureq::Error| match error {
        ureq::Error::HostNotFound if lock(&seen).forbidden => JobError::Forbidden,
        error => job_error(&error),
    };
    let mut response = agent.get(&fetch.url).call().map_err(error)?;
    let location = response.headers().get("location");
    let location = location
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let status = response.status().as_u16();
    let mut body = Vec::new();
    // One byte more than there may be shows that there is more.
    let most = u64::from(fetch.max_bytes) + 1;
    let mut reader = response.body_mut().with_config().limit(most + 1).reader();
    let read = reader.by_ref().take(most).read_to_end(&mut body);
    if body.len() as u64 >= most {
        return Err(JobError::TooLarge);
    }
    read.map_err(|error| match error.kind() {
        std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock => JobError::TimedOut,
        _ => match ureq::Error::from(error) {
            ureq::Error::Timeout(_) => JobError::TimedOut,
            _ => JobError::Unreachable,
        },
    })?;
    let from = lock(&seen).farthest.ok_or(JobError::Io)?;
    Ok(HttpAnswer {
        status,
        from,
        location,
        body: body.into(),
    })
}

fn job_error(error: &ureq::Error) -> JobError {
    match error {
        ureq::Error::HostNotFound => JobError::NotFound,
        ureq::Error::Timeout(_) => JobError::TimedOut,
        ureq::Error::LargeResponseHeader(..) | ureq::Error::BodyExceedsLimit(_) => {
            JobError::TooLarge
        }
        ureq::Error::BadUri(_) => JobError::Unsupported,
        _ => JobError::Unreachable,
    }
}

#[cfg(test)]
mod tests;
