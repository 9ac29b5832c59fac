#!/usr/bin/env bash
# The walk-through of WALKTHROUGH.md on one host: three machines are three network namespaces with a bridge between them.
# Prints each command as one would type it on that machine, and what it answered. Needs root, `ip`, curl, redis-cli and
# the three programs: `three-machines.sh DIR_OF_PROGRAMS`. Leaves nothing behind. With CERTIFICATES=1 the nodes trust
# certificates and a password instead of the network (CERTIFICATES.md); that needs openssl.
set -euo pipefail
programs="$(realpath "${1:?the directory of gramme, gramme-tune and gramme-bench}")"
root="$(mktemp -d)"
net="gw$$"
declare -A pids=()

address() { echo "10.98.0.$(($1 + 1))"; }
on() { ip netns exec "$net-$1" "${@:2}"; }

# Runs a command on a machine, printed first; `a$`, `b$` and `c$` are the three prompts.
say() {
    local machine="$1"; shift
    printf '\n%s$ %s\n' "${names[$machine]}" "$*"
    (cd "$root/$machine" && PATH="$programs:$PATH" on "$machine" "$@" 2>&1) || printf '(exit %s)\n' "$?"
}
names=(a b c)

clean() {
    for machine in "${!pids[@]}"; do kill "${pids[$machine]}" 2>/dev/null || true; done
    wait 2>/dev/null || true
    for machine in 0 1 2; do ip netns del "$net-$machine" 2>/dev/null || true; done
    ip netns del "$net-sw" 2>/dev/null || true
    rm -rf "$root"
}
trap clean EXIT

