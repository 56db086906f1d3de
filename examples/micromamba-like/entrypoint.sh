#!/bin/bash
# Activate the environment, then become the command.
set -e
export PATH="$MAMBA_ROOT_PREFIX/bin:$PATH"
exec "$@"
