//! Where two traces part.

use std::fmt;
use std::io::{self, BufRead};

/// The first line that two traces do not have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parting {
    /// Its number, from 1 on.
    pub line: u64,
    /// The simulated second, from 0 on.
    pub second: u64,
    /// The host concerned, if the line is about one: in the first trace, else in the second.
    pub host: Option<u32>,
    /// What the first trace has there; `None` at its end.
    pub ours: Option<String>,
    /// What the second has.
    pub theirs: Option<String>,
}

/// Compares two traces line by line.
///
/// # Errors
/// When one cannot be read, or is no trace.
pub fn diff(ours: impl BufRead, theirs: impl BufRead) -> io::Result<Option<Parting>> {
    let (mut ours, mut theirs) = (ours.lines(), theirs.lines());
    let head = |line: Option<io::Result<String>>, which: &str| {
        let line = line.transpose()?.unwrap_or_default();
        if line.starts_with("trackerless-trace 1 ") {
            return Ok(());
        }
        let message = format!("{which}: expected a trace, as run --trace writes it");
        Err(io::Error::new(io::ErrorKind::InvalidData, message))
    };
    // Seeds and names may differ: that is what is to be compared.
    head(ours.next(), "the first file")?;
    head(theirs.next(), "the second file")?;
    let mut line = 1;
    let mut second = 0;
    loop {
        line += 1;
        match (ours.next().transpose()?, theirs.next().transpose()?) {
            (None, None) => return Ok(None),
            (ours, theirs) if ours == theirs => {
                second = ours.as_deref().and_then(second_of).unwrap_or(second);
            }
            (ours, theirs) => {
                let first = |of: fn(&str) -> Option<u64>| {
                    let lines = [ours.as_deref(), theirs.as_deref()];
                    lines.into_iter().flatten().filter_map(of).min()
                };
                return Ok(Some(Parting {
                    line,
                    second: first(second_of).unwrap_or(second),
                    host: earlier(ours.as_deref(), theirs.as_deref()).and_then(host_of),
                    ours,
                    theirs,
                }));
            }
        }
    }
}

/// The line that happens first: it is what the other trace lacks.
fn earlier<'a>(ours: Option<&'a str>, theirs: Option<&'a str>) -> Option<&'a str> {
    let time = |line: &str| line.split(' ').next().and_then(micros).unwrap_or(u64::MAX);
    match (ours, theirs) {
        (Some(ours), Some(theirs)) if time(theirs) < time(ours) => Some(theirs),
        (ours, theirs) => ours.or(theirs),
    }
}

/// A time in seconds with six digits behind the point.
fn micros(text: &str) -> Option<u64> {
    let (seconds, rest) = text.split_once('.')?;
    Some(seconds.parse::<u64>().ok()? * 1_000_000 + rest.parse::<u64>().ok()?)
}

fn second_of(line: &str) -> Option<u64> {
    micros(line.split(' ').next()?).map(|micros| micros / 1_000_000)
}

fn host_of(line: &str) -> Option<u32> {
    line.split(' ')
        .nth(1)
        .filter(|_| !line.starts_with('='))?
        .parse()
        .ok()
}

impl fmt::Display for Parting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the traces part in second {}", self.second)?;
        if let Some(host) = self.host {
            write!(f, ", at host {host}")?;
        }
        writeln!(f, ", line {}:", self.line)?;
        let line = |line: &Option<String>| line.clone().unwrap_or_else(|| "(ends)".into());
        writeln!(f, "  {}", line(&self.ours))?;
        write!(f, "  {}", line(&self.theirs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "trackerless-trace 1 demo 7\n";

    fn parting(ours: &str, theirs: &str) -> Option<Parting> {
        diff(
            format!("{HEAD}{ours}").as_bytes(),
            format!("{HEAD}{theirs}").as_bytes(),
        )
        .unwrap()
    }

    #[test]
    fn the_first_event_that_differs_is_named() {
        let same = "0.000000 0 < Tick\n= 1 aa\n";
        assert_eq!(parting(same, same), None);
        let other = parting(
            &format!("{same}1.500000 3 < Tick\n1.700000 4 < Tick\n"),
            &format!("{same}1.400000 9 > Connect\n1.500000 3 < Tick\n"),
        );
        let other = other.unwrap();
        assert_eq!((other.line, other.second, other.host), (4, 1, Some(9)));
        let said = other.to_string();
        assert!(
            said.starts_with("the traces part in second 1, at host 9, line 4:\n"),
            "{said}"
        );
        let cut = parting(same, &format!("{same}2.000001 5 ! Complete\n")).unwrap();
        assert_eq!((cut.second, cut.host, cut.ours), (2, Some(5), None));
        let root = parting(same, "0.000000 0 < Tick\n= 1 ab\n").unwrap();
        assert_eq!((root.line, root.second, root.host), (3, 0, None));
    }

    #[test]
    fn what_is_no_trace_is_an_error() {
        let error = diff(HEAD.as_bytes(), &b"x\n"[..]).unwrap_err();
        assert!(
            error.to_string().starts_with("the second file: "),
            "{error}"
        );
    }
}
