export SCRATCH=${SCRATCH:-/tmp/scratch-$$}
mkdir -p "$SCRATCH"
trap 'rmdir "$SCRATCH"' EXIT
