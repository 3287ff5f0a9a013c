#!/bin/bash
# The order, the `set -e` and the file of variables of RunPod's /start.sh; its services are left out.
set -e

hook() {
    if [[ -f $1 ]]; then
        echo "Running $1"
        bash "$1"
    fi
}

hook /pre_start.sh
echo "Pod Started"
printenv | grep -E '^[A-Z_][A-Z0-9_]*=' | grep -v '^PUBLIC_KEY' |
    awk -F = '{ val = $0; sub(/^[^=]*=/, "", val); print "export " $1 "=\"" val "\"" }' >/etc/rp_environment
echo "Pod is ready to use."
hook /post_start.sh
sleep infinity
