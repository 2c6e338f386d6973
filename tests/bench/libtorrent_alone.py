"""libtorrent with its default settings, as a leecher or a seeder of one torrent, in a process of
its own so that its CPU time is nobody else's."""

import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "interop"))
import lab  # noqa: E402


def add(torrent, folder, address):
    ses = lab.session(address, [], enable_dht=False)
    ses.apply_settings({"alert_mask": lab.lt.alert.category_t.storage_notification})
    with open(torrent, "rb") as file:
        return ses, lab.add(ses, folder, torrent=file.read(), trackers=False)


def leech(torrent, folder, address, peers):
    ses, handle = add(torrent, folder, address)
    for host, port in json.loads(peers):
        handle.connect_peer((host, port))
    lab.wait_until("libtorrent completes", 300, lambda: handle.status().is_seeding, every=0.01)
    # Written to its files, as ours are when it ends; the call only asks for it.
    handle.flush_cache()
    flushed = lambda: any(isinstance(a, lab.lt.cache_flushed_alert) for a in ses.pop_alerts())
    lab.wait_until("libtorrent has written its files", 60, flushed, every=0.01)
    ses.pause()


def seed(torrent, folder, address):
    _, handle = add(torrent, folder, address)
    lab.wait_until("libtorrent has checked its files", 300, lambda: handle.status().is_seeding)
    while True:
        time.sleep(60)


def nothing():
    lab.session("127.0.0.1", [], enable_dht=False)


if __name__ == "__main__":
    {"leech": leech, "seed": seed, "nothing": nothing}[sys.argv[1]](*sys.argv[2:])
    os._exit(0)
