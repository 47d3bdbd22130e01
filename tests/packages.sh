#!/bin/sh
# Brings the Debian packages that the tests and the demo need: packages.sh PYTHON PACKAGE...
# As root it installs what is missing; otherwise it prints the one line to run and ends with 1.
set -eu
python=$1
shift

here() {
    case $1 in
        python3-venv) "$python" -c 'import ensurepip, venv' ;;
        mosquitto) PATH=$PATH:/usr/sbin command -v mosquitto ;;
        mosquitto-clients) command -v mosquitto_sub ;;
        systemd) command -v systemd-analyze ;;
        gcc | clang | tmux | chromium) command -v "$1" ;;
        gcc-arm-none-eabi) command -v arm-none-eabi-gcc ;;
        qemu-system-arm) command -v qemu-system-arm ;;
        influxdb) command -v influxd ;;
        strace) command -v strace ;;
        *) dpkg -s "$1" ;;
    esac >/dev/null 2>&1
}

missing=
for package in "$@"; do
    here "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "Missing:$missing. Run: sudo apt-get install -y --no-install-recommends$missing" >&2
    exit 1
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
# Of InfluxDB the tests need the program only; its service would listen on every interface.
case $missing in
    *influxdb*) systemctl disable --now influxdb >/dev/null 2>&1 || true ;;
esac
