# Sourced by run.sh where there is no evaluator to set these. Change them as you like.
export AICROWD_OUTPUT_PATH="${AICROWD_OUTPUT_PATH:-${NDC_ROOT}/scratch/shared}"
export AICROWD_EVALUATION_NAME="${AICROWD_EVALUATION_NAME:-experiment_name}"
export AICROWD_DATASET_NAME="${AICROWD_DATASET_NAME:-mpi3d_embedded}"
export DISENTANGLEMENT_LIB_DATA="${DISENTANGLEMENT_LIB_DATA:-${NDC_ROOT}/scratch/dataset}"
