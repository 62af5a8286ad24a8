#!/bin/bash
# Several "hosts" on one Linux machine, for trying `ray up` without owning a rack.
#
#   hosts.sh up LAB NAME...          a network of hosts; the first is the client, at 10.77.0.1
#   hosts.sh run LAB NAME COMMAND... runs a command on a host
#   hosts.sh cut LAB NAME            takes a host away, as a power cut would
#   hosts.sh down LAB                takes everything down
#
# A host is a network namespace (its address, its ports) and, within it, a process namespace (`ray stop` kills
# what it sees) with folders of its own in place of /root, /tmp, /run and /dev/shm. What is installed on the
# machine is shared. Needs root, iproute2, util-linux, openssh-server and rsync. PYTHON_HOMES names folders,
# separated by colons, that hosts must see although they lie below /root or /tmp (a virtual environment).
set -eu
verb=$1 lab=$2
shift 2
bridge=optgrid0

address() { # of the n-th host
  if [ "$1" = 0 ]; then echo 10.77.0.1; else echo "10.77.0.$((10 + $1))"; fi
}

space() { # the network namespace of a host: named after the lab too, so that two labs can be up at once
  echo "lab$(printf %s "$lab" | cksum | cut -d' ' -f1)-$1"
}

prepare() { # within the new namespaces of host $1: its own folders over the machine's
  local own=$lab/$1 home
  mount --make-rprivate /
  IFS=: read -ra homes <<< "${PYTHON_HOMES:-}"
  for home in "${homes[@]}" "$lab"; do
    case $home in /root/*|/tmp/*) mkdir -p "$own$home"; mount --bind "$home" "$own$home" ;; esac
  done
  mount --bind "$lab/hosts" /etc/hosts
  mount -t tmpfs tmpfs /run && mkdir -p /run/sshd
  mount -t tmpfs -o size=2g tmpfs /dev/shm
  mount --rbind "$own/root" /root
  mount --rbind "$own/tmp" /tmp
  hostname "$1"
  export HOME=/root
  cd /root
}

within() { # runs "$@" as host $1, after `prepare`
  local name=$1
  shift
  exec ip netns exec "$(space "$name")" unshare --pid --mount --uts --fork --mount-proc --kill-child \
    bash "$script" inside "$lab" "$name" "$@"
}

script=$(readlink -f "$0")
case $verb in
  inside)
    name=$1
    shift
    prepare "$name"
    exec "$@"
    ;;
  up)
    mkdir -p "$lab"
    ssh-keygen -q -t ed25519 -N '' -f "$lab/key"
    ssh-keygen -q -t ed25519 -N '' -f "$lab/host_key"
    echo '127.0.0.1 localhost' > "$lab/hosts"
    client=$(space "$1") number=0
    for name in "$@"; do
      at=$(address $number) net=$(space "$name")
      echo "$at $name" >> "$lab/hosts"
      mkdir -p "$lab/$name/root/.ssh" "$lab/$name/tmp"
      cp "$lab/key.pub" "$lab/$name/root/.ssh/authorized_keys"
      cp "$lab/key" "$lab/$name/root/.ssh/id_ed25519"
      chmod 700 "$lab/$name/root/.ssh"
      chmod 600 "$lab/$name/root/.ssh/"*
      cp "$lab/profile" "$lab/$name/root/.bashrc" && cp "$lab/profile" "$lab/$name/root/.profile"
      ip netns add "$net"
      ip -n "$net" link set lo up
      if [ "$number" = 0 ]; then
        ip -n "$client" link add $bridge type bridge
        ip -n "$client" addr add "$at/24" dev $bridge
        ip -n "$client" link set $bridge up
      else
        ip link add "to-$name" netns "$client" type veth peer name eth0 netns "$net"
        ip -n "$client" link set "to-$name" master $bridge up
        ip -n "$net" addr add "$at/24" dev eth0
        ip -n "$net" link set eth0 up
        bash "$script" run "$lab" "$name" /usr/sbin/sshd -f /dev/null -D -e -h "$lab/host_key" \
          -o PidFile=none -o PasswordAuthentication=no -o UsePAM=no -o StrictModes=no \
          -o PermitRootLogin=prohibit-password > "$lab/$name.log" 2>&1 &
        echo $! > "$lab/$name.pid"
      fi
      number=$((number + 1))
    done
    ;;
  run)
    name=$1
    shift
    within "$name" "$@"
    ;;
  cut)
    # The namespace's first process takes all others with it; `unshare` itself shrugs signals off.
    parent=$(cat "$lab/$1.pid")
    for child in $(ps -o pid= --ppid "$parent"); do kill -9 "$child"; done
    ip -n "$(space "$1")" link set eth0 down || true
    ;;
  down)
    for file in "$lab"/*.pid; do
      [ -e "$file" ] || continue
      for child in $(ps -o pid= --ppid "$(cat "$file")"); do kill -9 "$child" || true; done
    done
    sleep 1
    while read -r _ name; do ip netns del "$(space "$name")" 2>/dev/null || true; done < <(tail -n +2 "$lab/hosts")
    ;;
esac
