# Sourced by tools/run, tools/test and tools/bench: from a bare python3 to a ready .venv.
# POSIX sh. Prints a line per step; every failure says what to do.

ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$ROOT" || exit 1
VENV="$ROOT/.venv"

say() { printf '· %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
is_root() { [ "$(id -u)" = 0 ]; }

find_python() {
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    die "no Python 3.11 or newer found: install python3, or set PYTHON=/path/to/python3"
}

apt_get() { DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" >"$VENV.apt.log" 2>&1 || {
    tail -n 20 "$VENV.apt.log" >&2; return 1; }; }

# Where the system has no ensurepip (Debian splits it off), pip's own wheel comes from the
# distribution: installed as root, else downloaded into a folder of ours.
pip_wheel() {
    find /usr/share/python-wheels "$VENV/pip-whl" -name 'pip-*.whl' 2>/dev/null | head -n 1
}
fetch_pip_wheel() {
    command -v apt-get >/dev/null || die "this python3 has no ensurepip: install python3-venv"
    if is_root; then
        apt_get update && apt_get install --no-install-recommends python3-pip-whl \
            || die "could not install python3-pip-whl: install python3-venv by hand"
        return
    fi
    state="$VENV/apt"; mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$VENV/pip-whl"
    set -- -o "Dir::State=$state" -o "Dir::State::status=/var/lib/dpkg/status" \
        -o "Dir::Cache=$state/cache" -o APT::Sandbox::User= -o Debug::NoLocking=1
    apt-get -q "$@" update >/dev/null 2>&1
    (cd "$VENV/pip-whl" && apt-get -q "$@" download python3-pip-whl >/dev/null 2>&1 \
        && dpkg-deb -x python3-pip-whl_*.deb .) \
        || die "could not fetch pip; as root: apt-get install python3-venv"
}

make_venv() {
    [ -x "$VENV/bin/python" ] && "$VENV/bin/python" -m pip --version >/dev/null 2>&1 && return
    python=$(find_python) || exit 1
    say "virtual environment with $("$python" --version) in .venv"
    rm -f "$VENV"/.ready-*
    if "$python" -c 'import ensurepip' 2>/dev/null; then
        "$python" -m venv "$VENV" || die "python -m venv failed"
        return
    fi
    "$python" -m venv --without-pip "$VENV" || die "python -m venv failed"
    [ -n "$(pip_wheel)" ] || fetch_pip_wheel
    wheel=$(pip_wheel)
    [ -n "$wheel" ] || die "no pip found; as root: apt-get install python3-venv"
    "$VENV/bin/python" "$wheel/pip" install -q --no-index "$wheel" || die "installing pip failed"
}

members() { ls -d shared/*/ services/*/ handlers/*/ sdk/python/ 2>/dev/null; }
stamp_of() { cat "$@" requirements/*.lock $(for m in $(members); do echo "$m/pyproject.toml"; done) \
    2>/dev/null | cksum; }

# setup <lock>…: install the locks by hash, then our own packages beside them. A stamp makes the
# second run cost nothing.
setup() {
    make_venv
    wanted="$* $(stamp_of "$0")"
    stamp="$VENV/.ready-$(echo "$*" | tr ' ' '-')"
    [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return
    set -- $(for lock in "$@"; do echo "-r requirements/$lock.lock"; done)
    say "packages, pinned and checked by hash"
    "$VENV/bin/python" -m pip install -q --disable-pip-version-check --require-hashes "$@" \
        || die "installing packages failed: is a package index reachable? (pip's own settings count)"
    say "our own packages"
    editable=$(for m in $(members); do [ -f "$m/pyproject.toml" ] && echo "-e ./$m"; done)
    # shellcheck disable=SC2086
    "$VENV/bin/python" -m pip install -q --disable-pip-version-check --no-deps --no-index \
        --no-build-isolation $editable || die "installing our own packages failed"
    echo "$wanted" >"$stamp"
}

# Real servers for the tests. Nothing is started here, and on Debian nothing starts by itself.
missing_servers() {
    PATH="$PATH:/usr/lib/rabbitmq/bin:/usr/sbin:/opt/homebrew/sbin:/usr/local/sbin"
    command -v redis-server >/dev/null || command -v valkey-server >/dev/null || echo redis-server
    command -v rabbitmq-server >/dev/null || echo rabbitmq-server
    command -v pgbouncer >/dev/null || echo pgbouncer
}
ensure_servers() {
    missing=$(missing_servers | tr '\n' ' ')
    [ -z "$missing" ] && return
    if is_root && command -v apt-get >/dev/null; then
        say "test servers: $missing"
        policy=/usr/sbin/policy-rc.d
        [ -e "$policy" ] || { trap 'rm -f "$policy"' EXIT; trap 'exit 130' INT TERM
            printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod +x "$policy"; ours=1; }
        # shellcheck disable=SC2086
        apt_get install --no-install-recommends $missing \
            || { apt_get update && apt_get install --no-install-recommends $missing; } \
            || die "apt-get install $missing failed"
        [ -z "${ours:-}" ] || { rm -f "$policy"; trap - EXIT INT TERM; }
        return
    fi
    if command -v apt-get >/dev/null; then die "tests need real servers: sudo apt-get install $missing"; fi
    die "tests need real servers: install redis, rabbitmq and pgbouncer (e.g. brew install redis rabbitmq pgbouncer)"
}