# The authority of CERTIFICATES.md, and a certificate of it: its name, and by which names the other side knows it.
certificates="${CERTIFICATES:-}"
issue() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj "/CN=$1" -addext "subjectAltName=$2" \
        -keyout "$root/$1.key" -out "$root/$1.csr"
    openssl x509 -req -in "$root/$1.csr" -CA "$root/ca.pem" -CAkey "$root/ca.key" -days 365 -copy_extensions copy \
        -out "$root/$1.pem"
}
redis=(redis-cli)
health="http://127.0.0.1:7480/health"
if [ -n "$certificates" ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 3650 -subj "/CN=our gramme" \
        -keyout "$root/ca.key" -out "$root/ca.pem" 2>/dev/null
    issue operator DNS:operator 2>/dev/null
    (umask 077; echo 'a password' > "$root/password")
    export GRAMME_TLS_CA="$root/ca.pem" GRAMME_TLS_CERT="$root/operator.pem" GRAMME_TLS_KEY="$root/operator.key"
    export REDISCLI_AUTH='a password' CURL_CA_BUNDLE="$root/ca.pem"
    redis+=(--tls --cacert ../ca.pem)
    health="https://127.0.0.1:7480/health"
fi

ip netns add "$net-sw"
ip -n "$net-sw" link add name sw0 type bridge
ip -n "$net-sw" link set sw0 up
for machine in 0 1 2; do
    ip netns add "$net-$machine"
    ip -n "$net-$machine" link add eth type veth peer name "port$machine" netns "$net-sw"
    ip -n "$net-$machine" addr add "$(address $machine)/24" dev eth
    ip -n "$net-$machine" link set eth up
    ip -n "$net-$machine" link set lo up
    ip -n "$net-sw" link set "port$machine" master sw0
    ip -n "$net-sw" link set "port$machine" up
    mkdir -p "$root/$machine/data"
    {
        echo 'data = "data"'
        echo "name = \"${names[$machine]}\""
        echo "zone = \"rack-${names[$machine]}\""
        echo "listen = \"$(address $machine):7400\""
        echo "resp = \"$(address $machine):7379\""
        [ -n "$certificates" ] || echo 'insecure = true'
        [ "$machine" = 0 ] || echo "join = [\"$(address 0):7400\"]"
        if [ -n "$certificates" ]; then
            name="${names[$machine]}"
            issue "$name" "DNS:gramme-node,IP:$(address $machine),IP:127.0.0.1" 2>/dev/null
            printf '[tls]\ncert = "../%s.pem"\nkey = "../%s.key"\nca = "../ca.pem"\n' "$name" "$name"
            printf '[auth]\npassword_file = "../password"\n'
        fi
    } > "$root/$machine/gramme.toml"
done

# Under systemd this is `systemctl start gramme`; here the node is a child, and told to be ready in the same way.
start() {
    printf '\n%s$ systemctl start gramme\n' "${names[$1]}"
    (cd "$root/$1" && exec ip netns exec "$net-$1" "$programs/gramme" serve --config gramme.toml) \
        >> "$root/$1/out" 2>> "$root/$1/err" &
    pids[$1]=$!
    for _ in $(seq 100); do
        on "$1" curl -fsS "$health" >/dev/null 2>&1 && break
        sleep 0.1
    done
    printf '%s$ journalctl -u gramme -n 1\n' "${names[$1]}"
    tail -qn 1 "$root/$1/out" "$root/$1/err"
}
stop() {
    printf '\n%s$ systemctl %s gramme\n' "${names[$1]}" "$([ "$2" = KILL ] && echo 'kill -s KILL' || echo stop)"
    kill "-$2" "${pids[$1]}"
    wait "${pids[$1]}" 2>/dev/null || true
    unset "pids[$1]"
}
# Until the cluster says what one waits for, at most half a minute.
until_says() {
    for _ in $(seq 150); do
        on 0 "$programs/gramme" cluster --node "$(address 0):7400" status 2>/dev/null | grep -q "$1" && return
        sleep 0.2
    done
}

echo '## 1. Each machine'
say 0 cat gramme.toml
say 1 cat gramme.toml
say 0 gramme-tune check --data . --only open-files,disk-scheduler,fs-options,swappiness || true
say 0 gramme-tune calibrate data --size 64 --point-ms 100 --sustained-s 1 || true

echo; echo '## 2. Start, look, commit'
start 0
start 1
start 2
until_says 'c '
say 0 gramme cluster --node "$(address 0):7400" status
say 0 gramme cluster --node "$(address 0):7400" plan
say 0 gramme cluster --node "$(address 0):7400" commit
sleep 3
say 0 gramme cluster --node "$(address 0):7400" status

echo; echo '## 3. Use it from any machine'
say 0 "${redis[@]}" -h "$(address 0)" -p 7379 set greeting hello
say 1 "${redis[@]}" -h "$(address 1)" -p 7379 get greeting
say 2 gramme get --node "$(address 2):7400" greeting --json

echo; echo '## 4. A machine dies, and comes back'
stop 1 KILL
say 0 "${redis[@]}" -h "$(address 0)" -p 7379 set greeting 'still here'
say 2 "${redis[@]}" -h "$(address 2)" -p 7379 get greeting
sleep 1
say 2 gramme cluster --node "$(address 2):7400" status
start 1
sleep 3
say 1 "${redis[@]}" -h "$(address 1)" -p 7379 get greeting

echo; echo '## 5. Upgrade, one machine after the other'
for machine in 0 1 2; do
    stop "$machine" TERM
    printf '%s$ dpkg -i gramme_NEW.deb\n' "${names[$machine]}"
    start "$machine"
    other=$(((machine + 1) % 3))
    say "$other" "${redis[@]}" -h "$(address $other)" -p 7379 get greeting
done

echo; echo '## 6. A backup of one machine'
stop 2 TERM
say 2 gramme data verify data
say 2 gramme data export data --to keys.json
say 2 wc -l keys.json
start 2
sleep 2

echo; echo '## 7. Give a machine up'
say 0 gramme cluster --node "$(address 0):7400" leave c
say 0 gramme cluster --node "$(address 0):7400" plan
say 0 gramme cluster --node "$(address 0):7400" commit
sleep 6
say 0 gramme cluster --node "$(address 0):7400" status
say 1 "${redis[@]}" -h "$(address 1)" -p 7379 get greeting
