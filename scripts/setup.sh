# Sourced by the other scripts: brings a Debian machine to what they need, saying what it installs.
# Nothing is done twice: packages that are there are left alone, the virtual environment is made
# anew only when setup.cfg changes.

here=$(cd "$(dirname "$0")/.." && pwd)
cache=$here/.cache
venv=$here/.venv

say() { printf '%s: %s\n' "$(basename "$0")" "$*"; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# need_packages NAME...: install the Debian packages among these that are missing
need_packages() {
    missing=
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
            missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    say "installing Debian packages:$missing"
    as_root apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive as_root apt-get install -y -qq --no-install-recommends \
        $missing >"$cache/apt.log" 2>&1 || { cat "$cache/apt.log" >&2; return 1; }
}

# need_python: the virtual environment with xenqemu and what it needs, `dev` for its tests too
need_python() {
    need_packages python3 python3-venv
    stamp=$(printf '%s ' "$1" | cat - "$here/setup.cfg" | sha256sum | cut -d' ' -f1)
    [ "$(cat "$venv/stamp-$1" 2>/dev/null)" = "$stamp" ] && return 0
    say "making a virtual environment in .venv"
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
    "$venv/bin/python" -m pip install -q --disable-pip-version-check -e "$here${2:-}"
    printf '%s\n' "$stamp" >"$venv/stamp-$1"
}

# need_guest: a small Linux guest, Debian's cloud kernel and busybox, in .cache/guest
need_guest() {
    need_packages qemu-system-x86 busybox-static cpio
    mkdir -p "$cache/guest"
    if [ ! -e "$cache/guest/vmlinuz" ]; then
        apt-cache show linux-image-cloud-amd64 >/dev/null 2>&1 || as_root apt-get update -qq
        name=$(apt-cache depends linux-image-cloud-amd64 |
            sed -n 's/^  Depends: \(linux-image-.*\)/\1/p' | head -n 1)
        say "unpacking a kernel for the guest from the Debian package $name (not installed)"
        (
            cd "$cache/guest"
            apt-get download -qq -o APT::Sandbox::User=root "$name"
            dpkg-deb --fsys-tarfile "$name"_*.deb | tar -xO --wildcards './boot/vmlinuz-*' >vmlinuz.new
            rm "$name"_*.deb
            mv vmlinuz.new vmlinuz
        )
    fi
    if [ ! "$cache/guest/initrd" -nt "$here/scripts/guest/init" ]; then
        rm -rf "$cache/guest/root"
        mkdir -p "$cache/guest/root/bin" "$cache/guest/root/dev" "$cache/guest/root/proc" \
            "$cache/guest/root/sys" "$cache/guest/root/fill"
        cp "$(command -v busybox)" "$cache/guest/root/bin/"
        install -m 755 "$here/scripts/guest/init" "$cache/guest/root/init"
        (cd "$cache/guest/root" && find . | cpio -o -H newc --quiet -R 0:0) >"$cache/guest/initrd.new"
        mv "$cache/guest/initrd.new" "$cache/guest/initrd"
    fi
}

mkdir -p "$cache"
