"""What the interop scripts share: libtorrent sessions that may speak on loopback, children that
are always ended by their own id, and a check that there is no other network."""

import atexit
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings

warnings.simplefilter("ignore", DeprecationWarning)
import libtorrent as lt  # noqa: E402

PORT = 6881


def say(text):
    print(f"[{time.monotonic() - STARTED:6.1f}s] {text}", flush=True)


STARTED = time.monotonic()


def only_loopback():
    """Ends the program unless this network namespace has no interface but lo."""
    names = [name for _, name in socket.if_nameindex()]
    if names != ["lo"]:
        sys.exit(f"refused: this network has interfaces besides lo: {names}")


class Failure(Exception):
    """A step did not come out as it must."""


def wait_until(what, seconds, check, every=0.2):
    """Calls `check` until it returns something true, which is returned."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        result = check()
        if result:
            return result
        time.sleep(every)
    raise Failure(f"not within {seconds} s: {what}")


def leave(failed):
    """Ends the program: libtorrent's destructors wait for goodbyes that nobody needs."""
    sys.stdout.flush()
    os._exit(1 if failed else 0)


# --- content ---------------------------------------------------------------------------------


def write_random(path, size, seed):
    """A file of `size` bytes that compress to nothing; returns its SHA-256."""
    source, digest = random.Random(seed), hashlib.sha256()
    with open(path, "wb") as file:
        while size > 0:
            chunk = source.randbytes(min(size, 1 << 20))
            file.write(chunk)
            digest.update(chunk)
            size -= len(chunk)
    return digest.hexdigest()


SHA256_OF_NOTHING = hashlib.sha256().hexdigest()


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def with_trackers(torrent, urls):
    """The same torrent with these trackers, each a tier, whatever they are."""
    document = lt.bdecode(torrent)
    document[b"announce"] = urls[0]
    document[b"announce-list"] = [[url] for url in urls]
    return lt.bencode(document)


def make_torrent(path, piece_length, trackers=(), flags=lt.create_torrent.v1_only):
    """A v1 torrent, or as the flags have it; returns its bytes and bare magnet link."""
    storage = lt.file_storage()
    lt.add_files(storage, path)
    torrent = lt.create_torrent(storage, piece_length, flags)
    lt.set_piece_hashes(torrent, os.path.dirname(path))
    for tier, url in enumerate(trackers):
        torrent.add_tracker(url, tier)
    data = lt.bencode(torrent.generate())
    info_hash = lt.torrent_info(lt.bdecode(data)).info_hashes().v1
    return data, f"magnet:?xt=urn:btih:{info_hash}"


def pad_files(torrent):
    """Paths and lengths of the pad files (BEP 47) of a torrent's bytes."""
    files = lt.torrent_info(lt.bdecode(torrent)).files()
    pads = [n for n in range(files.num_files()) if files.file_flags(n) & lt.file_flags_t.flag_pad_file]
    return [(files.file_path(n), files.file_size(n)) for n in pads]


# --- libtorrent ------------------------------------------------------------------------------

# Anything but the DHT is off; the DHT accepts that all its nodes live on one private network.
SETTINGS = {
    "enable_dht": True,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "dht_restrict_routing_ips": False,
    "dht_restrict_search_ips": False,
    "dht_ignore_dark_internet": False,
    "dht_prefer_verified_node_ids": False,
    "dht_enforce_node_id": False,
    "allow_multiple_connections_per_ip": True,
    "dht_upload_rate_limit": 1 << 24,
    "dht_block_ratelimit": 1 << 20,
    "enable_outgoing_utp": False,
    "enable_incoming_utp": False,
    "out_enc_policy": 2,
    "in_enc_policy": 2,
    "connection_speed": 200,
    "peer_connect_timeout": 5,
    "min_reconnect_time": 1,
    "alert_mask": 0,
}


