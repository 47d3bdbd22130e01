#!/bin/sh
# Installs or updates Otolith on a gateway. No network, nothing outside PREFIX but the unit, its
# drop-in, the udev rule and the link /usr/local/bin/edge-agent.
#   sh install.sh [OPTION...]            the version in this folder
#   sh install.sh [OPTION...] ARCHIVE    another version, checked before anything of it runs
#   sh install.sh [OPTION...] rollback   back to the version before; once more: forth again
#   sh install.sh [OPTION...] uninstall  all of it gone, but for /etc/otolith and /var/lib/edge-agent
# Options: --prefix DIR  instead of /opt/otolith       --no-systemd  touch no running service
#          --root DIR    all paths lie under DIR       --python P    instead of python3
# The new version stands beside the old one and has proved itself before `current` points to it.
# Whatever fails: one line says what, the exit code is 1, and everything is as before.
set -eu
umask 022
export LC_ALL=C

prefix=/opt/otolith root='' systemd=yes python=python3 action=install archive=''
unit=edge-agent.service
config=/etc/otolith/agent.toml release_key=/etc/otolith/release.pub
# `finish` undoes what these name.
work='' unpacked='' made='' made_home='' switched='' told='' done=''

say() { printf 'install.sh: %s\n' "$*"; }

die() {
    told=yes
    printf 'install.sh: FAILED: %s\n' "$*" >&2
    exit 1
}

usage() {
    sed -n '2,10s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

# --- undoing -------------------------------------------------------------------------------------

finish() {
    code=$?
    trap - EXIT
    set +e
    if [ -z "$done" ]; then
        [ -z "$switched" ] || put_back
        [ -z "$made" ] || drop "$made"
        code=1
        [ -n "$told" ] || printf 'install.sh: FAILED: what stands above was not expected\n' >&2
        printf 'install.sh: everything is as before\n' >&2
    fi
    [ -z "$work" ] || rm -rf "$work" "$unpacked"
    [ -n "$done" ] || [ -z "$made_home" ] || rmdir "$home" 2>/dev/null
    exit "$code"
}

# A version. The sums first: what lost its power half gone must not be taken for a whole one.
drop() { rm -f "$1/SHA256SUMS" && rm -rf "$1"; }

put_back() {
    if [ -n "$old" ]; then point current "$old"; else rm -f "$home/current"; fi
    if [ -n "$older" ]; then point previous "$older"; else rm -f "$home/previous"; fi
    while read -r target; do
        if [ -e "$work/saved$target" ] || [ -L "$work/saved$target" ]; then
            mv -fT "$work/saved$target" "$root$target"
        else
            rm -f "$root$target"
        fi
        rm -f "$root$target.new"
    done <"$work/changed"
    tac "$work/folders" | while read -r folder; do rmdir "$folder" 2>/dev/null; done
    if [ "$systemd" = yes ]; then
        systemctl daemon-reload
        if [ -n "$old" ] && [ "$was" != inactive ]; then
            systemctl reset-failed "$unit"
            systemctl restart --no-block "$unit"
        fi
    fi
}

# --- what must be so before anything is made -----------------------------------------------------

check_machine() {
    [ "$(id -u)" = 0 ] || [ -n "$root" ] || die "needs root: sudo sh $0"
    for tool in flock sha256sum df "$python"; do
        command -v "$tool" >/dev/null || die "needs $tool: apt-get install util-linux coreutils python3"
    done
    seen=$("$python" -I -c 'import platform, struct, sys
print("%d.%d" % sys.version_info[:2], platform.machine(), struct.calcsize("P") * 8)') ||
        die "$python does not run"
    version_seen=${seen%% *}
    wanted="$(release machine) 64"
    [ "${seen#* }" = "$wanted" ] ||
        die "$python is for ${seen#* } bit, this archive for $wanted bit: take the archive for this machine"
    case " $(release pythons) " in
        *" $version_seen "*) ;;
        *) die "$python is $version_seen, this archive has wheels for $(release pythons): --python P names another one" ;;
    esac
    "$python" -I -c 'import venv' 2>/dev/null || die "$python lacks venv: apt-get install python3-venv"
}

