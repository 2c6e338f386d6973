//! Against servers on loopback that say what they are told to.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::*;
use crate::storage::{Storage, StorageConfig};
use trackerless_core::io::{JobId, Work};
use trackerless_core::slab::Key;

/// A server that answers one request with `reply`; gives its port and what it was asked.
fn server(reply: Vec<u8>) -> (u16, JoinHandle<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = move || {
        let (mut stream, _) = listener.accept().unwrap();
        // What is left unread would reset the connection.
        let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
        let asked = lines.next().unwrap_or_default();
        lines.take_while(|line| !line.is_empty()).for_each(drop);
        // Whoever stops reading is no trouble of the server's.
        let _ = stream.write_all(&reply);
        asked
    };
    (port, std::thread::spawn(serve))
}

fn fetch(url: String) -> Fetch {
    Fetch {
        url,
        redirected_by: None,
        max_bytes: 1_000,
        timeout: Duration::from_secs(10),
    }
}

fn response(head: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

#[test]
fn a_body_comes_back_as_it_is_and_the_query_arrives_as_it_was_written() {
    let (port, server) = server(response("200 OK", b"d8:intervali60ee"));
    let query = "info_hash=%124Vx%9A%BC%DE%F1%23Eg%89%AB%CD%EF%124Vx%9A&peer_id=-TL~%26";
    let answer = get(&fetch(format!("http://127.0.0.1:{port}/announce?{query}"))).unwrap();
    assert_eq!(
        (answer.status, &answer.body[..]),
        (200, &b"d8:intervali60ee"[..])
    );
    assert_eq!(answer.from, IpAddr::from(Ipv4Addr::LOCALHOST));
    let asked = server.join().unwrap();
    assert_eq!(asked, format!("GET /announce?{query} HTTP/1.1"));
}

#[test]
fn other_statuses_come_back_too_and_a_redirect_is_not_followed() {
    let head = "302 Found\r\nLocation: http://127.0.0.1:1/announce";
    let (port, server) = server(response(head, b""));
    let answer = get(&fetch(format!("http://127.0.0.1:{port}/announce"))).unwrap();
    assert_eq!(answer.status, 302);
    assert_eq!(
        answer.location.as_deref(),
        Some("http://127.0.0.1:1/announce")
    );
    server.join().unwrap();
    let (port, server) = self::server(response("404 Not Found", b"no"));
    let answer = get(&fetch(format!("http://127.0.0.1:{port}/announce"))).unwrap();
    assert_eq!((answer.status, &answer.body[..]), (404, &b"no"[..]));
    server.join().unwrap();
}

#[test]
fn a_body_that_never_ends_and_one_too_long_are_given_up() {
    let endless = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &vec![b'd'; 4 << 20]].concat();
    let promised = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nd".to_vec();
    let long = response("200 OK", &[b'd'; 1_001]);
    for (reply, error) in [
        (endless, JobError::TooLarge),
        (long, JobError::TooLarge),
        (promised, JobError::Unreachable),
        (b"garbage\r\n\r\n".to_vec(), JobError::Unreachable),
        (Vec::new(), JobError::Unreachable),
    ] {
        let (port, server) = server(reply);
        let got = get(&fetch(format!("http://127.0.0.1:{port}/announce")));
        assert_eq!(got, Err(error));
        server.join().unwrap();
    }
    let (port, server) = server(response("200 OK", &[b'd'; 1_000]));
    let got = get(&fetch(format!("http://127.0.0.1:{port}/announce")));
    assert_eq!(got.unwrap().body.len(), 1_000);
    server.join().unwrap();
}

#[test]
fn who_does_not_answer_in_time_is_given_up() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut slow = fetch(format!("http://127.0.0.1:{port}/announce"));
    slow.timeout = Duration::from_millis(100);
    assert_eq!(get(&slow), Err(JobError::TimedOut));
}

#[test]
fn no_connection_is_opened_to_where_none_may_be() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let public = Some("8.8.8.8".parse().unwrap());
    for (url, redirected_by) in [
        (format!("http://127.0.0.1:{port}/admin"), None),
        (format!("http://localhost:{port}/admin"), None),
        // Other ways to write the same address, for some resolvers.
        (format!("http://127.1:{port}/admin"), None),
        (format!("http://2130706433:{port}/admin"), None),
        (format!("http://[::ffff:127.0.0.1]:{port}/admin"), None),
        (format!("http://127.0.0.1:{port}/announce"), public),
        (format!("http://localhost:{port}/announce"), public),
    ] {
        let mut fetch = fetch(url);
        fetch.redirected_by = redirected_by;
        let got = get(&fetch).unwrap_err();
        let refused = matches!(got, JobError::Forbidden | JobError::NotFound);
        assert!(refused, "{}: {got:?}", fetch.url);
        assert!(listener.accept().is_err(), "{}", fetch.url);
    }
    for url in ["ftp://127.0.0.1/announce", "file:///etc/passwd", "nonsense"] {
        assert_eq!(get(&fetch(url.into())), Err(JobError::Unsupported));
    }
}

#[test]
fn nobody_listening_is_told() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let got = get(&fetch(format!("http://127.0.0.1:{port}/announce")));
    assert_eq!(got, Err(JobError::Unreachable));
}

fn job(index: u32) -> JobId {
    JobId(Key {
        index,
        generation: 0,
    })
}

#[test]
fn a_job_is_answered_once_and_a_cancelled_one_is_not() {
    let (send, answers) = mpsc::channel();
    let mut storage = Storage::new(StorageConfig::default(), move |job, result| {
        let _ = send.send((job, result));
    });
    let mut submit = |index, port: u16| {
        let url = &format!("http://127.0.0.1:{port}/announce");
        let work = Work::HttpGet {
            url,
            redirected_by: None,
            max_bytes: 100,
            timeout: Duration::from_secs(10),
        };
        storage.submit(job(index), work);
        if index == 0 {
            storage.cancel(job(index));
        }
    };
    let (port, first) = server(response("200 OK", b"first"));
    submit(0, port);
    let (port, second) = server(response("200 OK", b"second"));
    submit(1, port);
    let (of, result) = answers.recv_timeout(Duration::from_secs(10)).unwrap();
    let JobResult::Http(answer) = result else {
        panic!("{result:?}");
    };
    assert_eq!((of, &answer.body[..]), (job(1), &b"second"[..]));
    second.join().unwrap();
    // The first server is asked, or was cancelled before: nobody else is to wait for it.
    drop(first);
    assert!(answers.try_recv().is_err());
}