def session(address, bootstrap, **more):
    """A libtorrent session listening on `address`; PEX is off: its extension is not loaded."""
    settings = dict(SETTINGS)
    settings["listen_interfaces"] = endpoint(address)
    settings["outgoing_interfaces"] = ""
    settings["dht_bootstrap_nodes"] = ",".join(bootstrap)
    settings.update(more)
    # Flag 0: no default plugins (ut_metadata, ut_pex, smart_ban); the ones wanted are added.
    made = lt.session(settings, 0)
    made.add_extension("ut_metadata")
    # A bootstrap node never enters libtorrent's table: in a network this small it must.
    for node in bootstrap:
        host, port = node.rsplit(":", 1)
        made.add_dht_node((host.strip("[]"), int(port)))
    return made


def endpoint(address, port=PORT):
    """An address and a port as everybody writes them."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def add(ses, save, torrent=None, magnet=None, lsd=False, pex=False, trackers=True):
    """Adds a torrent that starts at once and asks the DHT, and no other source but those named
    and its trackers."""
    if magnet is not None:
        params = lt.parse_magnet_uri(magnet)
    else:
        params = lt.add_torrent_params()
        params.ti = lt.torrent_info(lt.bdecode(torrent))
    params.save_path = save
    flags = lt.torrent_flags
    params.flags &= ~(flags.auto_managed | flags.paused)
    if not trackers:
        params.trackers = []
        params.flags |= flags.override_trackers
    if not pex:
        params.flags |= flags.disable_pex
    if not lsd:
        params.flags |= flags.disable_lsd
    return ses.add_torrent(params)


class Dht:
    """Counts and looks up what libtorrent's own DHT nodes know."""

    def __init__(self, sessions):
        self.sessions = sessions

    def nodes(self):
        return [ses.status().dht_nodes for ses in self.sessions]

    def peers_of(self, ses, magnet):
        """Peers that one lookup from `ses` finds, within a few seconds."""
        mask = ses.get_settings()["alert_mask"]
        ses.apply_settings({"alert_mask": mask | lt.alert.category_t.dht_operation_notification})
        ses.pop_alerts()
        info_hash = lt.parse_magnet_uri(magnet).info_hashes.v1
        ses.dht_get_peers(info_hash)
        found, end = set(), time.monotonic() + 3
        while time.monotonic() < end and not found:
            time.sleep(0.1)
            for alert in ses.pop_alerts():
                if isinstance(alert, lt.dht_get_peers_reply_alert):
                    found.update(alert.peers())
        ses.apply_settings({"alert_mask": mask})
        return found


# --- children --------------------------------------------------------------------------------

CHILDREN = []


class Child:
    """A process of ours, with its JSON lines collected; ended by its id."""

    def __init__(self, command, name, log_folder, stdin=subprocess.DEVNULL, env=None):
        self.name = name
        self.events, self.lines = [], []
        self.peak_mebibytes = 0  # as of its last line
        self.log = open(os.path.join(log_folder, f"{name}.log"), "ab")
        self.process = subprocess.Popen(
            command, stdin=stdin, stdout=subprocess.PIPE, stderr=self.log, env=env
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        CHILDREN.append(self)

    def _read(self):
        for line in self.process.stdout:
            self._measure()
            self.log.write(line)
            self.log.flush()
            try:
                self.events.append(json.loads(line))
            except ValueError:
                self.lines.append(line.decode("utf-8", "replace").rstrip())

    def _measure(self):
        try:
            with open(f"/proc/{self.process.pid}/status") as status:
                peaks = [line.split()[1] for line in status if line.startswith("VmHWM")]
        except OSError:
            return
        if peaks:
            self.peak_mebibytes = int(peaks[0]) >> 10

    def last(self, event):
        for entry in reversed(list(self.events)):
            if entry.get("event") == event:
                return entry
        return None

    def running(self):
        return self.process.poll() is None

    def end(self, how=signal.SIGINT, seconds=5):
        if self.running():
            self.process.send_signal(how)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        self.reader.join(2)
        if self in CHILDREN:
            CHILDREN.remove(self)
        return self.process.returncode

    def tail(self, lines=15):
        self.log.flush()
        with open(self.log.name, "rb") as file:
            return b"\n".join(file.read().splitlines()[-lines:]).decode("utf-8", "replace")


def end_children():
    for child in list(CHILDREN):
        child.end(signal.SIGKILL)


atexit.register(end_children)