check_room() {
    free_kb=$(df -k --output=avail "$home" 2>/dev/null | tail -n 1)
    [ "$free_kb" -ge "$(release needs_kb)" ] ||
        die "$home has $((free_kb / 1024)) MB free, needs $(($(release needs_kb) / 1024)) MB"
}

# The archive's own facts; read after `verify`.
release() { sed -n "s/^$1=//p" "$here/RELEASE"; }

# Every file of a folder is in SHA256SUMS and is what it was, and no other file lies there. Where
# the site has a release key, SHA256SUMS is signed with it.
verify() {
    [ -s "$1/SHA256SUMS" ] || die "$1 has no SHA256SUMS: unpack the whole archive"
    # A link could be led elsewhere as soon as its sum was right.
    strange=$(find "$1" ! -type d ! -type f | head -n 1)
    [ -z "$strange" ] || die "$strange is no file: copy the archive again"
    (cd "$1" && find . ! -type d | sed 's|^\./||' | grep -v '^SHA256SUMS\(\.sig\)\{0,1\}$' | sort) \
        >"$work/there"
    sed 's/^[0-9a-f]* [ *]//' "$1/SHA256SUMS" | sort >"$work/listed"
    cmp -s "$work/there" "$work/listed" ||
        die "the files are not those of SHA256SUMS ($(comm -3 "$work/there" "$work/listed" | head -n 3 | tr -d '\t' | tr '\n' ' ')): copy the archive again"
    (cd "$1" && sha256sum --check --strict --quiet SHA256SUMS) >"$work/sums" 2>&1 ||
        die "damaged ($(grep -v '^sha256sum:' "$work/sums" | head -n 3 | tr '\n' ' ')): copy the archive again"
    [ ! -e "$root$release_key" ] || verify_signature "$1"
}

verify_signature() {
    command -v openssl >/dev/null || die "$release_key asks for a signature: apt-get install openssl"
    [ -s "$1/SHA256SUMS.sig" ] || die "not signed, and $release_key asks for a signature"
    # 16 letters of DER before the 32 bytes make an Ed25519 key of it.
    printf -- '-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA%s\n-----END PUBLIC KEY-----\n' \
        "$(tr -d '[:space:]' <"$root$release_key")" >"$work/key.pem"
    openssl pkeyutl -verify -pubin -inkey "$work/key.pem" -rawin -in "$1/SHA256SUMS" \
        -sigfile "$1/SHA256SUMS.sig" >/dev/null 2>&1 ||
        die "the signature is not by $release_key: ask whoever gave you this archive"
}

# --- the new version, beside the old one ---------------------------------------------------------

build() {
    made=$home/$version
    drop "$made"
    mkdir "$made"
    say "$version: making $made/venv with $python $version_seen"
    "$python" -I -m venv --without-pip "$made/venv" || die "$python could not make a venv"
    # pip comes along, so that python3-venv need not be here; no setting of this machine's counts.
    env -i PATH="$PATH" HOME="$work" TMPDIR="$work" PIP_CONFIG_FILE=/dev/null \
        "$made/venv/bin/python" "$(echo "$here"/wheels/pip-*.whl)/pip" install --quiet \
        --no-index --no-cache-dir --no-compile --disable-pip-version-check --only-binary=:all: \
        --find-links "$here/wheels" "$(echo "$here"/wheels/otolith-*.whl)" >"$work/pip" 2>&1 ||
        die "pip: $(grep -v '^ *$' "$work/pip" | tail -n 2 | tr '\n' ' ')"
    prove
    # Bytecode for what the service loads, which may not write here itself. Not for all that pip
    # has brought: that is minutes on a small machine, most of it for tests of libraries.
    "$made/venv/bin/python" -I -c 'import edge_agent.service, edge_agent.picture.canvas' ||
        die "$version does not load"
    cp -R "$here/install.sh" "$here/systemd" "$here/RELEASE" "$here/LICENSE" "$here/agent.toml" \
        "$here/sbom.cdx.json" "$made/"
    # For `edge-agent rollback`.
    printf -- '--prefix %s %s\n' "$prefix" "${root:+--root $root}" >"$made/OPTIONS"
    sync -f "$home"
    # Last: a folder without it was never finished, and is made anew.
    cp "$here/SHA256SUMS" "$made/SHA256SUMS"
    sync -f "$home"
}

