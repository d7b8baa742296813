#!/usr/bin/env bash
# One study on one machine, in one process or in several:
#
#   launch/local.sh configs/quickstart.yaml --train.lr 3.0e-5
#   PROCESSES=2 DEVICES=4 launch/local.sh configs/quickstart.yaml
#
# All arguments go to `jaxft run`. From the environment:
#
#   DEVICES=N    the first N GPUs, or N virtual devices on a CPU; all of the machine's without it
#   PROCESSES=N  deal them out to so many processes, whose lines begin with their rank; one without it
#   GRACE=S      once a process has failed, the others get SIGTERM, and S seconds later SIGKILL; 60 without it
#   PYTHON=FILE  the interpreter; that of .venv, or else python3, without it
#
# Ctrl-C or SIGTERM stops all processes in good order, however long that takes; a second one kills them. Exit code: 0
# done, 3 stopped and resumable, else that of the first process that failed (128 + N: by signal N).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

python=${PYTHON:-$root/.venv/bin/python}
[[ -n ${PYTHON:-} || -x $python ]] || python=python3

bad() {
  echo "local.sh: $*" >&2
  exit 2
}

for name in DEVICES PROCESSES GRACE; do
  value=${!name:-1}
  [[ $value =~ ^[1-9][0-9]*$ ]] || bad "$name is '$value': give a number from 1"
done
processes=${PROCESSES:-1} grace=${GRACE:-60}

if [[ -n ${DEVICES:-} ]]; then
  # An explicit choice of GPUs stands; otherwise the others are hidden, so that jax reserves no memory on them.
  export CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES-$(seq -s, 0 $((DEVICES - 1)))}
fi

if ((processes == 1)); then
  if [[ -n ${DEVICES:-} ]]; then
    export JAX_NUM_CPU_DEVICES=$DEVICES
    set -- "$@" --pool.devices "$DEVICES"
  fi
  exec "$python" -m jaxft run "$@"
fi

# Each process sees its share of the devices only, and uses all that it sees.
visible=${CUDA_VISIBLE_DEVICES-$(nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null | paste -sd, - || true)}
IFS=, read -ra gpus <<<"$visible"
devices=${DEVICES:-${#gpus[@]}}
((devices)) || devices=$(getconf _NPROCESSORS_ONLN)
((${#gpus[@]} == 0 || ${#gpus[@]} >= devices)) || bad "DEVICES is $devices, but CUDA_VISIBLE_DEVICES is '$visible'"
((devices % processes == 0)) || bad "$devices devices cannot be dealt out evenly to $processes processes; set DEVICES"
share=$((devices / processes))

free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 10000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break # nobody answers there
  done
  echo "$port"
}

prefixed() { # by a rank; it outlives Ctrl-C, to show the last lines
  trap '' INT TERM HUP
  while IFS= read -r line || [[ -n $line ]]; do printf '[%s] %s\n' "$1" "$line"; done
}

signal() { # all that still run
  local rank
  for rank in "${!pids[@]}"; do
    [[ -n ${codes[rank]-} ]] || kill -s "$1" "${pids[rank]}" 2>/dev/null || true
  done
}

# shellcheck disable=SC2329 # called by the trap
stop() { # the second time at once
  local how=${stopping:+KILL}
  stopping=yes
  signal "${how:-TERM}"
}

how() { # a code, in words
  if (($1 > 128)); then echo "signal $(($1 - 128)) ($(kill -l "$1"))"; else echo "exit code $1"; fi
}

pids=() codes=() readers=() cause='' stopping='' deadline=''
trap stop INT TERM HUP
address=127.0.0.1:$(free_port)
for ((rank = 0; rank < processes; rank++)); do
  exec 3> >(prefixed "$rank")
  readers+=("$!")
  CUDA_VISIBLE_DEVICES=$(IFS=,; echo "${gpus[*]:rank * share:share}") JAX_NUM_CPU_DEVICES=$share \
    "$python" -m jaxft run "$@" --distributed "$address" --processes "$processes" --process "$rank" >&3 2>&1 3>&- &
  pids+=("$!")
  exec 3>&-
done
[[ -z $stopping ]] || signal TERM # one came in between

exec 4>&2 2>/dev/null # bash has words of its own for who is killed
while ((${#codes[@]} < processes)); do
  for rank in "${!pids[@]}"; do
    [[ -z ${codes[rank]-} ]] || continue
    ! kill -0 "${pids[rank]}" 2>/dev/null || continue
    code=0
    wait "${pids[rank]}" || code=$?
    codes[rank]=$code
    # Asked to stop, 3 is in order, and so is to end by the signal itself before jaxft was there to catch it.
    if ((code == 0)) || { [[ -n $stopping ]] && ((code == 3 || code == 143)); }; then continue; fi
    # Of some that ended together, those with 3 have only missed the other.
    if [[ -z $cause ]] || { [[ -z $deadline ]] && ((codes[cause] == 3)); }; then cause=$rank; fi
  done
  if [[ -n $cause && -z $deadline ]]; then
    deadline=$((SECONDS + grace))
    echo "local.sh: rank $cause ended: $(how "${codes[cause]}"); the others get SIGTERM, and SIGKILL in $grace s" >&4
    signal TERM
  fi
  if [[ -n $deadline ]] && ((SECONDS > deadline)); then signal KILL; fi # whole seconds: not one too early
  sleep 0.1 || true # which Ctrl-C ends too
done
exec 2>&4

for reader in "${readers[@]}"; do # their last lines, unless something else still holds the other end
  for _ in {1..20}; do ! kill -0 "$reader" 2>/dev/null || sleep 0.1; done
done

again=''
for name in DEVICES PROCESSES GRACE PYTHON; do [[ -z ${!name:-} ]] || again+="$name=$(printf %q "${!name}") "; done
for word in "$0" "$@"; do # what was set down now is to be taken up
  [[ $word == --fresh ]] || again+=$(printf '%q ' "$word")
done
result=0
[[ -z $stopping || ${codes[*]} =~ ^[0\ ]*$ ]] || result=3
[[ -z $cause ]] || result=${codes[cause]}
if ((result)); then
  for rank in "${!codes[@]}"; do echo "local.sh: rank $rank: $(how "${codes[rank]}")" >&2; done
  echo "local.sh: finished trials are kept; go on with: $again" >&2
fi
exit "$result"
