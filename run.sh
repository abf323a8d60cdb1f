#!/usr/bin/env bash
# The evaluator's entry point: trains on $AICROWD_DATASET_NAME and leaves the representation function where it is looked for.
# The evaluator computes the scores itself. Flags are passed on: ./run.sh --gin_config gin/mpi3d_embedded.gin; without a
# gin file it is the winner of stage 1.
set -euo pipefail
NDC_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)"
export NDC_ROOT
if [ -z "${AICROWD_IS_GRADING:-}" ]; then
  # shellcheck source=environ.sh
  source "${NDC_ROOT}/environ.sh"
fi
case " $* " in
  *" --gin_config"*) ;;
  *) set -- --gin_config "${NDC_ROOT}/gin/stage1.gin" "$@" ;;
esac
if [ -n "${AICROWD_IS_GRADING:-}" ]; then
  # Nobody is there to be asked: a run that was stopped goes on, anything else is replaced. On a machine of one's own,
  # an earlier experiment is kept.
  set -- --overwrite --resume "$@"
fi
exec python "${NDC_ROOT}/train_pytorch.py" "$@"
