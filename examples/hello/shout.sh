#!/bin/sh
# Print a file in upper case.
exec tr '[:lower:]' '[:upper:]' < "$1"
