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

# what tests of disks, file systems and network cards need, which are root's: loop devices, bridges,
# namespaces
for_devices="util-linux mount e2fsprogs xfsprogs btrfs-progs iproute2 openvswitch-switch"

# what Xen hosts are made of and run in
for_beds="mmdebstrap cpio busybox-static e2fsprogs kmod qemu-system-x86 binutils"

# need_packages NAME...: install the Debian packages among these that are missing
need_packages() {
    missing=
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
            missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    say "installing Debian packages:$missing"
    exec 8>"$cache/apt.lock" && flock 8 # apt-get does not wait for another one
    as_root apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive as_root apt-get install -y -qq --no-install-recommends \
        $missing >"$cache/apt.log" 2>&1 || { cat "$cache/apt.log" >&2; return 1; }
    exec 8>&-
}

# apt_sources FOLDER SUITE: this machine's apt sources of Debian, as they would be for that suite; in
# FOLDER.conf how apt is to reach them
apt_sources() {
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    mkdir -p "$1"
    for list in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
        case $list in # the entries that are Debian's: a suite that begins with the codename
        *.list) awk -v name="$codename" '/^deb / && $0 ~ " " name' "$list" ;;
        *.sources) awk -v name="$codename" -v RS= -v ORS='\n\n' '$0 ~ "\nSuites:[^\n]* " name' "$list" ;;
        esac 2>/dev/null | sed "s/\b$codename\b/$2/g" >"$1/${list##*/}"
    done
    find "$1" -empty -delete
    apt-config dump | grep -E '^Acquire::(http|https|Check|Retries)' >"$1.conf" || :
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

# guest_programs FOLDER: the guests' own programs, into FOLDER
guest_programs() {
    for program in rewrite frozen; do
        as --64 -I "$here/scripts/guest" -o "$1/$program.o" "$here/scripts/guest/$program.S"
        ld -s -o "$1/$program" "$1/$program.o"
        rm "$1/$program.o"
    done
}

# need_guest: a small Linux guest, Debian's cloud kernel and busybox, in .cache/guest
need_guest() {
    need_packages qemu-system-x86 busybox-static cpio binutils
    mkdir -p "$cache/guest"
    if [ ! -e "$cache/guest/vmlinuz" ]; then
        (
            cd "$cache/guest"
            unpack_kernel './boot/vmlinuz-*'
            mv boot/vmlinuz-* vmlinuz
            rmdir boot
        )
    fi
    make_initrd "$cache/guest"
}

# need_network_guest: the same with drivers for disks and network cards, in .cache/guest-net
need_network_guest() {
    need_packages qemu-system-x86 busybox-static cpio binutils kmod
    if [ ! -e "$cache/guest-net/modules/order" ]; then
        rm -rf "$cache/guest-net"
        mkdir -p "$cache/guest-net/modules"
        (
            cd "$cache/guest-net"
            unpack_kernel './boot/vmlinuz-*' './lib/modules/*'
            mv boot/vmlinuz-* vmlinuz
            release=$(ls lib/modules)
            depmod -b . "$release"
            for module in virtio_pci virtio_net ata_piix sd_mod xen-netfront xen-blkfront; do
                modprobe -d "$PWD" -S "$release" --show-depends "$module"
            done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' | while read -r file; do
                cp "$file" modules/
                basename "$file" >>modules/order.new
            done
            mv modules/order.new modules/order
            rm -rf boot lib
        )
    fi
    make_initrd "$cache/guest-net"
}

# unpack_kernel PATTERN...: files of the guests' kernel from its Debian package, not installed
unpack_kernel() {
    apt-cache show linux-image-cloud-amd64 >/dev/null 2>&1 || as_root apt-get update -qq
    name=$(apt-cache depends linux-image-cloud-amd64 |
        sed -n 's/^  Depends: \(linux-image-.*\)/\1/p' | head -n 1)
    say "unpacking a kernel for the guest from the Debian package $name (not installed)"
    apt-get download -qq -o APT::Sandbox::User=root "$name"
    dpkg-deb --fsys-tarfile "$name"_*.deb | tar -x --wildcards "$@"
    rm "$name"_*.deb
}

# make_initrd FOLDER: an initrd of guest/init and the FOLDER's modules, unless it is there
make_initrd() {
    [ -n "$(find "$here/scripts/guest" -newer "$1/initrd" 2>&1)" ] || return 0
    rm -rf "$1/root"
    mkdir -p "$1/root/bin" "$1/root/dev" "$1/root/proc" "$1/root/sys" "$1/root/fill"
    cp "$(command -v busybox)" "$1/root/bin/"
    guest_programs "$1/root/bin"
    [ ! -d "$1/modules" ] || cp -r "$1/modules" "$1/root/m"
    install -m 755 "$here/scripts/guest/init" "$1/root/init"
    (cd "$1/root" && find . | cpio -o -H newc --quiet -R 0:0) >"$1/initrd.new"
    mv "$1/initrd.new" "$1/initrd"
}

mkdir -p "$cache"