prove() {
    "$made/venv/bin/python" -I -m edge_agent selftest >"$work/selftest" 2>&1 || {
        cat "$work/selftest" >&2
        die "$version fails its self-test on this machine"
    }
}

# The configuration as this version reads it, with the variables of the unit's drop-ins.
check_config() {
    [ -e "$root$config" ] || return 0
    variables=''
    [ "$systemd" = no ] || variables=$(systemctl show -p Environment --value "$unit" 2>/dev/null) || :
    printf '%s "%s" -I -m edge_agent check-config --config "%s"\n' "$variables" \
        "$1/venv/bin/python" "$root$config" | xargs env >"$work/config" 2>&1 || {
        cat "$work/config" >&2
        die "${1##*/} refuses $config: correct it first, or stay"
    }
    grep '^note:' "$work/config" || :
}

# --- the switch ----------------------------------------------------------------------------------

# A link that is the old one or the new one, whenever the power goes.
point() {
    [ "$(readlink "$home/$1" || :)" != "$2" ] || return 0
    rm -f "$home/.$1.new"
    ln -s "$2" "$home/.$1.new"
    mv -fT "$home/.$1.new" "$home/$1"
}

make_folder() {
    [ -d "$1" ] || { make_folder "${1%/*}" && mkdir "$1" && echo "$1" >>"$work/folders"; }
}

# A file of the system, if it differs; what stood there is kept until all is well.
place() {
    from=$1 target=$2
    ! cmp -s "$from" "$root$target" || return 0
    make_folder "$root${target%/*}"
    save "$target"
    # Somebody's own lines belong in a drop-in, but are not thrown away.
    if [ -e "$work/saved$target" ] && [ -n "$3" ] && ! cmp -s "$3" "$work/saved$target"; then
        save "$target.site"
        cp -p "$work/saved$target" "$root$target.site"
        say "note: $target was changed by hand, a copy is $target.site: use systemctl edit"
    fi
    cp "$from" "$root$target.new"
    sync "$root$target.new"
    mv -fT "$root$target.new" "$root$target"
}

save() {
    echo "$1" >>"$work/changed"
    mkdir -p "$work/saved${1%/*}"
    [ ! -e "$root$1" ] && [ ! -L "$root$1" ] || cp -pP "$root$1" "$work/saved$1"
}

# The files of a version for the system, with this prefix: made in $work/NAME.
system_files() {
    mkdir -p "$work/$2"
    for file in "$1"/systemd/*; do
        sed "s|/opt/otolith/|$prefix/|g" "$file" >"$work/$2/${file##*/}"
    done
}

place_all() {
    system_files "$1" new
    now=''
    if [ -n "$old" ]; then
        system_files "$home/$old" now
        now=$work/now/
    fi
    place "$work/new/$unit" "/etc/systemd/system/$unit" "${now:+$now$unit}"
    place "$work/new/99-otolith.rules" /etc/udev/rules.d/99-otolith.rules \
        "${now:+${now}99-otolith.rules}"
    # systemd before 254 does not know these lines.
    number=$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p') || :
    if [ "${number:-0}" -ge 254 ]; then
        place "$work/new/trixie.conf" "/etc/systemd/system/$unit.d/10-trixie.conf" ''
    fi
    command=/usr/local/bin/edge-agent
    if [ ! -e "$root$command" ] && [ ! -L "$root$command" ]; then
        make_folder "$root${command%/*}"
        save "$command"
        ln -s "$prefix/current/venv/bin/edge-agent" "$root$command"
    fi
}

