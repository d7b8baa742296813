#!/usr/bin/env bash
# One study on a TPU pod slice that exists for this run only: asks for spot machines, waits for them, installs this
# folder on all workers, runs, and gives the machines back, whatever happened.
#
#   TPU=v4-32 ZONE=us-central2-b OUT=gs://BUCKET/runs/mrpc launch/tpu_pod.sh configs/dodge2020/mrpc.yaml
#   DRY_RUN=1 TPU=... (as above)    prints the commands and runs none
#
# All arguments go to `jaxft run`, in the repository's folder, with --out OUT: the machines' own disks are gone with them.
# From the environment:
#
#   TPU, ZONE, OUT  as above: accelerator type, zone, run folder in a bucket
#   PROJECT=NAME    gcloud's own without it
#   NAME=NAME       of the request and its machines; made up from the time without it
#   RUNTIME=NAME    the machines' image; the usual one of the type without it
#   SPOT=           empty: not spot
#   EXTRAS=LIST     extras to install; tpu,hub without it
#   POLL=S          seconds between two looks at the request; 30 without it
#
# Exit code: that of jaxft; 3 also when the machines were taken away: the same command goes on. Until it is done:
#
#   until launch/tpu_pod.sh ...; do (($? == 3)) || break; done
set -euo pipefail
cd "$(dirname "$0")/.."

bad() {
  echo "tpu_pod.sh: $*" >&2
  exit 2
}

for name in TPU ZONE OUT; do [[ -n ${!name:-} ]] || bad "$name is not set; the head of this file says what it is"; done
[[ $OUT == gs://* ]] || bad "OUT is '$OUT': give a folder in a bucket, gs://..."
(($#)) || bad "expected a study, such as configs/dodge2020/mrpc.yaml"

case $TPU in
  v5litepod-*) usual=v2-alpha-tpuv5-lite ;;
  v5p-*) usual=v2-alpha-tpuv5 ;;
  v6e-*) usual=v2-alpha-tpuv6e ;;
  *) usual=tpu-ubuntu2204-base ;;
esac
pod=${NAME:-jaxft-$(date +%Y%m%d-%H%M%S)}
where=(--zone "$ZONE" ${PROJECT:+--project "$PROJECT"})

tpus() { # gcloud, or what it would be told
  if [[ -n ${DRY_RUN:-} ]]; then
    printf '%q ' gcloud compute tpus "$@" "${where[@]}"
    echo
  else
    gcloud compute tpus "$@" "${where[@]}"
  fi
}

state() {
  if [[ -n ${DRY_RUN:-} ]]; then echo ACTIVE; else tpus queued-resources describe "$pod" --format 'value(state.state)'; fi
}

on_all() { # workers
  tpus tpu-vm ssh "$pod" --worker all --command "$1"
}

# shellcheck disable=SC2329 # called by the trap
give_back() {
  local code=$?
  trap '' INT TERM HUP # nothing comes between
  rm -f "$archive"
  echo "tpu_pod.sh: giving $pod back" >&2
  tpus queued-resources delete "$pod" --force --quiet || {
    echo "tpu_pod.sh: $pod COULD NOT BE GIVEN BACK AND COSTS MONEY: delete it, with" \
      "gcloud compute tpus queued-resources delete $pod --force ${where[*]}" >&2
  }
  exit "$code"
}

wanted=(--accelerator-type "$TPU" --runtime-version "${RUNTIME:-$usual}")
[[ -z ${SPOT-yes} ]] || wanted+=(--spot)
trap '' INT TERM HUP # from here until it can be given back
tpus queued-resources create "$pod" --node-id "$pod" "${wanted[@]}" ||
  bad "$pod could not be asked for, and nothing was given back: see whether there is one of this name"
archive=$(mktemp)
trap give_back EXIT
trap 'exit 3' INT TERM HUP

while :; do
  now=$(state || echo UNKNOWN) # the network fails now and then
  case $now in
    ACTIVE) break ;;
    FAILED) echo "tpu_pod.sh: the request has failed; its state says why" >&2; exit 1 ;;
    SUSPENDING | SUSPENDED | DELETING) echo "tpu_pod.sh: taken away before it could be used" >&2; exit 3 ;;
  esac
  echo "tpu_pod.sh: $pod is $now"
  sleep "${POLL:-30}"
done

# What lies here but for what is made: studies, data and checkpoints of your own too.
[[ -n ${DRY_RUN:-} ]] || tar --exclude=./.git --exclude='./.venv*' --exclude=./.cache --exclude=./runs -czf "$archive" .
tpus tpu-vm scp "$archive" "$pod:jaxft.tgz" --worker all
# uv brings a Python: that of the machines may be older than 3.11.
uv="python3 -m uv"
install="$uv pip install --quiet --python .venv/bin/python --constraint constraints.txt"
on_all "mkdir -p jaxft && tar -xzf jaxft.tgz -C jaxft && cd jaxft && python3 -m pip install --quiet --user uv &&\
 $uv venv --quiet --allow-existing --python 3.12 .venv && $install --editable '.[${EXTRAS:-tpu,hub}]' gcsfs"

# In the background, so that a signal reaches this script at once: jaxft then stops in good order.
words=$(printf '%q ' "$@" --out "$OUT" --distributed auto)
on_all "cd jaxft; echo \$\$ >jaxft.pid; exec .venv/bin/jaxft run $words" &
run=$!
signalled=yes
# Its exit code is that of `run`.
trap 'signalled=yes; on_all "kill -TERM \$(cat jaxft/jaxft.pid)" || true' INT TERM HUP
while [[ -n $signalled ]]; do
  signalled='' code=0
  wait "$run" || code=$?
done

case $code in
  0 | 2 | 3) exit "$code" ;;
esac
now=$(state || echo gone)
[[ $now == ACTIVE ]] || { echo "tpu_pod.sh: $pod was taken away ($now); the same command goes on" >&2; exit 3; }
exit "$code"
