#!/bin/sh
# Boots systemd in namespaces of its own: boot.sh CGROUP CONSOLE SCRATCH LAYER:...:ROOT
# In: an empty cgroup (v2), a pty, an empty folder, folders that lie on one another, topmost first.
# Out: /sbin/init as process 1 of all that. What it writes lies in memory.
# Never: touches a layer, nor the host's network, clock, modules or kernel settings.
set -eu
cgroup=$1 console=$2 scratch=$3 layers=$4

if [ "${5:-}" != inside ]; then
    echo $$ >"$cgroup/cgroup.procs"
    # Whoever started it is gone: so is the machine.
    exec setpriv --pdeathsig KILL \
        unshare --mount --pid --fork --kill-child --cgroup --uts --ipc --net sh "$0" "$@" inside
fi

mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$scratch"
mkdir "$scratch/upper" "$scratch/work" "$scratch/root"
new=$scratch/root
mount -t overlay -o "lowerdir=$layers,upperdir=$scratch/upper,workdir=$scratch/work" overlay "$new"

mount -t proc proc "$new/proc"
mount --bind "$new/proc/sys" "$new/proc/sys"
mount -o remount,bind,ro "$new/proc/sys"
# Read-only: so systemd sees that devices are somebody else's, and starts no udev.
mount -t sysfs -o ro sysfs "$new/sys"
mount -t cgroup2 cgroup2 "$new/sys/fs/cgroup"

mount -t tmpfs -o mode=755 tmpfs "$new/dev"
mkdir "$new/dev/pts" "$new/dev/shm"
for node in null zero full random urandom tty; do
    touch "$new/dev/$node"
    mount --bind "/dev/$node" "$new/dev/$node"
done
# The simulated board's port is a pty; group dialout (20) may open it, as udev does for a real one.
mount -t devpts -o newinstance,ptmxmode=0666,mode=0660,gid=20 devpts "$new/dev/pts"
ln -s pts/ptmx "$new/dev/ptmx"
touch "$new/dev/console"
mount --bind "$console" "$new/dev/console"

cd "$new"
pivot_root . mnt
umount -l mnt
# systemd leaves this to whoever started the container; without it LoadCredential= gets EACCES.
mount --make-rshared /
exec setpriv --bounding-set=-sys_module,-sys_time,-sys_rawio,-syslog \
    env -i container=otolith PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb \
    /sbin/init </dev/console >/dev/console 2>&1