switch_to() {
    : >"$work/changed"
    : >"$work/folders"
    was=inactive
    [ "$systemd" = no ] || was=$(systemctl show -p ActiveState --value "$unit")
    switched=yes
    place_all "$home/$1"
    [ -z "$old" ] || [ "$old" = "$1" ] || point previous "$old"
    point current "$1"
    sync -f "$home"
    [ "$systemd" = no ] || start "$1"
}

# Whatever did not stand still is started anew, and must be ready within the unit's 60 s.
start() {
    systemctl daemon-reload
    if grep -q rules.d "$work/changed" && command -v udevadm >/dev/null; then
        { udevadm control --reload && udevadm trigger --subsystem-match=tty; } 2>/dev/null ||
            say "note: udev does not run, so the rule for the ports counts from the next start on"
    fi
    if [ "$was" = inactive ]; then
        say "$unit does not run: systemctl enable --now $unit, once $config is written"
        return 0
    fi
    systemctl reset-failed "$unit" 2>/dev/null || :
    if ! timeout 90 systemctl restart "$unit" || ! stays_up; then
        die "$1 did not become ready and stay so: journalctl -u $unit says why"
    fi
}

stays_up() {
    starts=$(systemctl show -p NRestarts --value "$unit")
    sleep 5
    systemctl is-active --quiet "$unit" &&
        [ "$(systemctl show -p NRestarts --value "$unit")" = "$starts" ]
}

# --- the four things it does ---------------------------------------------------------------------

prepare() {
    home=$root$prefix
    if [ ! -d "$home" ]; then
        [ "$action" = install ] || die "nothing is installed in $home"
        mkdir -p "$home" 2>/dev/null || die "$home can't be made: is the disk read-only or full?"
        made_home=yes
    fi
    # Locks the folder itself: no file to be left behind.
    exec 9<"$home"
    flock -n 9 || die "another install.sh is at work in $home"
    rm -rf "$home"/.work.* "$home"/.current.new "$home"/.previous.new
    [ -z "$archive" ] || rm -rf "$home"/.unpacked.*
    work=$(mktemp -d "$home/.work.XXXXXX" 2>/dev/null) ||
        die "nothing can be written in $home: is the disk read-only or full?"
    old=$(readlink "$home/current" || :)
    older=$(readlink "$home/previous" || :)
    # Two links can't change in one step. Where the power went between them, the other version is
    # still there; of two it is the one that was here first.
    [ -z "$older" ] || [ "$older" != "$old" ] || older=$(other_than "$old")
    [ -d /run/systemd/system ] && [ -z "$root" ] || systemd=no
}

other_than() {
    find "$home" -mindepth 2 -maxdepth 2 -name SHA256SUMS -printf '%T@ %P\n' | sort -n |
        sed 's/^[^ ]* //; s|/.*||' | grep -vxFm 1 "$1" || :
}

install() {
    verify "$here"
    check_machine
    version=$(release version)
    if [ ! -e "$home/$version/SHA256SUMS" ]; then
        check_room
        build
    elif cmp -s "$here/SHA256SUMS" "$home/$version/SHA256SUMS"; then
        say "$version is installed already"
        made=''
    elif [ "$version" != "$old" ] && [ "$version" != "$older" ]; then
        check_room
        build
    else
        die "another build of $version is installed: a release has a number of its own"
    fi
    check_config "$home/$version"
    switch_to "$version"
    done=yes
    tidy
    say "$version is installed in $prefix$(in_between)"
}

