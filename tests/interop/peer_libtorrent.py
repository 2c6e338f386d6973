"""One libtorrent session with one torrent, as a process: takes a task as JSON (see
clients/__init__.py), prints what it has as JSON lines, and ends when it is told to."""

import json
import signal
import sys
import time

import lab


def _encryption(policy, level):
    return {"out_enc_policy": policy, "in_enc_policy": policy, "allowed_enc_level": level}


FORCED, ENABLED, DISABLED = 0, 1, 2
PLAINTEXT, RC4, BOTH = 1, 2, 3
ENCRYPTION = {
    "": _encryption(ENABLED, BOTH),
    "rc4": _encryption(FORCED, RC4),
    "plaintext": _encryption(FORCED, PLAINTEXT),
    "never": _encryption(DISABLED, BOTH),
}
REPORT_EVERY, LOOKUP_EVERY = 0.2, 3


def begin(task):
    bootstrap = task["contacts"] or []
    session = lab.session(
        task["address"],
        bootstrap,
        listen_interfaces=lab.endpoint(task["address"], task["port"]),
        outgoing_interfaces=task["address"],
        enable_dht=task["contacts"] is not None,
        enable_lsd=task["lsd"],
        close_redundant_connections=False,
        # As it comes: uTP is tried, and where it is not understood, done without.
        enable_outgoing_utp=True,
        enable_incoming_utp=True,
        **ENCRYPTION[task["encryption"]],
    )
    if task["pex"]:
        session.add_extension("ut_pex")
    magnet = task["source"] if task["source"].startswith("magnet:") else None
    torrent = None
    if magnet is None:
        with open(task["source"], "rb") as file:
            torrent = file.read()
    handle = lab.add(
        session,
        task["folder"],
        torrent=torrent,
        magnet=magnet,
        lsd=task["lsd"],
        pex=task["pex"],
        trackers=task["trackers"],
    )
    if task["super_seeds"]:
        handle.set_flags(lab.lt.torrent_flags.super_seeding)
    # The torrent's limits: those of the session leave local peers out.
    handle.set_download_limit(task["down"])
    handle.set_upload_limit(task["up"])
    for peer in task["peers"]:
        host, port = peer.rsplit(":", 1)
        handle.connect_peer((host.strip("[]"), int(port)))
    return session, handle


def main():
    lab.only_loopback()
    task = json.loads(sys.argv[1])
    signal.signal(signal.SIGINT, lambda *_: lab.leave(False))
    session, handle = begin(task)
    asked = time.monotonic()
    while True:
        status = handle.status()
        peers = {peer.ip[0]: int(peer.source) for peer in handle.get_peer_info()}
        report = {
            "event": "status",
            "state": str(status.state),
            "seeding": status.is_seeding,
            "done": status.total_wanted_done,
            "uploaded": status.total_payload_upload,
            "peers": peers,
            "dht": session.status().dht_nodes,
            "error": status.errc.message() if status.errc.value() else None,
        }
        print(json.dumps(report), flush=True)
        # A lookup that came too early is otherwise repeated only minutes later.
        if task["contacts"] and not peers and time.monotonic() - asked > LOOKUP_EVERY:
            handle.force_dht_announce()
            asked = time.monotonic()
        time.sleep(REPORT_EVERY)


if __name__ == "__main__":
    main()
