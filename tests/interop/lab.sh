# Sourced by the scripts that speak on real sockets. Gives them a network namespace whose only
# interface is loopback, so that nothing they send can leave the machine, and a Python with
# libtorrent. Callers set -euo pipefail and are at the root of the repository.

TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
LAB_VENV="$TARGET_DIR/interop-venv"
LAB_NAMESPACE="" LAB_CHILDREN=()

lab_skip() { echo "skipped: $*"; exit 0; }

# Debian packages that are missing, where we may install them.
lab_need() {
    local command="$1" package="$2"
    command -v "$command" >/dev/null 2>&1 && return 0
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || return 1
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -y -q "$package" >/dev/null 2>&1 ||
        { apt-get update -q >/dev/null && apt-get install -y -q "$package" >/dev/null; }
}

# A client from a Debian package, whose service must not start: it would speak to the world.
lab_debian() {
    local command="$1" package="$2" policy=/usr/sbin/policy-rc.d made="" status=0
    command -v "$command" >/dev/null 2>&1 && return 0
    [ "$(id -u)" = 0 ] || lab_skip "there is no $command"
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        made=yes
    fi
    "$policy" "$package" start >/dev/null 2>&1 || status=$?
    [ "$status" = 101 ] || lab_skip "$policy would let $package start its service"
    status=0
    lab_need "$command" "$package" || status=$?
    [ -z "$made" ] || rm -f "$policy"
    [ "$status" = 0 ] || lab_skip "there is no $command"
}

lab_libtorrent() {
    if [ -x "$LAB_VENV/bin/python" ] && "$LAB_VENV/bin/python" -c 'import libtorrent' 2>/dev/null; then
        return 0
    fi
    lab_need python3 python3 || lab_skip "there is no python3"
    rm -rf "$LAB_VENV"
    if ! python3 -m venv "$LAB_VENV" >/dev/null 2>&1; then
        rm -rf "$LAB_VENV"
        [ "$(id -u)" = 0 ] || lab_skip "python3 has no venv module"
        apt-get update -q >/dev/null
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q python3-venv >/dev/null
        python3 -m venv "$LAB_VENV"
    fi
    local version
    for version in ${LAB_LIBTORRENT:-2.0.11 2.1.1}; do
        if "$LAB_VENV/bin/pip" install -q --disable-pip-version-check "libtorrent==$version" &&
            "$LAB_VENV/bin/python" -c 'import libtorrent'; then
            return 0
        fi
    done
    echo "no libtorrent could be installed" >&2
    return 1
}

# Our command, in TRACKERLESS_BINARY; built unless the caller says where it is.
lab_binary() {
    if [ -z "${TRACKERLESS_BINARY:-}" ]; then
        cargo build --release --locked -p trackerless-tokio
        TRACKERLESS_BINARY="$TARGET_DIR/release/trackerless-tokio"
    fi
}

# The command of the other driver, in TRACKERLESS_OTHER, in the same way.
lab_other_binary() {
    if [ -z "${TRACKERLESS_OTHER:-}" ]; then
        cargo build --release --locked -p trackerless-mio
        TRACKERLESS_OTHER="$TARGET_DIR/release/trackerless-mio"
    fi
}

# A DHT node of the mainline crate, in MAINLINE_NODE, in the same way.
lab_mainline() {
    if [ -z "${MAINLINE_NODE:-}" ]; then
        cargo build --locked --manifest-path tests/interop/mainline-node/Cargo.toml \
            --target-dir "$TARGET_DIR/mainline-node"
        MAINLINE_NODE="$TARGET_DIR/mainline-node/debug/mainline-node"
    fi
}

# Ends what was started in the namespace, then the namespace.
lab_end() {
    local child
    for child in "${LAB_CHILDREN[@]}"; do
        kill -9 "$child" 2>/dev/null || true
        wait "$child" 2>/dev/null || true
    done
    LAB_CHILDREN=()
    [ -n "$LAB_NAMESPACE" ] || return 0
    ip netns del "$LAB_NAMESPACE" 2>/dev/null || true
    LAB_NAMESPACE=""
}

# Makes the namespace; it is deleted when the script ends.
lab_begin() {
    [ "$(id -u)" = 0 ] || lab_skip "a network namespace needs root"
    lab_need ip iproute2 || lab_skip "there is no ip command"
    local name="trackerless-$$" others
    ip netns add "$name" 2>/dev/null || lab_skip "no network namespace can be made here"
    LAB_NAMESPACE="$name"
    trap lab_end EXIT
    trap 'exit 130' INT TERM
    others="$(ip -n "$name" -o link show | awk -F': ' '{print $2}' | grep -vx lo || true)"
    [ -z "$others" ] || lab_skip "the namespace has interfaces besides lo: $others"
    ip -n "$name" link set lo up multicast on
    ip -n "$name" addr add 10.77.0.1/16 dev lo # the whole /16 answers
    ip -n "$name" route add 224.0.0.0/4 dev lo
    ip -n "$name" -6 route add default dev lo 2>/dev/null || true # without IPv6 its cells fail
}

lab_exec() { ip netns exec "$LAB_NAMESPACE" "$@"; }

# A child in the namespace, ended with it; its output goes to the file LOG.
lab_start() {
    local log="$1"
    shift
    # No function in the background: its shell would be ended, and not the command.
    ip netns exec "$LAB_NAMESPACE" "$@" </dev/null >"$log" 2>&1 &
    LAB_CHILDREN+=($!)
}
