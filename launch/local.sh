#!/usr/bin/env bash
# One study on one machine, in one process:
#
#   launch/local.sh configs/quickstart.yaml --train.lr 3.0e-5
#
# All arguments go to `jaxft run`. DEVICES=N uses the first N GPUs, or N virtual devices on a CPU; all of the
# machine's without it. PYTHON names the interpreter; that of .venv, or else python3, without it.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

python=${PYTHON:-$root/.venv/bin/python}
[[ -n ${PYTHON:-} || -x $python ]] || python=python3

if [[ -n ${DEVICES:-} ]]; then
  if [[ ! $DEVICES =~ ^[1-9][0-9]*$ ]]; then
    echo "DEVICES is '$DEVICES': give a number from 1" >&2
    exit 2
  fi
  # An explicit choice of GPUs stands; otherwise the others are hidden, so that jax reserves no memory on them.
  export CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES-$(seq -s, 0 $((DEVICES - 1)))}
  export JAX_NUM_CPU_DEVICES=$DEVICES
  set -- "$@" --pool.devices "$DEVICES"
fi

exec "$python" -m jaxft run "$@"
