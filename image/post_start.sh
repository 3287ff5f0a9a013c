#!/bin/bash
# What RunPod's /start.sh runs last: the training of this pod, and then the agent.
#
# /start.sh runs under `set -e`, and a container whose main process ends is started again: this ends with 0
# whatever happens. How it went is told by the job row and the log.
set -o pipefail

LONGEST_BASE_HOOK_S=60
MOST_RERUNS=5
PAUSE_S=10

say() { echo "training-agent: $*" >&2; }

# The hook that the base image had in this place; some set things up and return, some never do.
base_hook() {
    bash /post_start.base.sh &
    for ((second = 0; second < LONGEST_BASE_HOOK_S; second++)); do
        if ! kill -0 $! 2>/dev/null; then
            wait $! || say "the base image's own hook ended with $?"
            return
        fi
        sleep 1
    done
    say "the base image's own hook goes on beside the training"
}

# Training scripts hold tokens: they stay on the container's own disk, in a folder that mktemp makes for this
# user alone, out of the log and out of the training's environment.
decode_script() {
    local folder
    if ! folder=$(mktemp -d /tmp/training-agent.XXXXXXXX); then
        say "nothing is trained: the script cannot be written to /tmp"
        return 1
    fi
    script=$folder/train.sh
    if ! printf %s "$TRAINING_SCRIPT_B64" | tr -d '[:space:]' | base64 --decode 2>/dev/null >"$script" ||
        ! [ -s "$script" ]; then
        say "nothing is trained: TRAINING_SCRIPT_B64 is not the base64 of a script"
        return 1
    fi
    chmod 700 "$script"
    unset TRAINING_SCRIPT_B64
}

killed() { [ "$1" -gt 128 ] && [ "$1" -ne 130 ] && [ "$1" -ne 143 ]; }

if [ -f /post_start.base.sh ]; then
    base_hook
fi
if [ -n "$TRAINING_AGENT_ENTRYPOINT" ]; then
    exit 0
fi

script=/workspace/train.sh
if [ -n "$TRAINING_SCRIPT_B64" ]; then
    decode_script || exit 0
elif ! [ -f "$script" ]; then
    say "nothing is trained: neither TRAINING_SCRIPT_B64 nor $script is there"
    exit 0
fi
cd /workspace 2>/dev/null || cd /

# `run` goes on where it stopped, however it ended; it does not start a training twice.
for ((rerun = 0; ; rerun++)); do
    /usr/local/bin/training-agent run -- bash "$script"
    code=$?
    if ! killed "$code" || [ "$rerun" -eq "$MOST_RERUNS" ]; then
        break
    fi
    say "the agent was killed ($code); it goes on in $PAUSE_S s"
    sleep "$PAUSE_S"
done
if [ "$code" -ne 0 ]; then
    say "run ended with $code"
fi
exit 0