in_between() { [ -z "$old" ] || [ "$old" = "$version" ] || printf ', and %s is kept' "$old"; }

# Everything but `current` and `previous`.
tidy() {
    for folder in "$home"/*/; do
        name=${folder%/}
        name=${name##*/}
        case $name in
            current | previous | "$(readlink "$home/current")" | "$(readlink "$home/previous" || :)") ;;
            *) [ ! -d "$home/$name/venv" ] || drop "${home:?}/$name" ;;
        esac
    done
}

rollback() {
    [ -n "$older" ] && [ -d "$home/$older/venv" ] || die "there is no version before $old in $home"
    check_config "$home/$older"
    switch_to "$older"
    done=yes
    say "$older is back in $prefix; $old is kept"
}

# Once begun there is no way back, but it can be run again.
uninstall() {
    if [ "$systemd" = yes ] && [ -e "$root/etc/systemd/system/$unit" ]; then
        systemctl disable --now "$unit" || die "$unit could not be stopped"
    fi
    done=yes
    rm -f "$root/etc/systemd/system/$unit" "$root/etc/systemd/system/$unit.d/10-trixie.conf" \
        "$root/etc/udev/rules.d/99-otolith.rules"
    rmdir "$root/etc/systemd/system/$unit.d" 2>/dev/null || : # a site's own drop-in stays
    link=$root/usr/local/bin/edge-agent
    [ "$(readlink "$link" || :)" != "$prefix/current/venv/bin/edge-agent" ] || rm -f "$link"
    [ "$systemd" = no ] || systemctl daemon-reload
    rm -f "$home/current" "$home/previous"
    tidy
    rm -rf "$work" "$home"/.unpacked.*
    rmdir "$home" 2>/dev/null || say "note: $home holds what install.sh did not bring"
    say "removed; ${config%/*} and /var/lib/edge-agent are the site's own and stay"
}

# Another version's archive: this version's code decides whether it may run at all; from there on
# it is that version's own work.
install_archive() {
    unpacked=$(mktemp -d "$home/.unpacked.XXXXXX")
    tar -xzf "$archive" -C "$unpacked" --no-same-owner --no-same-permissions \
        --no-overwrite-dir 2>"$work/tar" ||
        die "$archive is no archive or is damaged: $(head -n 1 "$work/tar")"
    set -- "$unpacked"/*
    [ $# = 1 ] && [ -f "$1/install.sh" ] || die "$archive is no archive of Otolith"
    verify "$1"
    here=$1
    set -- --prefix "$prefix" --python "$python"
    [ -z "$root" ] || set -- "$@" --root "$root"
    [ "$systemd" = yes ] || set -- "$@" --no-systemd
    exec 9<&-
    done=yes
    sh "$here/install.sh" "$@"
}

while [ $# -gt 0 ]; do
    case $1 in
        --prefix | --root | --python)
            [ $# -ge 2 ] || usage
            case $1 in --prefix) prefix=${2%/} ;; --root) root=${2%/} ;; *) python=$2 ;; esac
            shift
            ;;
        --no-systemd) systemd=no ;;
        rollback | uninstall) action=$1 ;;
        -*) usage ;;
        *) archive=$1 ;;
    esac
    shift
done
case $prefix$root in *[!A-Za-z0-9/._-]*) die "--prefix and --root: letters, digits and /._- only" ;; esac
case $prefix in /?*) ;; *) die "--prefix: expected a whole path, saw $prefix" ;; esac
[ "$(id -u)" = 0 ] || [ -n "$root" ] || die "needs root: sudo sh $0"
here=$(cd "$(dirname "$0")" && pwd)
trap finish EXIT
trap 'exit 1' HUP INT TERM
prepare
case $action in
    install)
        if [ -n "$archive" ]; then install_archive; else install; fi
        ;;
    rollback) rollback ;;
    uninstall) uninstall ;;
esac
